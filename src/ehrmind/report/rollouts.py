"""The page's browser of rollouts: a seeded sample, spread over stages, arms and strata, as JSON that is safe inside a page.

This holds record text. Texts are fetched for the sampled rows only; the rest of a run's rollouts never enters memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ehrmind import tasks
from ehrmind.config import History
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from ehrmind.report.formatting import arm_name
from ehrmind.runs import Run
from ehrmind.types import Case, InputError

MOST_ROLLOUTS = 2000
KEYS = ("stage", "arm", "step", "case", "stratum", "member")
SHOWN = (*KEYS, "text", "reward", "correct", "reason", "advantage", "tokens", "finish_reason")


def sampled_rollouts(run: Run, seed: int, most: int = MOST_ROLLOUTS, history: History | None = None) -> dict[str, Any]:
    """{"rollouts": [...], "cases": {id: ...}, "total": n}; `history` says how coded records were written. Raises InputError when the run
    has no rollouts, such as after a purge."""
    import polars as pl

    files = run.rollout_files()
    if not files:
        raise InputError(
            f"{run.path} holds no rollouts (was it purged?), so there is no text to show; leave --with-text out."
        )
    index = pl.concat(
        [
            pl.read_parquet(file, columns=list(KEYS)).with_row_index("row").with_columns(file=pl.lit(n))
            for n, file in enumerate(files)
        ]
    )
    chosen = spread(index, seed, most)
    texts = [
        _rows_of(files[number], chosen.filter(pl.col("file") == number)["row"])
        for number in chosen["file"].unique().sort().to_list()
    ]
    rollouts = pl.concat(texts, how="vertical_relaxed").sort("stage", "step", "stratum", "case", "member").to_dicts()
    cases = _cases(run, {row["case"] for row in rollouts}, history)
    return {"rollouts": [_rollout(row) for row in rollouts], "cases": cases, "total": index.height}


def spread(index: Any, seed: int, most: int) -> Any:
    """At most `most` rows of a frame, every stage and stratum in turn giving one, which ones by seed."""
    import numpy as np
    import polars as pl

    draws = pl.Series("draw", np.random.default_rng(seed).random(index.height))
    turns = pl.col("draw").rank("ordinal").over("stage", "stratum")
    return index.with_columns(draws).with_columns(turn=turns).sort("turn", "draw").head(most)


def as_json(value: Any) -> str:
    """JSON that ends no script element and starts no markup, whatever it holds: only ASCII, and <, >, & as escapes."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rows_of(file: Any, rows: Any) -> Any:
    import polars as pl

    return (
        pl.scan_parquet(file).with_row_index("row").filter(pl.col("row").is_in(rows.implode())).select(SHOWN).collect()
    )


def _rollout(row: dict[str, Any]) -> dict[str, Any]:
    """What the browser shows of one answer; thinking and answer apart where the text keeps the protocol's shape."""
    thinking, answer = split_blocks(row["text"])
    parts = {"text": row["text"]} if thinking is None else {"thinking": thinking, "answer": answer}
    figures: dict[str, Any] = {key: row[key] for key in SHOWN if key not in ("text", "reward", "advantage")}
    return {
        **figures,
        "arm": arm_name(row["arm"]),
        "reward": _rounded(row["reward"]),
        "advantage": _rounded(row["advantage"]),
        **parts,
    }


def split_blocks(text: str) -> tuple[str | None, str | None]:
    """(thinking, answer) of a text that is one thought and one answer and nothing else, otherwise (None, None)."""
    head, answer_tag, tail = text.partition(ANSWER_OPEN)
    answer, end, rest = tail.partition(ANSWER_CLOSE)
    thought = head.strip()
    whole = thought.startswith(THINK_OPEN) and thought.endswith(THINK_CLOSE) and answer_tag and end and not rest.strip()
    if not whole or thought.count(THINK_OPEN) > 1 or thought.count(THINK_CLOSE) > 1:
        return None, None
    return thought[len(THINK_OPEN) : -len(THINK_CLOSE)].strip(), answer.strip()


def _cases(run: Run, wanted: set[str], history: History | None) -> dict[str, dict[str, str]]:
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


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
