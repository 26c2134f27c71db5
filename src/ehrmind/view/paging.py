"""A page of the rollouts that fit what was asked for. Of the texts only those of the page are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ehrmind.report.formatting import arm_name
from ehrmind.report.rollouts import split_blocks
from ehrmind.types import InputError
from ehrmind.view.rollout_index import UNREADABLE, Rollouts

PER_PAGE = 25
PREVIEW = 160  # characters
FILTERS = ("stage", "arm", "stratum", "reason", "case")
TOLD = ("stage", "step", "row", "arm", "case", "stratum", "member", "correct", "reason")
FIGURES = ("reward", "advantage", "tokens", "finish_reason")
VERDICTS = {
    "right": pl.col("correct"),
    "wrong": ~pl.col("correct") & pl.col("well_formed").fill_null(True),
    "malformed": ~pl.col("correct") & ~pl.col("well_formed").fill_null(True),
}


def positions(rollouts: Rollouts, wanted: Mapping[str, str]) -> pl.Series:
    """The rows that fit, in the order of the frame. An absent or empty filter lets all through; `reason=` takes a failure's name."""
    tests = [pl.col(name) == wanted[name] for name in FILTERS if wanted.get(name)]
    if wanted.get("step"):
        tests.append(pl.col("step") == whole(wanted, "step"))
    if verdict := wanted.get("verdict"):
        if verdict not in VERDICTS:
            raise InputError(f"A verdict is one of {', '.join(VERDICTS)}.")
        tests.append(VERDICTS[verdict])
    if not tests:
        return pl.int_range(rollouts.frame.height, dtype=pl.UInt32, eager=True)
    return rollouts.frame.select(pl.all_horizontal(tests).fill_null(False)).to_series().arg_true()


def page_of(rollouts: Rollouts, found: pl.Series, page: int) -> dict[str, Any]:
    """{"total", "page", "pages", "rows", "left"}; a page behind the last one is the last one."""
    pages = max(1, math.ceil(len(found) / PER_PAGE))
    page = min(max(page, 0), pages - 1)
    rows = rollouts.frame[found.slice(page * PER_PAGE, PER_PAGE)].to_dicts()
    shown = [{**facts(row), "answer": preview(row["text"])} for row in with_columns(rollouts, rows, ("text", *FIGURES))]
    return {"total": len(found), "page": page, "pages": pages, "rows": shown, "left": rollouts.left}


def choices(rollouts: Rollouts) -> dict[str, Any]:
    """What the filters offer."""
    frame = rollouts.frame
    steps = (
        frame.select(pl.col("stage").cast(pl.String), "step", "file").unique(["stage", "step"]).sort("stage", "step")
    )
    by_stage = {str(stage[0]): rows["step"].to_list() for stage, rows in steps.group_by("stage", maintain_order=True)}
    words = {
        name: sorted(frame[name].unique().drop_nulls().cast(pl.String).to_list())
        for name in ("arm", "stratum", "reason")
    }
    return {
        "steps": by_stage,
        "arms": [[arm, arm_name(arm)] for arm in words["arm"]],
        "strata": words["stratum"],
        "reasons": words["reason"],
        "verdicts": list(VERDICTS),
        "total": frame.height,
        "unread": list(rollouts.unread),
        "left": rollouts.left,
    }


def group_rows(rollouts: Rollouts, number: int, case: str) -> list[dict[str, Any]]:
    """The answers to one question in one file, by member."""
    return rollouts.frame.filter((pl.col("file") == number) & (pl.col("case") == case)).sort("member").to_dicts()


def places_of(rollouts: Rollouts, case: str) -> list[dict[str, Any]]:
    """Where a question was answered: stage, step, arm, and the rows and members there, in order of stages and steps."""
    answers = rollouts.frame.filter(pl.col("case") == case)
    grouped = (
        answers.group_by("stage", "step", "arm")
        .agg("row", "member", "correct")
        .with_columns(pl.col("stage", "arm").cast(pl.String))
    )
    return [{**place, "arm_name": arm_name(place["arm"])} for place in grouped.sort("stage", "step").to_dicts()]


def row_at(rollouts: Rollouts, number: int, row: int) -> dict[str, Any]:
    found = rollouts.frame.filter((pl.col("file") == number) & (pl.col("row") == row)).to_dicts()
    if not found:
        raise InputError("There is no such rollout (any more).")
    return found[0]


def facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A rollout with its figures, without its texts, as the page shows it."""
    verdict = "right" if row["correct"] else "malformed" if row["well_formed"] is False else "wrong"
    figures = {name: _rounded(row[name]) for name in FIGURES}
    return {**{name: row[name] for name in TOLD}, **figures, "arm_name": arm_name(row["arm"]), "verdict": verdict}


def with_columns(rollouts: Rollouts, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with more of their columns; None where a file is gone meanwhile, or has no such column. A file's rows are read from the
    first wanted to the last one, so that neighbours cost what they hold and no more."""
    by_file: dict[int, list[int]] = {}
    for row in rows:
        by_file.setdefault(row["file"], []).append(row["row"])
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for number, wanted in by_file.items():
        first = min(wanted)
        try:
            scan = pl.scan_parquet(rollouts.path(number))
            there = [name for name in names if name in scan.collect_schema().names()]
            read = scan.select(there).slice(first, max(wanted) - first + 1).collect()
        except UNREADABLE:
            continue
        found |= {
            (number, place): read.row(place - first, named=True) for place in wanted if place - first < read.height
        }
    return [{**row, **dict.fromkeys(names), **found.get((row["file"], row["row"]), {})} for row in rows]


def preview(text: str | None) -> str | None:
    """The end of an answer, in one line; None where the text is gone."""
    if text is None:
        return None
    answer = split_blocks(text)[1]
    line = " ".join((text[-4 * PREVIEW :] if answer is None else answer[: 4 * PREVIEW]).split())
    if len(line) <= PREVIEW:
        return line
    return f"…{line[-PREVIEW:]}" if answer is None else f"{line[:PREVIEW]}…"


def whole(wanted: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A number of the address; digits only."""
    text = wanted.get(name, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InputError(f"'{name}' is to be a whole number.")
    return int(text)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value
