"""The tables of the study on a real model: labels of each kind, differences and predicted gains."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

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


def test_labels_of_physicians_are_found_by_row_and_abstentions_have_none(tables: ModuleType, data_dir: Path) -> None:
    from ehrmind.data.medcalc import read_medcalc

    cases, _ = read_medcalc(data_dir / "medcalc-bench" / "test_v1.0_dev.csv.gz", split="held_out")
    labels = tables.label_sets(cases, data_dir / "medcalc-bench" / tables.CORRECTED)
    assert {kind: len(found) for kind, found in labels.items()} == {"stored": 522, "recomputed": 515, "corrected": 407}
    assert all(labels["corrected"][name].fields == labels["stored"][name].fields for name in labels["corrected"])
    changed = [name for name, case in labels["recomputed"].items() if case.truth != labels["stored"][name].truth]
    assert len(changed) == 95


def test_strata_are_drawn_whole_when_the_prediction_is_judged(tables: ModuleType) -> None:
    draws = list(tables.resampled([0.1, 0.2, 0.5, 0.6], [0.1, 0.2, 0.5, 0.6], ["a", "a", "b", "b"]))
    assert draws and all(draw == pytest.approx(1.0) for draw in draws)
