"""Any table of question, answer and check becomes a task by recipe alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from ehrmind.config import TableFile, parse_recipe
from ehrmind.data.table import read_table_cases
from ehrmind.prompts import messages
from ehrmind.stages.data import read_splits
from ehrmind.types import InputError
from ehrmind.verify import judge
from ehrmind.verify.audit import check_cases

ROWS = [{"question": f"What is {n} + 1?", "answer": str(n + 1), "note": f"note {n // 2}"} for n in range(20)]


def csv(folder: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    pl.DataFrame(rows).write_csv(folder / "sums.csv")
    return folder / "sums.csv"


def read(path: Path, **settings: Any) -> Any:
    return read_table_cases(TableFile(path=path, **{"kind": "integer", **settings}))


def test_csv_json_lines_and_parquet_are_the_same_task(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps(row | {"answer": int(row["answer"])}) + "\n" for row in ROWS)
    )
    pl.DataFrame(ROWS).write_parquet(tmp_path / "sums.parquet")
    found = [
        read(path, record="note")[0] for path in (csv(tmp_path), tmp_path / "sums.jsonl", tmp_path / "sums.parquet")
    ]
    assert [[(c.id, c.fields, c.truth, c.split) for c in cases] for cases in found[1:]] == [
        [(c.id, c.fields, c.truth, c.split) for c in found[0]]
    ] * 2
    assert found[0][3].stratum == "table/sums/integer" and "note 1" in messages(found[0][3])[0].content


def test_a_record_never_crosses_splits(tmp_path: Path) -> None:
    cases, counts = read(csv(tmp_path), record="note", shares=(0.5, 0.2, 0.3))
    assert counts.notes == {"groups": 10} and {case.split for case in cases} == {"train", "tuning", "held_out"}
    assert all(
        len({case.split for case in cases if case.group == group}) == 1 for group in {case.group for case in cases}
    )


def test_a_split_column_decides(tmp_path: Path) -> None:
    rows = [row | {"part": "held_out" if n % 4 == 0 else "train"} for n, row in enumerate(ROWS)]
    cases, _ = read(csv(tmp_path, rows), split="part")
    assert [case.split for case in cases] == [row["part"] for row in rows]
    with pytest.raises(InputError, match="row 1, column 'question': a split is one of"):
        read(csv(tmp_path), split="question")


@pytest.mark.parametrize(
    ("settings", "answer", "right", "wrong"),
    [
        (
            {"kind": "number", "tolerance": 0.05, "unit": "mg"},
            "100",
            ["104.9", "95 mg", 100],
            ["106", "100 kg", "about 100", None],
        ),
        ({"kind": "number", "absolute_tolerance": 2}, "-10", [-12, "-8"], [-12.1, 10]),
        ({"kind": "integer"}, "7", [7, "7", 7.0], [7.4, 8, "7 or 8"]),
        ({"kind": "date"}, "2026-01-31", ["2026-01-31", "01/31/2026"], ["01/30/2026", "soon"]),
        (
            {"kind": "label", "labels": ["benign", "malignant"]},
            "Malignant",
            ["malignant", 1, "1"],
            ["benign", 0, "malignant or benign"],
        ),
    ],
)
def test_every_kind_of_check_is_proven(
    tmp_path: Path, settings: dict[str, Any], answer: str, right: list[Any], wrong: list[Any]
) -> None:
    cases, _ = read(csv(tmp_path, [{"question": f"Question {n}?", "answer": answer} for n in range(5)]), **settings)
    assert check_cases(cases).ok
    for given, expected in [*((value, True) for value in right), *((value, False) for value in wrong)]:
        text = f"<think>so</think>\n<answer>{json.dumps({'answer': given})}</answer>"
        assert judge(cases[0], text).correct is expected, given


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        (ROWS, {"question": "prompt"}, "no column 'prompt' for question; it has question, answer, note"),
        ([{"question": "a", "answer": "x"}], {}, "row 1, column 'answer': not a number"),
        ([{"question": "a", "answer": "1.5"}], {}, "row 1, column 'answer': not a whole number"),
        ([{"question": "a", "answer": "inf"}], {"kind": "number"}, "row 1, column 'answer': no answer"),
        ([{"question": "a", "answer": "__import__('os')"}], {"kind": "number"}, "row 1, column 'answer': not a number"),
        ([{"question": "a", "answer": "31.1."}], {"kind": "date"}, "row 1, column 'answer': not a date"),
        (
            [{"question": "a", "answer": "maybe"}],
            {"kind": "label", "labels": ["no", "yes"]},
            "row 1, column 'answer': none of the labels no, yes",
        ),
        (
            [{"question": "", "answer": "1"}, {"question": "b", "answer": "1"}],
            {},
            "row 1, column 'question': no question",
        ),
        (
            [{"question": "a", "answer": "1"}, {"question": "b", "answer": "1"}],
            {"id": "answer"},
            "rows 1 and 2, column 'answer': the id is the same",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, rows: list[dict[str, str]], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        read(csv(tmp_path, rows), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "label"},
        {"kind": "integer", "labels": ["a"]},
        {"kind": "date", "tolerance": 0.1},
        {"kind": "label", "labels": ["Yes", "yes"]},
    ],
)
def test_a_check_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TableFile(path=Path("x.csv"), **settings)


def test_a_recipe_names_the_table_once_for_all_splits(tmp_path: Path) -> None:
    data = {"source": {"table": {"path": str(csv(tmp_path)), "kind": "integer", "record": "note"}}}
    splits, sources, _ = read_splits(parse_recipe({"data": data, "model": {"tiny": {}}}))
    assert [len(splits[name]) for name in ("train", "tuning", "held_out")] == [14, 2, 4]
    assert sources["train"]["cases"] == 14
