"""Records of the files that grow by a line: metrics.jsonl, alarms.jsonl and
held_out_scorings.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ehrmind.runs.records.base import Record


class Alarm(Record):
    """An alarm of RLVR, raised once a stage. `said` is its sentence."""

    stage: str
    arm: str
    step: int
    alarm: str
    said: str


class Scoring(Record):
    """A start of scoring held-out cases, finished or not. `time` is in seconds since 1970."""

    arm: str
    decoding: str
    seed: int
    time: float


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """The metrics of one training step, or of scoring one arm. A line of metrics.jsonl holds them
    flat; their names differ by stage."""

    stage: str
    arm: str
    step: int
    time: float  # seconds since 1970
    values: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns the line as a JSON object."""
        return {"stage": self.stage, "arm": self.arm, "step": self.step, "time": self.time, **self.values}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Reads a line's JSON object."""
        values = {name: value for name, value in row.items() if name not in ABOUT}
        return cls(row["stage"], row["arm"], row["step"], row["time"], values)


ABOUT = ("stage", "arm", "step", "time")
