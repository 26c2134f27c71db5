"""A rollout row: one sampled answer with its verdict, and the table that a step's rows are stored
as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ehrmind.files import parquet_bytes
from ehrmind.types import FinishReason, Group

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """One sampled answer with its verdict.

    `member` counts the answers to one question, `text` is the last turn, `earlier` what was said in
    turns before it. `parts` sum to `reward`. `reason` names a failure. `advantage` is None outside
    RLVR, `probabilities` where the labels' were not asked for. `tokens` are those that the model
    wrote, `logprob` is their sum in nats."""

    step: int
    arm: str
    stage: str
    case: str
    stratum: str
    member: int
    text: str
    earlier: str
    reward: float
    parts: Mapping[str, float]
    correct: bool
    reason: str | None
    advantage: float | None
    tokens: int
    prompt_tokens: int
    logprob: float
    finish_reason: FinishReason
    well_formed: bool
    probabilities: Sequence[float] | None


COLUMNS = tuple(field.name for field in fields(RolloutRow))


def rollout_schema(parts: Iterable[str]) -> dict[str, pl.DataType]:
    """The table's columns. `parts` are the names of the reward's parts, which the recipe
    decides."""
    import polars as pl

    types = {
        **dict.fromkeys(("step", "member", "tokens", "prompt_tokens"), pl.Int64()),
        **dict.fromkeys(("reward", "advantage", "logprob"), pl.Float64()),
        **dict.fromkeys(("correct", "well_formed"), pl.Boolean()),
        "parts": pl.Struct(dict.fromkeys(parts, pl.Float64())),
        "probabilities": pl.List(pl.Float64()),
    }
    return {name: types.get(name, pl.String()) for name in COLUMNS}


def rollout_frame(rows: Sequence[RolloutRow]) -> pl.DataFrame:
    """The rows as a table."""
    import polars as pl

    parts = dict.fromkeys(name for row in rows for name in row.parts)
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return pl.DataFrame(columns, schema=rollout_schema(parts))


def rows_of(frame: pl.DataFrame) -> list[RolloutRow]:
    """The rows of a table of rollouts."""
    return [RolloutRow(**row) for row in frame.select(COLUMNS).iter_rows(named=True)]


def rollout_bytes(rows: Sequence[RolloutRow]) -> bytes:
    """The rows as a parquet file."""
    return parquet_bytes(rollout_frame(rows))


def rollout_rows(stage: str, arm: str, step: int, groups: Iterable[Group]) -> list[RolloutRow]:
    """One row per answer, for `Run.write_rollouts`."""
    return [
        RolloutRow(
            step=step,
            arm=arm,
            stage=stage,
            case=group.case.id,
            stratum=group.case.stratum,
            member=member,
            text=completion.text,
            earlier=completion.earlier,
            reward=verdict.reward,
            parts=dict(verdict.parts),
            correct=verdict.correct,
            reason=verdict.reason,
            advantage=group.advantages[member] if group.advantages else None,
            tokens=completion.n_written,
            prompt_tokens=len(group.prompt.token_ids),
            logprob=sum(sum(segment.logprobs) for segment in completion.segments if segment.trainable),
            finish_reason=completion.finish_reason,
            well_formed=verdict.well_formed,
            probabilities=None,
        )
        for group in groups
        for member, (completion, verdict) in enumerate(zip(group.completions, group.verdicts, strict=True))
    ]
