"""A bit that flips in any file of a run folder is named before anything is computed from it, and
the run goes on to the same results.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.runs.verifying import verify
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError
from tests.evaluated_run import plan, recipe

CHOSEN = recipe(
    arms=["base", "sft", "rlvr", "sft_rlvr"],
    warmup={"strata": "all", "epochs": 1, "batch": 4, "checkpoint_every": 2},
    rlvr={"steps": 5, "questions_per_step": 4, "samples": 4, "tuning_every": 2, "checkpoint_every": 2},
)


def go(out: Path, *, resume: bool = True, engine: type[ScriptedEngine] = ScriptedEngine) -> Run:
    base = out.parent / "base"
    ScriptedEngine(plan).save(base)
    done = run_pipeline(
        CHOSEN, out, resume=resume, open_engine=lambda _, folder: engine.load(folder, plan), locate=lambda _: base
    )
    write_report(out)
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(tmp_path_factory.mktemp("finished") / "run", resume=False).path


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed in the last RLVR stage, in a step behind two checkpoints."""
    out, calls = tmp_path_factory.mktemp("unfinished") / "run", iter(range(10_000))

    class Killed(ScriptedEngine):
        def sample(self, *given: Any) -> Any:
            if (out / "protected/checkpoints/rlvr-sft_rlvr/step-000004").exists() and next(calls) == 0:
                raise KeyboardInterrupt
            return super().sample(*given)

    with pytest.raises(KeyboardInterrupt):
        go(out, resume=False, engine=Killed)
    assert (out / "stages/rlvr-rlvr.json").is_file() and not (out / "results.json").exists()
    return out


def outcome(run: Path) -> dict[str, Any]:
    """Everything that a run computes: figures without times, every artefact that holds no time by
    its digest."""
    results = json.loads((run / "results.json").read_text())
    results.pop("seconds")
    for arm in results["arms"].values():
        arm["cost"].pop("seconds")
    results["held_out_scorings"] = sorted(
        {(one["arm"], one["decoding"]) for one in results["held_out_scorings"]}
    )  # again is counted
    names = Run(run).manifest.read().files
    return {
        "results": results,
        **{name: names[name].sha256 for name in names if name.startswith("protected/") or name == "pilot.json"},
    }


def flip(run: Path, draw: random.Random) -> str:
    """Flips one bit of a file; its name."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    chosen = draw.choice(files)
    content = bytearray(chosen.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    chosen.write_bytes(bytes(content))
    return chosen.relative_to(run).as_posix()


def named_by_verify(run: Path, name: str) -> bool:
    try:
        return any(fault.name.split(", line")[0] == name for fault in verify(run))
    except InputError as error:
        return name == "manifest.json" and name in str(error)


def check_a_flip(whole: Path, finished: Path, copy: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(whole, copy)
    name = flip(copy, random.Random(f"flip:{seed}"))
    assert named_by_verify(copy, name), name
    capsys.readouterr()
    try:
        go(copy)
        told = capsys.readouterr().err
    except InputError as error:
        told, advised = str(error), re.search(r"or remove (\S+\.json)", str(error))
        if advised:
            Path(advised[1]).unlink()
            go(copy)
    assert name in told.replace("\\", "/"), (name, told)
    if (
        (copy / "results.json").exists()
        and name in told
        and "restore" not in told.replace("restore it from a copy, or remove", "")
    ):
        assert outcome(copy) == outcome(finished), name


@pytest.mark.parametrize("seed", range(6))
def test_a_flip_in_a_finished_run_is_named_and_the_results_are_the_same(
    seed: int, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_a_flip(finished, finished, tmp_path / "run", seed, capsys)


@pytest.mark.parametrize("seed", range(3))
def test_a_flip_in_an_unfinished_run_is_named_and_the_results_are_the_same(
    seed: int, unfinished: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_a_flip(unfinished, finished, tmp_path / "run", 1000 + seed, capsys)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 100))
def test_a_hundred_flips_are_named(
    seed: int, unfinished: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_a_flip(finished, finished, tmp_path / "finished", seed, capsys)
    check_a_flip(unfinished, finished, tmp_path / "unfinished", 1000 + seed, capsys)


def test_every_file_of_a_run_is_proven(finished: Path, tmp_path: Path) -> None:
    """No file is left out: one flip in each of them is found by `runs verify`."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert not list(verify(run))
    for path in sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size):
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
        assert named_by_verify(run, path.relative_to(run).as_posix()), path
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "stage", ["pilot", "warmup", "rlvr-rlvr", "rlvr-sft_rlvr", "evaluate-sft-greedy", "contamination", "baselines"]
)
def test_a_stage_whose_mark_is_removed_is_done_again_with_the_same_results(
    stage: str, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "stages" / f"{stage}.json").unlink()
    go(run)
    assert outcome(run) == outcome(finished) and not list(verify(run))


def test_a_stage_whose_best_model_never_arrived_starts_again(
    unfinished: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store may have the checkpoint and not yet the model that it counts on."""
    run = tmp_path / "run"
    shutil.copytree(unfinished, run)
    Run(run).remove("protected/models/sft_rlvr")
    go(run)
    assert "the stage rlvr-sft_rlvr starts again" in capsys.readouterr().err and outcome(run) == outcome(finished)
