"""The command line and run folders: what a run's figures look like on a terminal, the list, the
purge, and what the verbs hand on.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from ehrmind.cli import main
from ehrmind.cli.tables import show_results
from ehrmind.config import load_recipe
from ehrmind.runs import Run, open_run
from ehrmind.runs.records import Diagnosis, Plan, Results
from ehrmind.stages.pipeline import STAGES

RECIPE = {
    "name": "small",
    "data": {"train": {"synthetic": {"n": 5}}, "held_out": {"synthetic": {"n": 5, "seed": 1}}},
    "model": {"tiny": {}},
}
PILOT = {
    "questions": 2, "answers": 8, "correct": 0, "pass@1": 0.0, "pass@1_ci95": [0.0, 0.3], "pass@k": 0.0, "pass@k_ci95": [0.0, 0.6],
    "format_rate": 0.5, "truncated": 0.0, "reliable@k": 0.0, "reliable@k_ci95": [0.0, 0.6], "curve": [], "chance": 0.0, "needed": 2,
    "unsettled": {"questions": 2, "pass@1": 0.0, "chance": 0.0}, "entropy": 0.0,
}  # fmt: skip
ARM = {
    "n": 600, "correct": 300, "accuracy": 0.5, "ci95": [0.46, 0.54], "groups": 600, "interval": "wilson", "unparsed": 7,
    "cost": {"tokens": 1, "prompt_tokens": 1}, "by_stratum": {},
}  # fmt: skip

DATA = {
    "sources": {},
    "proven": {"cases": 10, "corruptions": 0},
    "digest": "0",
    "cases": {},
    "train_notes_also_held_out_dropped": 0,
}
PROVENANCE = {
    "recipe_digest": "f", "seed": 0, "data": DATA, "model": {"name": "tiny", "revision": None, "sha256": {}}, "versions": {},
    "platform": "x86_64", "date": "2026-01-02",
}  # fmt: skip


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    with mock.patch.dict("os.environ"):
        yield


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture
def finished(tmp_path: Path, recipe: Path) -> Run:
    """A run folder with the figures of a run and something to protect, made without running
    anything."""
    run = open_run(tmp_path / "runs" / "a", load_recipe(recipe), resume=False)
    by_stratum = {
        "medcalc/lab/known": PILOT | {"kind": "misapplied"},
        "medcalc/risk/lacking": PILOT | {"kind": "missing"},
    }
    found = {"samples": 4, "by_stratum": by_stratum, "overall": PILOT}
    run.write_json("pilot.json", Diagnosis.model_validate(found).to_dict())
    pairs = {"sft-base": {"difference": 0.125, "ci95": [0.1, 0.15], "p": 1e-9, "interval": "newcombe"}}
    about = {"decoding": "greedy", "scorer": "ehrmind", "held_out_scorings": [], "seconds": {}}
    results = {"schema_version": 1, "arms": {"base": ARM, "sft": ARM}, "pairs": pairs, **about}
    run.write_json("results.json", Results.model_validate(results).to_dict())
    run.put("protected/cases/train.parquet", b"record text" * 100_000)
    return run


def run_command(arguments: Sequence[object]) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "stages", "resume", "arms"),
    [
        (["run"], None, False, 4),
        (["run", "--resume"], None, True, 4),
        (["pilot"], ("pilot",), False, 4),
        (["evaluate"], ("evaluate",), False, 1),
    ],
)
def test_a_verb_hands_the_recipe_and_its_stages_to_the_pipeline(
    arguments: list[str],
    stages: tuple[str, ...] | None,
    resume: bool,
    arms: int,
    recipe: Path,
    finished: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        "ehrmind.stages.seeds.run_seeds", lambda *given, **named: seen.update(given=given, **named) or finished
    )
    verb, *options = arguments
    monkeypatch.setattr("ehrmind.report.write_report", lambda folder: [folder / "report.html"])
    assert run_command([verb, recipe, "--out", "somewhere", "rlvr.steps=7", *options]) == 0
    given_recipe, out = seen["given"]
    assert (given_recipe.rlvr.steps, out, seen["stages"], seen["resume"]) == (7, Path("somewhere"), stages, resume)
    assert len(given_recipe.arms) == arms


@pytest.mark.parametrize(
    ("stored", "stages"),
    [
        ({}, None),  # a folder of 0.1.0
        ({"stages": STAGES}, None),
        ({"stages": ["pilot"]}, ("pilot",)),
        ({"stages": ["evaluate"]}, ("evaluate",)),
    ],
)
def test_a_run_goes_on_from_its_folder_alone(
    stored: dict[str, Any],
    stages: tuple[str, ...] | None,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    begun = open_run(tmp_path / "begun", load_recipe(recipe, ["rlvr.steps=7", "data.online=true"]), resume=False)
    begun.write_json("provenance.json", PROVENANCE | stored)
    recipe.unlink()
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        "ehrmind.stages.seeds.run_seeds", lambda *given, **named: seen.update(given=given, **named) or begun
    )
    monkeypatch.setattr("ehrmind.report.write_report", lambda folder: [folder / "report.html"])
    assert run_command(["resume", begun.path]) == 0
    given_recipe, out = seen["given"]
    assert (given_recipe.rlvr.steps, out, seen["stages"], seen["resume"]) == (7, begun.path, stages, True)
    assert not given_recipe.data.online  # who agreed to a download agreed for that command


def test_a_model_that_is_scored_alone_is_called_by_its_name(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finished.write_json("provenance.json", PROVENANCE)
    show_results(finished)
    assert "base" in capsys.readouterr().out  # there are other arms
    results = finished.read_json("results.json") | {"arms": {"base": ARM}, "pairs": {}}
    results["transfer"] = {"elsewhere": {"arms": {"base": ARM}, "pairs": {}}}
    finished.write_json("results.json", results)
    show_results(finished)
    said = capsys.readouterr().out
    assert "base" not in said and said.count("tiny") == 2


def test_a_folder_that_is_no_run_cannot_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert run_command(["resume", folder]) == 2
    assert "is no run folder" in capsys.readouterr().err and not list(folder.iterdir())


@pytest.mark.parametrize("manifest", [True, False])
def test_a_run_that_has_not_opened_its_model_says_how_to_go_on(
    manifest: bool, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = open_run(tmp_path / "begun", load_recipe(recipe), resume=False)
    if not manifest:  # a kill in the first moment
        begun.manifest.file.unlink()
    assert run_command(["resume", begun.path]) == 2
    assert "was stopped before its model was opened; give the command that made it" in capsys.readouterr().err


def test_a_run_ends_with_its_figures_on_the_terminal(
    recipe: Path, finished: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ehrmind.stages.seeds.run_seeds", lambda *_, **__: finished)
    monkeypatch.setattr("ehrmind.report.write_report", lambda folder: [folder / "report.html"])
    assert run_command(["run", recipe, "--out", "somewhere"]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert rows["medcalc/risk/lacking"].rstrip().endswith("missing") and "misapplied" in rows["medcalc/lab/known"]
    assert "RLVR alone has nothing to reinforce" in said
    assert "50.0%" in rows["base"] and "46.0 to 54.0" in rows["base"]
    assert "sft − base" in said and "+12.5" in said
    assert "page: somewhere/report.html" in said


def test_a_pilot_ends_with_its_plan_and_the_command_that_follows(
    recipe: Path, finished: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished.remove("results.json")
    warm_up = {"strata": ["a"], "traces": "source", "rehearsal": 1.0, "rehearse": "own"}
    plan = {"warm_up": {**warm_up, "traces_per_stratum": {"a": 1200}}, "arms": ["base", "sft"]}
    rest = {"without_worked_answers": [], "because": ["Nothing is known."], "expected": {"rlvr": {}}}
    finished.write_json("plan.json", Plan.model_validate({**plan, **rest}).to_dict())
    monkeypatch.setattr("ehrmind.stages.seeds.run_seeds", lambda *_, **__: finished)
    monkeypatch.setattr("ehrmind.report.write_report", lambda folder: [folder / "report.html"])
    assert run_command(["pilot", recipe, "--out", "some where", "rlvr.steps=7"]) == 0
    said = capsys.readouterr().out
    assert "plan: Nothing is known." in said and "1,200 worked answers (source) in 1 strata, then RLVR" in said
    assert "page: some where/report.html\n" in said
    assert said.endswith(f"Next: ehrmind run {recipe} --out 'some where' --resume rlvr.steps=7\n")


def test_runs_are_listed_with_how_far_they_came(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["runs", "list", finished.path.parent]) == 0
    said = capsys.readouterr().out
    assert "small" in said and "finished" in said and "1.0 MiB" in said
    assert run_command(["runs", "list", tmp_path / "absent"]) == 2


def test_a_purge_asks_first_and_then_leaves_only_figures(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run_command(["runs", "purge", finished.path]) == 130, "nobody answered"
    assert "nothing was done" in capsys.readouterr().err
    assert (finished.protected / "cases" / "train.parquet").is_file()
    assert run_command(["runs", "purge", finished.path, "--yes"]) == 0
    assert not any(path.is_file() for path in finished.protected.rglob("*"))
    assert (finished.path / "results.json").is_file()
    assert run_command(["runs", "purge", tmp_path, "--yes"]) == 2, "not a run folder"
