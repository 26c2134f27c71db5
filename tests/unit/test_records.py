"""The types of what a run folder stores: JSON goes through them unchanged, and what does not fit is
refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import ARMS, VARIANTS
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.files import json_bytes
from ehrmind.runs import Run
from ehrmind.runs.records import (
    DataFacts,
    Diagnosis,
    Gains,
    Mark,
    Plan,
    Provenance,
    Record,
    Results,
    RlvrMark,
    RolloutRow,
    ScoringMark,
    SeedsMark,
    StageKey,
    StepMetrics,
    WarmupMark,
    rollout_frame,
    rows_of,
)
from ehrmind.stages.seeds import run_seeds
from ehrmind.types import InputError
from tests import evaluated_run
from tests.rollouts import rollout_row

FILES: dict[str, type[Record]] = {
    "results.json": Results,
    "pilot.json": Diagnosis,
    "plan.json": Plan,
    "gains.json": Gains,
    "provenance.json": Provenance,
}
MARKS: dict[str, type[Record]] = {"warmup": WarmupMark, "rlvr": RlvrMark, "seeds": SeedsMark, "contamination": Mark}


def finished(folder: Path, **changes: Any) -> Run:
    evaluate = {"decodings": ["greedy", "sampled"], "repeats": 2, "general": {"n": 20}}
    ScriptedEngine(evaluated_run.plan).save(folder / "base")
    model = {"name": str(folder / "base")}
    recipe = evaluated_run.recipe(model=model, evaluate=evaluate, arms=["base", "sft", "rlvr"], **changes)
    return run_seeds(recipe, folder / "run", open_engine=evaluated_run.opened)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(tmp_path_factory.mktemp("records"))


def unchanged(run: Run, name: str, kind: type[Record]) -> None:
    stored = (run.path / name).read_bytes()
    assert json_bytes(kind.from_dict(json.loads(stored), name).to_dict()) == stored


@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_through_its_type_without_a_byte_changing(run: Run, name: str) -> None:
    unchanged(run, name, FILES[name])


def test_every_mark_goes_through_its_type_without_a_byte_changing(run: Run) -> None:
    for stage in run.finished():
        key = StageKey.parse(stage)
        if kind := ScoringMark if key.is_scoring else MARKS.get(key.kind):
            unchanged(run, f"stages/{stage}.json", kind)


def test_the_results_of_several_seeds_go_through_their_type_without_a_byte_changing(tmp_path: Path) -> None:
    pool = finished(tmp_path, seeds=2)
    unchanged(pool, "results.json", Results)
    unchanged(pool, "stages/seeds.json", SeedsMark)
    found = pool.read_record("results.json", Results)
    assert found is not None and len(found.arms["rlvr"].per_seed) == 2 == len(found.pairs["rlvr-base"].per_seed)


def test_an_optional_key_that_is_absent_stays_absent_and_a_null_stays_null(run: Run) -> None:
    found = run.read_record("results.json", Results)
    assert found is not None
    tree = found.to_dict()
    assert "per_seed" not in tree["arms"]["base"] and "baselines" not in tree and "alarms" not in tree
    assert found.arms["base"].per_seed == () and found.baselines == {}
    assert tree["arms"]["base"]["process"]["entities"] is not None or found.arms["base"].process is not None


def test_a_missing_an_unknown_and_a_mistyped_key_are_refused_by_name_without_their_value(run: Run) -> None:
    whole = json.loads((run.path / "gains.json").read_bytes())
    for tree, named in (
        ({key: value for key, value in whole.items() if key != "decoding"}, "decoding"),
        ({**whole, "surprise": "a secret"}, "surprise"),
        ({**whole, "decoding": ["a secret"]}, "decoding"),
    ):
        with pytest.raises(InputError) as refused:
            Gains.from_dict(tree, "RUN/gains.json")
        assert "RUN/gains.json" in str(refused.value) and named in str(refused.value)
        assert "a secret" not in str(refused.value)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_results_of_another_version_are_refused_by_it(run: Run, version: object) -> None:
    tree = json.loads((run.path / "results.json").read_bytes())
    other = {key: value for key, value in tree.items() if key != "schema_version"}
    other |= {} if version is None else {"schema_version": version, "a key of the future": 1}
    with pytest.raises(InputError, match="schema version"):
        Results.from_dict(other, "RUN/results.json")


def test_what_a_reader_counted_is_stored_as_json_whatever_sequences_it_is_made_of() -> None:
    facts: dict[str, Any] = {"sources": {"train": {"files": ({"name": "a.csv"},), "rows": 1, "share": 0.1}}}
    facts |= {"proven": {"cases": 1, "corruptions": 2}, "digest": "0", "cases": {"train": 1}}
    found = DataFacts.model_validate({**facts, "train_notes_also_held_out_dropped": 0})
    assert found.to_dict()["sources"]["train"] == {"files": [{"name": "a.csv"}], "rows": 1, "share": 0.1}


def keys() -> list[StageKey]:
    arms = [*ARMS, *(f"{model}_{variant}" for model in ARMS for variant in VARIANTS), "served_3b", "r1"]
    decodings, places = (
        ("greedy", "sampled", "samples", "repeated", "votes"),
        ("held_out", "transfer-general", "transfer-a_1"),
    )
    return [StageKey.scoring(arm, how, where) for arm in arms for how in decodings for where in places]


def test_the_name_of_a_stage_is_read_back_to_the_same_parts() -> None:
    alone = [
        StageKey(kind) for kind in ("data", "pilot", "warmup", "intervention-formula", "resample-2", "contamination")
    ]
    trained = [StageKey("rlvr", arm) for arm in ("rlvr", "sft_rlvr")]
    for key in (*keys(), *alone, *trained):
        assert StageKey.parse(str(key)) == key
    assert len({str(key) for key in keys()}) == len(keys())


def test_stages_are_called_as_their_files_have_always_been() -> None:
    assert str(StageKey.scoring("rlvr", "greedy")) == "evaluate-rlvr-greedy"
    assert str(StageKey.scoring("sft_rlvr", "greedy", "transfer-trials")) == "transfer-trials-sft_rlvr-greedy"
    assert [str(StageKey.scoring("base", how)) for how in ("samples", "repeated", "votes")] == [
        "samples-base",
        "repeated-base",
        "votes-base",
    ]
    assert str(StageKey.scoring("base", "samples", "transfer-more")) == "transfer-more-base-samples"
    assert StageKey.parse("rlvr-sft_rlvr") == StageKey("rlvr", "sft_rlvr")


@pytest.mark.parametrize(
    "rows",
    [
        [rollout_row()],
        [
            rollout_row(logprob=0, reward=-1, parts={"format": -1, "outcome": 0}),
            rollout_row(probabilities=[0.25, 0.75], advantage=0.5),
        ],
        [
            rollout_row(
                reason="no answer",
                correct=False,
                earlier="a call",
                parts={"format": 0.0, "outcome": 0.0, "brevity": 0.1},
            )
        ],
    ],
)
def test_rows_come_back_from_their_table_and_tables_have_one_schema(rows: Sequence[RolloutRow]) -> None:
    frame = rollout_frame(rows)
    assert rows_of(frame) == rows
    assert pl.concat([frame, rollout_frame([rollout_row(parts=rows[0].parts)])]).height == len(rows) + 1


def test_a_line_of_metrics_holds_its_values_flat() -> None:
    line = {"stage": "warmup", "arm": "sft", "step": 1, "time": 2.5, "loss": 0.5, "zero_advantage_groups": 3}
    assert json.dumps(StepMetrics.from_dict(line).to_dict()) == json.dumps(line)
    assert StepMetrics.from_dict(line).values == {"loss": 0.5, "zero_advantage_groups": 3}
