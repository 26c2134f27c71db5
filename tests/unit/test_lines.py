"""Lines of texts and of JSON lines end where a line ends, and nowhere else."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind import tasks
from ehrmind.data.files import read_lines
from ehrmind.files import lines_of
from ehrmind.runs import Run
from ehrmind.runs import predictions as predicted
from ehrmind.runs.lines import append_line
from ehrmind.runs.predictions import Predictions
from ehrmind.types import Case
from ehrmind.view.curves import so_far

INSIDE = (  # all that str.splitlines takes for ends in addition to those that are
    "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei"
)
SOURCE = Path(__file__).resolve().parents[2] / "src"


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
)
def test_joined_lines_come_apart_again(lines: list[str], end: str) -> None:
    assert lines_of("".join(line + end for line in lines)) == lines
    assert lines_of(end.join([*lines, "last"])) == [*lines, "last"]


def test_a_text_of_nothing_has_no_lines() -> None:
    assert lines_of("") == [] and lines_of("\n") == [""] and lines_of(INSIDE) == [INSIDE]


def test_no_module_splits_texts_at_other_characters() -> None:
    """`splitlines` of bytes knows LF and CR only; of texts it does not."""
    calls = [
        (path, node)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "splitlines"
    ]
    assert not calls


def test_json_lines_of_other_programs_keep_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in (INSIDE, "next")), encoding="utf-8"
    )
    assert [json.loads(line)["text"] for line in read_lines(path)[0]] == [INSIDE, "next"]


def test_alarms_and_metrics_of_a_run_come_back_as_they_were_said(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.raise_alarm("rlvr-base", "base", 3, "odd", INSIDE)
    run.raise_alarm("rlvr-base", "base", 4, "odd", "late")
    assert [alarm.said for alarm in run.alarms()] == [INSIDE, "late"]
    append_line(
        tmp_path / "metrics.jsonl", {"stage": "rlvr-base", "arm": "base", "step": 0, "time": 0.5, "note": INSIDE}
    )
    assert [found.values["note"] for found in so_far(run).metrics["rlvr-base"]] == [INSIDE]
    run.rollback_metrics("rlvr-base", 4)
    assert [alarm.said for alarm in run.alarms()] == [INSIDE] and [found.values["note"] for found in run.metrics()] == [
        INSIDE
    ]


def test_predictions_as_json_lines_keep_their_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted, "schema", lambda: {"id": pl.String, "answer": pl.String})
    frame = pl.DataFrame({"id": ["1", "2"], "answer": [INSIDE, "next"]})
    Predictions(tmp_path).manifest.create()
    Predictions(tmp_path).write_final(frame, "jsonl")
    assert predicted.read_predictions(tmp_path).equals(frame)


def test_a_hint_quotes_the_whole_line_of_a_history() -> None:
    case = Case(
        "c",
        "ehr",
        "lab_hyperkalemia",
        "ehr/lab_hyperkalemia",
        "train",
        "g",
        {"history": f"potassium 5.1, {INSIDE}\nother"},
        {},
    )
    words = dataclasses.replace(case, truth={"labels": ["no", "yes"], "value": 0})
    assert tasks.of(words).hints(words)["events"].split("\n")[1] == f"potassium 5.1, {INSIDE}"
