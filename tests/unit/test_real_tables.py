"""The records and tables of the study on a real model: labels of each kind, differences and
predicted gains."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ehrmind.runs.records import Comparison
from ehrmind.stages.evaluation.comparison import Outcome, comparison
from ehrmind.types import Case

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_real_tables")


def outcome(number: int, *, right: bool) -> Outcome:
    case = Case(
        id=f"c{number}",
        family="medcalc",
        task="anion-gap",
        stratum="medcalc/lab/anion-gap",
        split="held_out",
        group=f"note {number}",
        fields={},
        truth={"kind": "integer", "value": 1, "unit": None},
        rationale=None,
        provenance={"row": number},
    )
    return Outcome(case, case.stratum, True, right, right, 1, None, 10, 100)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_real_records")


def record(records: ModuleType, seed: int, cases: str, arms: dict[str, str], part: str = "medcalc") -> Any:
    """A record whose cases have one letter each; a letter is also the note. Even places are of one
    stratum, odd ones of another."""
    return records.StudyRecord(
        part=part,
        seed=seed,
        name=part,
        date="2026-12-01",
        threads=2,
        hours={"warmup": 0.5},
        cases=tuple(cases),
        strata=tuple(f"medcalc/lab/{'even' if place % 2 == 0 else 'odd'}" for place in range(len(cases))),
        groups=tuple(cases),
        arms={
            name: records.ArmRecord(
                well_formed="1" * len(cases),
                right={"stored": marks, "recomputed": marks, "corrected": "-" * len(cases)},
                tokens=100,
            )
            for name, marks in arms.items()
        },
    )


@pytest.fixture
def compared() -> Comparison:
    """`sft` answers 40 of 60 rightly, `base` 10 of these."""
    arms = {
        "base": [outcome(number, right=number < 10) for number in range(60)],
        "sft": [outcome(number, right=number < 40) for number in range(60)],
    }
    return comparison(arms, "ehrmind")


def test_a_difference_has_one_size_in_both_directions(tables: ModuleType, compared: Comparison) -> None:
    assert tables.gain(compared, "sft", "base").startswith("+50.0 (+")
    there, back = tables.gain(compared, "sft", "base"), tables.gain(compared, "base", "sft")
    ends = [float(word) for word in there.replace("(", "").replace(")", "").split() if word != "to"]
    reversed_ends = [float(word) for word in back.replace("(", "").replace(")", "").split() if word != "to"]
    assert reversed_ends == [-ends[0], -ends[2], -ends[1]]


def test_labels_of_physicians_are_found_by_row_and_abstentions_have_none(records: ModuleType, data_dir: Path) -> None:
    from ehrmind.data.medcalc import read_medcalc

    cases, _ = read_medcalc(data_dir / "medcalc-bench" / "test_v1.0_dev.csv.gz", split="held_out")
    labels = records.label_sets(cases, data_dir / "medcalc-bench" / records.CORRECTED)
    assert {kind: len(found) for kind, found in labels.items()} == {"stored": 522, "recomputed": 515, "corrected": 407}
    assert all(labels["corrected"][name].fields == labels["stored"][name].fields for name in labels["corrected"])
    changed = [name for name, case in labels["recomputed"].items() if case.truth != labels["stored"][name].truth]
    assert len(changed) == 95


def test_strata_are_drawn_whole_when_the_prediction_is_judged(tables: ModuleType) -> None:
    draws = list(tables.resampled([0.1, 0.2, 0.5, 0.6], [0.1, 0.2, 0.5, 0.6], ["a", "a", "b", "b"]))
    assert draws and all(draw == pytest.approx(1.0) for draw in draws)


def test_an_arm_of_one_seed_is_compared_on_the_cases_that_each_seed_drew(
    tables: ModuleType, records: ModuleType
) -> None:
    base = record(records, 0, "abcdef", {"base": "110000"}, part="medcalc-base")
    drawn = [record(records, 0, "ace", {"sft": "111"}), record(records, 1, "bdf", {"sft": "101"})]
    arms = tables.pooled([*drawn, base], "stored")
    assert [(row.seed, row.case.id, row.ehrmind) for row in arms["base"]] == [
        (0, "a", True),
        (0, "c", False),
        (0, "e", False),
        (1, "b", True),
        (1, "d", False),
        (1, "f", False),
    ]
    assert [row.ehrmind for row in arms["sft"]] == [True, True, True, True, False, True]


def test_a_trained_arm_that_lacks_a_seed_stands_for_no_other(tables: ModuleType, records: ModuleType) -> None:
    drawn = [record(records, 0, "ace", {"sft": "111"}), record(records, 1, "bcd", {"sft": "101"})]
    lone = record(records, 0, "ace", {"rlvr": "100"}, part="medcalc-rlvr")
    arms = tables.pooled([*drawn, lone], "stored")
    assert list(arms) == ["sft"] and len(arms["sft"]) == 6
    both = [lone, record(records, 1, "bcd", {"rlvr": "000"}, part="medcalc-rlvr")]
    assert {name: len(rows) for name, rows in tables.pooled([*drawn, *both], "stored").items()} == {"sft": 6, "rlvr": 6}


def test_a_case_without_a_label_of_a_kind_is_left_out(records: ModuleType) -> None:
    of_seed = record(records, 0, "abc", {"sft": "1-0"})
    assert [row.case.id for row in records.outcomes_of(of_seed, of_seed.arms["sft"], "stored")] == ["a", "c"]


def test_a_record_is_read_as_it_was_written(records: ModuleType, tmp_path: Path) -> None:
    of_seed = record(records, 1, "abcd", {"sft": "1100", "sft_rlvr": "1110"})
    records.write_record(of_seed, tmp_path)
    records.write_record(record(records, 0, "abcd", {"sft": "0000"}), tmp_path)
    assert [found.seed for found in records.read_records(tmp_path)] == [0, 1]
    assert records.read_records(tmp_path)[1] == of_seed


def test_the_gain_that_the_second_pilot_expects_is_held_against_the_one_obtained(
    tables: ModuleType, records: ModuleType
) -> None:
    obtained = record(records, 0, "abcd", {"sft": "1000", "sft_rlvr": "1010"})
    gains = {"medcalc/lab/even": 0.5, "medcalc/lab/odd": 0.0}
    expected = record(records, 0, "", {}, part="medcalc-second-pilot").model_copy(update={"expected": gains})
    lines = list(tables.predicted_gains([obtained], [expected]))
    assert len(lines) == 1
    assert lines[0].startswith("R² of the gain expected by the second pilot: 1.00 ")
    assert lines[0].endswith("2 gains in 2 strata; mean expected +25.0 points, obtained +25.0.")
