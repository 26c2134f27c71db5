"""A page of the rollouts that fit the filters. Only the texts of the page are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

import polars as pl

from ehrmind.report.formatting import arm_name
from ehrmind.report.rollouts import split_blocks
from ehrmind.types import InputError
from ehrmind.view.rollout_index import UNREADABLE, Rollouts


class IndexRow(TypedDict):
    """A row of the index."""

    file: int
    row: int
    step: int
    arm: str
    stage: str
    case: str
    stratum: str
    member: int
    correct: bool
    reason: str | None
    well_formed: bool | None


class StoredRow(IndexRow):
    """A row with its figures and texts; all are None where its file is gone meanwhile."""

    reward: float | None
    advantage: float | None
    tokens: int | None
    finish_reason: str | None
    text: str | None
    earlier: str | None


class Facts(TypedDict):
    """A rollout without its texts, as the page shows it."""

    stage: str
    step: int
    row: int
    arm: str
    case: str
    stratum: str
    member: int
    correct: bool
    reason: str | None
    reward: float | None
    advantage: float | None
    tokens: int | None
    finish_reason: str | None
    arm_name: str
    verdict: str


class ListedRollout(Facts):
    """A line of the list; `answer` is None where the text is gone."""

    answer: str | None


class Page(TypedDict):
    """`left` counts files that are still to be read."""

    total: int
    page: int
    pages: int
    rows: list[ListedRollout]
    left: int


class Choices(TypedDict):
    """The values that the filters offer; `unread` names files that hold no rollouts."""

    steps: dict[str, list[int]]
    arms: list[list[str]]
    strata: list[str]
    reasons: list[str]
    verdicts: list[str]
    total: int
    unread: list[str]
    left: int


class Place(TypedDict):
    """The answers to a question in one stage, step and arm."""

    stage: str
    step: int
    arm: str
    arm_name: str
    row: list[int]
    member: list[int]
    correct: list[bool]


PER_PAGE = 25
PREVIEW = 160  # characters
FILTERS = ("stage", "arm", "stratum", "reason", "case")
STORED = ("reward", "advantage", "tokens", "finish_reason", "text", "earlier")
VERDICTS = {
    "right": pl.col("correct"),
    "wrong": ~pl.col("correct") & pl.col("well_formed").fill_null(True),
    "malformed": ~pl.col("correct") & ~pl.col("well_formed").fill_null(True),
}


def positions(rollouts: Rollouts, wanted: Mapping[str, str]) -> pl.Series:
    """The rows that fit, in the order of the frame; an absent or empty filter lets all through."""
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


def page_of(rollouts: Rollouts, found: pl.Series, page: int) -> Page:
    """One page of `found`; a number past the end is the last page."""
    pages = max(1, math.ceil(len(found) / PER_PAGE))
    page = min(max(page, 0), pages - 1)
    rows = _index_rows(rollouts.frame[found.slice(page * PER_PAGE, PER_PAGE)])
    shown: list[ListedRollout] = [{**facts(row), "answer": preview(row["text"])} for row in stored(rollouts, rows)]
    return {"total": len(found), "page": page, "pages": pages, "rows": shown, "left": rollouts.left}


def choices(rollouts: Rollouts) -> Choices:
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


def group_rows(rollouts: Rollouts, number: int, case: str) -> list[IndexRow]:
    """The answers to one question in one file, by member."""
    return _index_rows(rollouts.frame.filter((pl.col("file") == number) & (pl.col("case") == case)).sort("member"))


def places_of(rollouts: Rollouts, case: str) -> list[Place]:
    """The places where a question was answered, in order of stages and steps."""
    answers = rollouts.frame.filter(pl.col("case") == case)
    grouped = (
        answers.group_by("stage", "step", "arm")
        .agg("row", "member", "correct")
        .with_columns(pl.col("stage", "arm").cast(pl.String))
    )
    places = grouped.sort("stage", "step").to_dicts()
    return [cast(Place, {**place, "arm_name": arm_name(place["arm"])}) for place in places]


def row_at(rollouts: Rollouts, number: int, row: int) -> IndexRow:
    """Raises InputError where there is no such row (any more)."""
    found = _index_rows(rollouts.frame.filter((pl.col("file") == number) & (pl.col("row") == row)))
    if not found:
        raise InputError("There is no such rollout (any more).")
    return found[0]


def facts(row: StoredRow) -> Facts:
    return {
        "stage": row["stage"],
        "step": row["step"],
        "row": row["row"],
        "arm": row["arm"],
        "case": row["case"],
        "stratum": row["stratum"],
        "member": row["member"],
        "correct": row["correct"],
        "reason": row["reason"],
        "reward": _rounded(row["reward"]),
        "advantage": _rounded(row["advantage"]),
        "tokens": row["tokens"],
        "finish_reason": row["finish_reason"],
        "arm_name": arm_name(row["arm"]),
        "verdict": "right" if row["correct"] else "malformed" if row["well_formed"] is False else "wrong",
    }


def _index_rows(frame: pl.DataFrame) -> list[IndexRow]:
    return [cast(IndexRow, row) for row in frame.to_dicts()]


def stored(rollouts: Rollouts, rows: Sequence[IndexRow]) -> list[StoredRow]:
    """The rows with their figures and texts.

    A file is read from the first wanted row to the last one, so neighbours cost no more than they
    hold.
    """
    by_file: dict[int, list[int]] = {}
    for row in rows:
        by_file.setdefault(row["file"], []).append(row["row"])
    found: dict[tuple[int, int], Mapping[str, object]] = {}
    for number, wanted in by_file.items():
        first = min(wanted)
        try:
            scan = pl.scan_parquet(rollouts.path(number))
            there = [name for name in STORED if name in scan.collect_schema().names()]
            read = scan.select(there).slice(first, max(wanted) - first + 1).collect()
        except UNREADABLE:
            continue
        found |= {
            (number, place): read.row(place - first, named=True) for place in wanted if place - first < read.height
        }
    empty = dict.fromkeys(STORED)
    return [cast(StoredRow, {**row, **empty, **found.get((row["file"], row["row"]), {})}) for row in rows]


def preview(text: str | None) -> str | None:
    """The answer block, or the end of the text, in one line; None where the text is gone."""
    if text is None:
        return None
    answer = split_blocks(text)[1]
    line = " ".join((text[-4 * PREVIEW :] if answer is None else answer[: 4 * PREVIEW]).split())
    if len(line) <= PREVIEW:
        return line
    return f"…{line[-PREVIEW:]}" if answer is None else f"{line[:PREVIEW]}…"


def whole(wanted: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A whole number of the address. Raises InputError for anything but digits."""
    text = wanted.get(name, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InputError(f"'{name}' is to be a whole number.")
    return int(text)


def _rounded(value: float | None) -> float | None:
    return round(value, 3) if value is not None and math.isfinite(value) else None
