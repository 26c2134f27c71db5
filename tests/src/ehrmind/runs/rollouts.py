"""Rollouts as rows of a file: every sampled answer with its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ehrmind.files import parquet_bytes
from ehrmind.types import Group

Row = dict[str, Any]


def rollout_bytes(rows: Sequence[Row]) -> bytes:
    """A parquet file of these rows."""
    import polars as pl

    schema_overrides: dict[str, Any] = {
        "reason": pl.String,
        "advantage": pl.Float64,
        "text": pl.String,
        "probabilities": pl.List(pl.Float64),
    }
    return parquet_bytes(pl.DataFrame(rows, schema_overrides=schema_overrides, infer_schema_length=None))


def rollout_rows(stage: str, arm: str, step: int, groups: Iterable[Group]) -> list[Row]:
    """An answer a row, as `write_rollouts` keeps it."""
    return [
        {
            "step": step,
            "arm": arm,
            "stage": stage,
            "case": group.case.id,
            "stratum": group.case.stratum,
            "member": member,
            "text": completion.text,
            "earlier": completion.earlier,
            "reward": verdict.reward,
            "parts": dict(verdict.parts),
            "correct": verdict.correct,
            "reason": verdict.reason,
            "advantage": group.advantages[member] if group.advantages else None,
            "tokens": completion.n_written,
            "prompt_tokens": len(group.prompt.token_ids),
            "logprob": sum(sum(segment.logprobs) for segment in completion.segments if segment.trainable),
            "finish_reason": completion.finish_reason,
            "well_formed": verdict.well_formed,
            "probabilities": None,
        }
        for group in groups
        for member, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True))
    ]
