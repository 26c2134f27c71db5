"""New rows whose answers nobody knows: Cases that can be asked, and neither learned from nor
scored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import EhrFiles, parse_recipe
from ehrmind.data import load_cases, save_cases
from ehrmind.data.ehr import read_ehr
from ehrmind.data.unanswered import ehr_to_ask, medcalc_to_ask, trials_to_ask
from ehrmind.stages.data import read_splits
from ehrmind.types import Case, InputError
from ehrmind.verify import judge
from ehrmind.verify.judge import read
from tests.medcalc_cases import ONE_OF_EACH_KIND, SHORT
from tests.new_rows import answered, ehrmind, medcalc_csv, times_file, trials_files


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return ehr_to_ask(*times_file(tmp_path_factory.mktemp("ehr")))[0]


def test_new_rows_of_all_four_families_become_cases_that_nobody_can_learn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics, records = trials_files(tmp_path)
    meds, times = times_file(tmp_path)
    table = tmp_path / "table.jsonl"
    table.write_text('{"question": "Is it so?", "record": "It is."}\n{"question": "And now?", "record": "No."}\n')
    wanted = {
        "medcalc": ([medcalc_csv(tmp_path)], 2),
        "trials": (["--topics", topics, "--trials", records], 6),
        "ehr": (["--meds", meds, "--times", times], 30),
        "table": ([table, "--kind", "label", "--label", "no", "--label", "yes", "--record", "record"], 2),
    }
    for family, (arguments, count) in wanted.items():
        out = tmp_path / f"{family}.parquet"
        assert ehrmind("data", "new", family, *arguments, "--out", out) == 0, capsys.readouterr().err
        cases = load_cases(out)
        assert (
            len(cases) == count
            and {case.family for case in cases} == {family}
            and not any(case.is_answered for case in cases)
        )
        recipe = parse_recipe(
            {"data": {"train": {"cases": [out]}, "held_out": {"cases": [out]}}, "model": {"tiny": {}}}
        )
        with pytest.raises(InputError, match=r"held_out; they are for evaluation only|no gold answer"):
            read_splits(recipe)
        with pytest.raises(InputError, match="no gold answer"):
            judge(cases[0], answered("so", "yes"))
        assert ehrmind("check", out) == 2 and "ehrmind predict" in capsys.readouterr().err


def test_held_out_cases_without_answers_are_not_scored(tmp_path: Path) -> None:
    save_cases(medcalc_to_ask([medcalc_csv(tmp_path)])[0], tmp_path / "new.parquet")
    data = {"train": {"synthetic": {"n": 7, **SHORT}}, "held_out": {"cases": [tmp_path / "new.parquet"]}}
    with pytest.raises(
        InputError, match=r"data\.held_out: 2 of 2 cases, such as row 1 of notes\.csv, have no gold answer"
    ):
        read_splits(parse_recipe({"data": data, "model": {"tiny": {}}}))


def test_a_new_row_is_asked_in_the_words_that_training_had(tmp_path: Path) -> None:
    from ehrmind.prompts import messages

    known = read_ehr(EhrFiles(meds=times_file(tmp_path)[0], labels=tmp_path / "meds" / "labels" / "high_potassium"))[0]
    new = {case.id: case for case in ehr_to_ask(tmp_path / "meds", tmp_path / "high_potassium.parquet")[0]}
    for case in known:
        told = {"history": "a history"}
        with_history = [
            Case(**{**{k: getattr(c, k) for k in Case.__slots__}, "fields": told}) for c in (case, new[case.id])
        ]
        assert messages(with_history[0]) == messages(with_history[1])


def test_a_laboratory_task_of_ehrshot_is_answered_by_its_grades_and_another_by_the_words_given(tmp_path: Path) -> None:
    meds, times = times_file(tmp_path)
    assert ehr_to_ask(meds, times, task="lab_anemia")[0][0].truth["labels"] == ["normal", "mild", "moderate", "severe"]
    assert ehr_to_ask(meds, times, answers=("low", "high"))[0][0].truth["labels"] == ["low", "high"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.drop("prediction_time"), "no column 'prediction_time'"),
        (
            lambda rows: rows.with_columns(pl.lit(None).cast(pl.Int64).alias("subject_id")),
            "row 1, column 'subject_id': no value",
        ),
        (lambda rows: rows.with_columns(pl.col("subject_id") + 1000), "0 of its 30 subjects have events in"),
        (
            lambda rows: rows.with_columns(
                pl.when(pl.int_range(pl.len()) == 4).then(pl.lit(10**6)).otherwise("subject_id").alias("subject_id")
            ),
            "row 5: the subject has no events",
        ),
        (
            lambda rows: rows.with_columns(pl.col("prediction_time").cast(pl.String) + "+02:00"),
            "row 1, column 'prediction_time': ",
        ),
    ],
)
def test_times_that_cannot_be_asked_are_refused_by_column_and_row(tmp_path: Path, spoil: Any, said: str) -> None:
    meds, times = times_file(tmp_path)
    spoil(pl.read_parquet(times)).write_parquet(times)
    with pytest.raises(InputError, match=said):
        ehr_to_ask(meds, times)


def test_pairs_that_are_named_are_the_only_ones_asked(tmp_path: Path) -> None:
    topics, records = trials_files(tmp_path)
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("p0 NCT00000001\np1 0 NCT00000002 1\np1 NCT99999999\n")
    cases, counts = trials_to_ask(topics, [records], pairs)
    assert [(case.provenance["topic"], case.provenance["trial"]) for case in cases] == [
        ("p0", "NCT00000001"),
        ("p1", "NCT00000002"),
    ]
    assert counts.left_out == {"the trial's text is not in the files": 1}


@pytest.mark.parametrize("case", ONE_OF_EACH_KIND, ids=lambda case: str(case.truth["kind"]))
def test_an_answer_is_read_alike_whether_or_not_its_truth_is_known(case: Case) -> None:
    """Draws from everything that the judge accepts or finds merely wrong, but a unit or a fraction
    that the form forbids."""
    from ehrmind.prompts import gold_response

    form = {key: value for key, value in case.truth.items() if key in ("kind", "unit", "calculator")}
    unknown = Case(**{**{k: getattr(case, k) for k in Case.__slots__}, "truth": {**form, "unanswered": True}})
    assert read(unknown, gold_response(case)) == (judge(case, gold_response(case)).answer, None)
    assert read(unknown, answered("so", "perhaps"))[1] == judge(case, answered("so", "perhaps")).reason
    assert read(unknown, "<think>so</think>", finish_reason="length") == (None, "truncated")
