"""A prediction row: one case with the model's answer, as predictions.parquet stores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from ehrmind.types import FinishReason


@dataclass(frozen=True, slots=True)
class Vote:
    """An answer in words, and how many samples gave it."""

    answer: str
    samples: int


@dataclass(frozen=True, slots=True)
class Grounding:
    """A value or quotation at `start` to `end` of the thinking. `stands`: the record has it."""

    start: int
    end: int
    text: str
    stands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow:
    """One case and its prediction. docs/predict.md says what each column is; None means absent."""

    id: str
    family: str
    task: str
    stratum: str
    group: str
    subject_id: int | None = None
    prediction_time: datetime | None = None
    trial: str | None = None
    answer: str | None = None
    value: float | None = None
    unit: str | None = None
    probability: float | None = None
    probabilities: Sequence[float] | None = None
    labels: Sequence[str] | None = None
    agreement: float | None = None
    votes: Sequence[Vote] | None = None
    rank: int | None = None
    score: float | None = None
    abstained: bool
    reason: str | None = None
    thinking: str | None = None
    grounding: Sequence[Grounding] | None = None
    text: str | None = None
    tokens: int
    finish_reason: FinishReason

    def to_dict(self) -> dict[str, Any]:
        """Returns the row as the table stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Reads a row of the table."""
        votes, grounding = row["votes"], row["grounding"]
        return cls(
            **{
                **row,
                "votes": None if votes is None else [Vote(**vote) for vote in votes],
                "grounding": None if grounding is None else [Grounding(**said) for said in grounding],
            }
        )
