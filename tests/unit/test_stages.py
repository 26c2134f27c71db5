"""The pipeline over a scripted engine: what a run folder holds, what resuming and refusing do."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import gold_response
from ehrmind.report import write_report
from ehrmind.report.review.sheet import export_review
from ehrmind.runs import Run
from ehrmind.runs.index import list_runs
from ehrmind.runs.purge import purge
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.tracking import write_tensorboard
from ehrmind.types import InputError, Prompt
from tests.medcalc_cases import SHORT
from tests.stored import store

HIDDEN = "maintenance"


def recipe(**changes: object) -> Recipe:
    tree: dict[str, object] = {
        "data": {
            "train": {"synthetic": {"n": 70, "seed": 1, **SHORT}},
            "tuning": {"synthetic": {"n": 14, "seed": 2, **SHORT}},
            "held_out": {"synthetic": {"n": 35, "seed": 3, **SHORT}},
        },
        "model": {"name": "scripted"},
        "pilot": {"questions": 21, "samples": 4, "interventions": 0},
        "warmup": {"strata": "missing", "epochs": 1},
        "rlvr": {"steps": 4, "questions_per_step": 6, "samples": 4, "tuning_every": 2, "checkpoint_every": 1},
    }
    return parse_recipe({**tree, **changes})


def plan(prompt: str, key: int, member: int, skill: int) -> str:
    """Right about weights from the third step on; before that one in two members; never on blood
    pressure."""
    weight = re.search(r"weight ([\d.]+) kg", prompt)
    if HIDDEN not in prompt or weight is None:
        return '<think>guess</think>\n<answer>{"answer": -7}</answer>'
    kilograms = float(weight.group(1))
    fluids = 4 * kilograms if kilograms <= 10 else 20 + 2 * kilograms if kilograms <= 20 else 40 + kilograms
    value = round(fluids, 1) if skill >= 3 or member % 2 else -7
    return f'<think>sum</think>\n<answer>{{"answer": {value}}}</answer>'


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    ScriptedEngine(plan).save(folder)
    return folder


def run(out: Path, chosen: Recipe, **options: object) -> Run:
    return run_pipeline(
        chosen,
        out,
        open_engine=lambda _, folder: ScriptedEngine.load(folder, plan),
        locate=lambda _: out.parent / "base",
        **options,
    )  # type: ignore[arg-type]


def watching() -> tuple[list[str], Any]:
    """Returns what will be learned from, in its order, and how to open an engine that notes it."""
    learnt: list[str] = []

    class Watched(ScriptedEngine):
        def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
            learnt.append(text)
            return super().response_tokens(text, prompt, own=own)

    return learnt, lambda _, folder: Watched.load(folder, plan)


def test_a_run_leaves_results_for_every_arm_and_pair(base: Path, tmp_path: Path) -> None:
    results = json.loads((run(tmp_path / "run", recipe()).path / "results.json").read_text())
    assert set(results["arms"]) == {"base", "rlvr", "sft", "sft_rlvr"}
    assert {"difference", "ci95", "interval", "p", "p_holm", "p_bh"} == set(results["pairs"]["sft_rlvr-sft"])
    assert results["arms"]["base"]["n"] == 35
    assert results["arms"]["rlvr"]["correct"] > results["arms"]["base"]["correct"]
    assert len(results["held_out_scorings"]) == 8  # four arms, two decodings, each once


def test_the_pilot_names_strata_without_a_right_answer_and_the_warm_up_follows_it(base: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", recipe())
    pilot = json.loads((done.path / "pilot.json").read_text())["by_stratum"]
    assert pilot["medcalc/physical/maintenance-fluids"]["kind"] == "misapplied"
    assert pilot["medcalc/dosage/morphine-equivalents"]["kind"] == "missing"
    assert "medcalc/physical/maintenance-fluids" not in (done.done("warmup") or {})["by_stratum"]


def test_a_run_goes_on_under_a_version_that_knows_more_keys(base: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", recipe(arms=["base"]))
    stored = done.path / "recipe.yaml"
    store(stored, stored.read_text().replace("  rehearse: own\n", ""))
    assert "rehearse:" not in stored.read_text()
    run(tmp_path / "run", recipe(arms=["base"]), resume=True)
    with pytest.raises(InputError, match=r"warmup\.rehearse"):
        run(
            tmp_path / "run",
            recipe(arms=["base"], warmup={"strata": "missing", "epochs": 1, "rehearse": "worked"}),
            resume=True,
        )


def test_rehearsal_learns_the_models_own_answers_of_the_other_strata_again(base: Path, tmp_path: Path) -> None:
    chosen = recipe(arms=["sft"], warmup={"strata": "missing", "rehearsal": 0.1, "epochs": 1})
    learnt, watched = watching()
    done = run_pipeline(chosen, tmp_path / "run", open_engine=watched, locate=lambda _: base)
    counts = done.done("warmup") or {}
    pilot = (
        done.read_rollouts("pilot").filter(pl.col("stratum") == "medcalc/physical/maintenance-fluids")["text"].to_list()
    )
    assert (
        counts["rehearsed"] == round(0.1 * counts["traces"]) > 0
        and len(learnt) == counts["traces"] + counts["rehearsed"]
    )
    assert set(learnt[counts["traces"] :]) <= set(pilot)


def test_rehearsal_may_learn_worked_answers_of_the_other_strata_as_evenly_as_they_are_there(
    base: Path, tmp_path: Path
) -> None:
    chosen = recipe(arms=["sft"], warmup={"strata": "missing", "rehearsal": 0.2, "rehearse": "worked", "epochs": 1})
    learnt, watched = watching()
    done = run_pipeline(chosen, tmp_path / "run", open_engine=watched, locate=lambda _: base)
    counts, train = done.done("warmup") or {}, done.load_cases()["train"]
    missing = set(counts["by_stratum"])
    others = {gold_response(case) for case in train if case.stratum not in missing}
    assert counts["rehearsed"] == len(learnt) - counts["traces"] == round(0.2 * counts["traces"]) > 0
    assert set(learnt[counts["traces"] :]) <= others


def test_the_warm_up_learns_from_the_calculators_steps_where_the_recipe_asks_for_them(
    base: Path, tmp_path: Path
) -> None:
    learnt, watched = watching()
    chosen = recipe(arms=["sft"], warmup={"strata": "all", "traces": "calculators", "epochs": 1})
    done = run_pipeline(chosen, tmp_path / "run", open_engine=watched, locate=lambda _: base)
    cases = {case.id: case for case in done.load_cases()["train"]}
    assert (done.done("warmup") or {})["traces"] == len(learnt) == len(cases)
    assert (
        sum("So the answer is" in text for text in learnt) > 20
    )  # prose, lists and formulas, where the data's own are jottings
    assert sum("<think>1. " in text for text in learnt) > 5
    assert not any("So the answer is" in (case.rationale or "") for case in cases.values())


def test_the_warm_up_learns_each_right_answer_of_the_pilot_once_where_the_recipe_asks_for_them(
    base: Path, tmp_path: Path
) -> None:
    learnt, watched = watching()
    chosen = recipe(arms=["sft"], warmup={"strata": "all", "traces": "pilot", "epochs": 1})
    done = run_pipeline(chosen, tmp_path / "run", open_engine=watched, locate=lambda _: base)
    right = done.read_rollouts("pilot").filter(correct=True).select("case", "text")
    assert 0 < right.unique().height < right.height, "some right answer was given twice"
    assert sorted(learnt) == sorted(right.unique()["text"].to_list())


@pytest.mark.parametrize("setting", ["rehearsal", "traces"])
def test_learning_from_the_pilot_without_one_is_refused(base: Path, tmp_path: Path, setting: str) -> None:
    chosen = recipe(
        warmup={
            "strata": ["medcalc/physical/maintenance-fluids"],
            setting: {"rehearsal": 1.0, "traces": "pilot"}[setting],
        }
    )
    with pytest.raises(InputError, match=rf"warmup\.{setting}.* no pilot"):
        run(tmp_path / "run", chosen, stages=("warmup",))


def test_every_rollout_stands_once_with_its_verdict(base: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", recipe())
    rows = pl.read_parquet(done.rollouts / "*.parquet")
    columns = {"step", "arm", "stage", "case", "stratum", "member", "text", "reward"}
    columns |= {"parts", "correct", "reason", "advantage", "tokens", "finish_reason"}
    assert columns <= set(rows.columns)
    assert rows.select(pl.struct("stage", "step", "case", "member").n_unique()).item() == rows.height
    assert rows.filter(pl.col("stage") == "rlvr-rlvr").height == 4 * 6 * 4


def test_what_a_limit_leaves_out_is_counted(base: Path, tmp_path: Path) -> None:
    synthetic = {"synthetic": {"n": 35, "seed": 1, **SHORT}, "limit": 30}
    data = {
        "train": synthetic,
        "tuning": {"share_of_train": 0.5, "limit": 5},
        "held_out": {"synthetic": {"n": 10, "seed": 3, **SHORT}},
    }
    counts = (run(tmp_path / "run", recipe(data=data), stages=("pilot",)).done("data") or {})["sources"]
    assert (
        counts["train"]["left_out_by_limit"] == 5
        and counts["held_out"]["cases"] == 10
        and "left_out_by_limit" not in counts["held_out"]
    )
    assert counts["tuning"]["cases"] == 5 and counts["tuning"]["left_out_by_limit"] == 10


def test_a_run_folder_is_never_used_twice(base: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", recipe())
    with pytest.raises(InputError, match="--resume"):
        run(tmp_path / "run", recipe())
    with pytest.raises(InputError, match=r"rlvr\.steps"):
        run(tmp_path / "run", recipe(rlvr={"steps": 5}), resume=True)


def test_other_workers_may_go_on_with_a_run(base: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", recipe(shards=2, cluster={"workers": 2}), stages=("pilot",))
    assert (run(tmp_path / "run", recipe(shards=2), resume=True).path / "results.json").is_file()
    with pytest.raises(InputError, match="differ: shards"):
        run(tmp_path / "run", recipe(), resume=True)


def test_a_run_is_not_resumed_on_other_weights_of_the_same_name(base: Path, tmp_path: Path) -> None:
    (base / "model.safetensors").write_bytes(b"some weights")
    run(tmp_path / "run", recipe(), stages=("pilot",))
    (base / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(InputError, match=r"in scripted \(model\.safetensors\); .* another --out"):
        run(tmp_path / "run", recipe(), resume=True)
    (base / "model.safetensors").write_bytes(b"some weights")
    assert (run(tmp_path / "run", recipe(), resume=True).path / "results.json").is_file()


def test_resuming_a_finished_run_scores_nothing_again(base: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", recipe())
    before = (tmp_path / "run" / "results.json").read_bytes()
    done = run(tmp_path / "run", recipe(), resume=True)
    assert len(done.scorings()) == 8
    assert (tmp_path / "run" / "results.json").read_bytes() == before
    (tmp_path / "run" / "results.json").write_bytes(before[:40])  # torn by something else than us
    run(tmp_path / "run", recipe(), resume=True)
    assert (tmp_path / "run" / "results.json").read_bytes() == before


@pytest.mark.parametrize("failing_call", [3, 9, 14, 18])
def test_a_run_that_breaks_anywhere_resumes_to_the_same_results(base: Path, tmp_path: Path, failing_call: int) -> None:
    whole = run(tmp_path / "whole", recipe())
    calls = 0

    class Broken(ScriptedEngine):
        def sample(self, *arguments: object) -> object:  # type: ignore[override]
            nonlocal calls
            calls += 1
            if calls == failing_call:
                raise RuntimeError("power cut")
            return super().sample(*arguments)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="power cut"):
        run_pipeline(
            recipe(),
            tmp_path / "run",
            open_engine=lambda _, folder: Broken.load(folder, plan),
            locate=lambda _: tmp_path / "base",
        )
    again = run(tmp_path / "run", recipe(), resume=True)
    ours, theirs = (json.loads((folder.path / "results.json").read_text()) for folder in (again, whole))
    for results in (ours, theirs):
        for row in results["arms"].values():
            del row["cost"]["seconds"]
    assert ours["arms"] == theirs["arms"]
    rows, expected = (pl.read_parquet(folder.rollouts / "*.parquet").height for folder in (again, whole))
    assert rows == expected
    steps = [json.loads(line) for line in (again.path / "metrics.jsonl").read_text().splitlines()]
    assert len({(row["stage"], row["step"]) for row in steps}) == len(steps)


def test_an_interrupted_pilot_and_evaluation_go_on_after_their_last_whole_batch(base: Path, tmp_path: Path) -> None:
    chosen = recipe(
        arms=["base"], sampler_rows=28
    )  # three batches of pilot questions, two of held-out cases for each decoding
    whole = run(tmp_path / "whole", chosen)
    asked: list[int] = []

    class Interrupted(ScriptedEngine):
        def sample(self, prompts: list[Prompt], *arguments: object) -> object:  # type: ignore[override]
            asked.append(len(prompts))
            if len(asked) in (2, 6):
                raise KeyboardInterrupt
            return super().sample(prompts, *arguments)  # type: ignore[arg-type]

    for attempt in range(3):
        try:
            run_pipeline(
                chosen,
                tmp_path / "run",
                resume=attempt > 0,
                open_engine=lambda _, folder: Interrupted.load(folder, plan),
                locate=lambda _: tmp_path / "base",
            )
        except KeyboardInterrupt:
            assert attempt < 2
    assert asked == [7, 7, 7, 7, 28, 7, 7, 28, 7]  # only the interrupted batches were asked twice
    for stage in ("pilot", "evaluate-base-greedy", "evaluate-base-sampled"):
        assert Run(tmp_path / "run").read_rollouts(stage).equals(whole.read_rollouts(stage))
    assert len(Run(tmp_path / "run").scorings()) == 2


def test_all_equal_groups_make_room_for_fresh_questions_when_the_recipe_refills(base: Path, tmp_path: Path) -> None:
    settings = {"steps": 2, "questions_per_step": 6, "samples": 4, "tuning_every": 2, "checkpoint_every": 1}
    plain = run(tmp_path / "plain", recipe(arms=["rlvr"], rlvr=settings))
    resampled = run(tmp_path / "resampled", recipe(arms=["rlvr"], rlvr={**settings, "dynamic_sampling": 5}))
    counts = [
        json.loads(line)["all_equal_groups"]
        for folder in (plain, resampled)
        for line in (folder.path / "metrics.jsonl").read_text().splitlines()
        if json.loads(line)["stage"] == "rlvr-rlvr"
    ]
    assert sum(counts[2:]) < sum(counts[:2])


def test_tensorboard_gets_the_curves_on_request(base: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = run(tmp_path / "run", recipe(arms=["rlvr"], tracking={"tensorboard": True}))
    events = EventAccumulator(str(done.path / "tensorboard" / "rlvr-rlvr")).Reload()
    assert [event.step for event in events.Scalars("reward")] == [0, 1, 2, 3]
    assert events.Tags()["scalars"] and {"arm", "step", "time"}.isdisjoint(events.Tags()["scalars"])
    files = sorted(path for path in (done.path / "tensorboard").rglob("*") if path.is_file())
    assert {path.name for path in files} == {"events.out.tfevents.ehrmind"} and len(files) == len(
        {path.parent for path in files}
    )
    before = [path.read_bytes() for path in files]
    write_tensorboard(done)
    assert [path.read_bytes() for path in files] == before, "the same metrics are the same bytes"
    assert done.manifest.holds(f"tensorboard/rlvr-rlvr/{files[0].name}")


def test_nothing_outside_protected_names_the_machine_or_the_person(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("canary-host", "canary-user", "canary-home")
    monkeypatch.setattr(socket, "gethostname", lambda: names[0])
    monkeypatch.setattr(socket, "getfqdn", lambda *_: names[0])
    monkeypatch.setattr("platform.node", lambda: names[0])
    for variable, name in (("USER", names[1]), ("LOGNAME", names[1]), ("HOSTNAME", names[0]), ("HOME", f"/{names[2]}")):
        monkeypatch.setenv(variable, name)
    real = os.uname().nodename
    done = run(tmp_path / "run", recipe(tracking={"tensorboard": True}))
    write_report(done.path)
    export_review(done.path, n=5)
    shareable = [
        file for file in done.path.rglob("*") if file.is_file() and "protected" not in file.relative_to(done.path).parts
    ]
    assert len(shareable) > 20
    for file in shareable:
        content = f"{file.relative_to(done.path)}\n".encode() + file.read_bytes()
        for name in (*names, *([real] if len(real) > 5 else [])):
            assert name.encode() not in content, file


def test_only_protected_holds_record_text_and_purge_removes_it(base: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", recipe())
    shareable = [file for file in done.path.rglob("*") if file.is_file() and "protected" not in file.parts]
    assert shareable and not any(b"year old" in file.read_bytes() for file in shareable)
    assert done.protected.stat().st_mode & 0o077 == 0
    assert [summary.finished for summary in list_runs(tmp_path)] == [True]
    assert purge(done.path) > 0
    assert not done.protected.exists() and (done.path / "results.json").is_file()
    with pytest.raises(InputError, match="was purged"):
        run(tmp_path / "run", recipe(), resume=True)


def test_a_prompt_over_the_limit_is_refused_by_name_or_scored_as_wrong(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prompts\.too_long=leave_out"):
        run(tmp_path / "refused", recipe(prompts={"max_tokens": 340}))
    left_out = run(
        tmp_path / "left", recipe(arms=["base"], warmup={}, prompts={"max_tokens": 400, "too_long": "leave_out"})
    )
    assert json.loads((left_out.path / "results.json").read_text())["arms"]["base"]["n"] == 35
    reasons = left_out.read_rollouts("evaluate-base-greedy")["reason"].to_list()
    assert "prompt too long" in reasons
