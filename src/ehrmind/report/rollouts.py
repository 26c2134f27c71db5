"""The sample of rollouts on the page with text, drawn by seed from every stage and stratum.

It holds record text. Only the sampled rows are read with their text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ehrmind import tasks
from ehrmind.config import History
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from ehrmind.report.formatting import arm_name
from ehrmind.runs import Run
from ehrmind.runs.records import RolloutRow, rows_of
from ehrmind.types import Case, InputError

if TYPE_CHECKING:
    import polars as pl

MOST_ROLLOUTS = 2000
KEYS = ("stage", "arm", "step", "case", "stratum", "member")


class ShownRollout(TypedDict, total=False):
    """One answer for the page: `thinking` and `answer`, or `text` where it breaks the protocol."""

    stage: str
    arm: str
    step: int
    case: str
    stratum: str
    member: int
    correct: bool
    reason: str | None
    reward: float | None
    advantage: float | None
    tokens: int
    finish_reason: str
    thinking: str
    answer: str
    text: str


class ShownCase(TypedDict):
    record: str
    question: str
    expected: str


class Sample(TypedDict):
    """The JSON inside the page; `total` counts all rollouts of the run."""

    rollouts: list[ShownRollout]
    cases: dict[str, ShownCase]
    total: int


def sampled_rollouts(run: Run, seed: int, most: int = MOST_ROLLOUTS, history: History | None = None) -> Sample:
    """At most `most` rollouts with their cases; `history` says how coded records were written.

    Raises InputError when the run has no rollouts, such as after a purge.
    """
    import polars as pl

    files = run.rollout_files()
    if not files:
        raise InputError(
            f"{run.path} holds no rollouts (was it purged?), so there is no text to show; run it without --with-text."
        )
    index = pl.concat(
        [
            pl.read_parquet(file, columns=list(KEYS)).with_row_index("row").with_columns(file=pl.lit(n))
            for n, file in enumerate(files)
        ]
    )
    chosen = spread(index, seed, most)
    rows = [
        row
        for number in chosen["file"].unique().sort().to_list()
        for row in _rows_at(files[number], chosen.filter(pl.col("file") == number)["row"])
    ]
    rows.sort(key=lambda row: (row.stage, row.step, row.stratum, row.case, row.member))
    cases = _cases(run, {row.case for row in rows}, history)
    return {"rollouts": [_shown(row) for row in rows], "cases": cases, "total": index.height}


def spread(index: pl.DataFrame, seed: int, most: int) -> pl.DataFrame:
    """At most `most` rows of a frame, drawn by seed, one from every stage and stratum in turn."""
    import numpy as np
    import polars as pl

    draws = pl.Series("draw", np.random.default_rng(seed).random(index.height))
    turns = pl.col("draw").rank("ordinal").over("stage", "stratum")
    return index.with_columns(draws).with_columns(turn=turns).sort("turn", "draw").head(most)


def as_json(value: object) -> str:
    """JSON that cannot end a script element or start markup: ASCII, with <, > and & escaped."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rows_at(file: Path, rows: pl.Series) -> list[RolloutRow]:
    import polars as pl

    return rows_of(pl.scan_parquet(file).with_row_index("row").filter(pl.col("row").is_in(rows.implode())).collect())


def _shown(row: RolloutRow) -> ShownRollout:
    shown: ShownRollout = {
        "stage": row.stage,
        "arm": arm_name(row.arm),
        "step": row.step,
        "case": row.case,
        "stratum": row.stratum,
        "member": row.member,
        "correct": row.correct,
        "reason": row.reason,
        "reward": round(row.reward, 3),
        "advantage": None if row.advantage is None else round(row.advantage, 3),
        "tokens": row.tokens,
        "finish_reason": row.finish_reason,
    }
    thinking, answer = split_blocks(row.text)
    if thinking is None or answer is None:
        return {**shown, "text": row.text}
    return {**shown, "thinking": thinking, "answer": answer}


def split_blocks(text: str) -> tuple[str | None, str | None]:
    """(thinking, answer) of a text with one thought and one answer only, else (None, None)."""
    head, answer_tag, tail = text.partition(ANSWER_OPEN)
    answer, end, rest = tail.partition(ANSWER_CLOSE)
    thought = head.strip()
    whole = thought.startswith(THINK_OPEN) and thought.endswith(THINK_CLOSE) and answer_tag and end and not rest.strip()
    if not whole or thought.count(THINK_OPEN) > 1 or thought.count(THINK_CLOSE) > 1:
        return None, None
    return thought[len(THINK_OPEN) : -len(THINK_CLOSE)].strip(), answer.strip()


def _cases(run: Run, wanted: set[str], history: History | None) -> dict[str, ShownCase]:
    from ehrmind.prompts.records import with_histories

    found: Sequence[Case] = [
        case
        for split in ("train", "held_out")
        if run.has_cases(split)
        for case in run.load_split(split)
        if case.id in wanted
    ]
    found, _ = with_histories(found, history or History())
    return {
        case.id: {
            "record": tasks.of(case).record(case),
            "question": tasks.of(case).question(case),
            "expected": tasks.of(case).gold_answer(case),
        }
        for case in found
    }
