"""Records of the pilot: its diagnosis (pilot.json), the plan that follows (plan.json), and what
came of it (gains.json)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from ehrmind.runs.records.base import Interval95, Record
from ehrmind.runs.records.measures import CurvePoint


class Unsettled(Record):
    """Questions that at most half of the samples answer right, their accuracy, and the accuracy
    that chance alone would give."""

    questions: int
    pass_at_1: float = Field(alias="pass@1")
    chance: float


class PilotFigures(Record):
    """The pilot's answers to some questions; k is the number of samples per question. docs/pilot.md
    defines the figures."""

    questions: int
    answers: int
    correct: int
    pass_at_1: float = Field(alias="pass@1")
    pass_at_1_ci95: Interval95 = Field(alias="pass@1_ci95")
    unsettled: Unsettled
    pass_at_k: float = Field(alias="pass@k")
    pass_at_k_ci95: Interval95 = Field(alias="pass@k_ci95")
    curve: tuple[CurvePoint, ...]
    chance: float
    needed: int
    reliable_at_k: float = Field(alias="reliable@k")
    reliable_at_k_ci95: Interval95 = Field(alias="reliable@k_ci95")
    entropy: float
    format_rate: float
    truncated: float


class Lift(Record):
    """The effect of one intervention in a stratum. `lifts`: the change is large and sure enough to
    name a cause."""

    questions: int
    lift: float
    ci95: Interval95
    lifts: bool


class StratumDiagnosis(PilotFigures):
    """One stratum: `kind` is solid, misapplied or missing. `cause` is there with the interventions;
    None names no cause."""

    kind: str
    interventions: Mapping[str, Lift] = Field(default_factory=dict)
    cause: str | None = None


def _shown(figures: PilotFigures | None) -> dict[str, Any]:
    return {} if figures is None else figures.to_dict()


class Diagnosis(Record):
    """pilot.json. `overall` is None, and {} in the file, where no question fitted into the model's
    context."""

    samples: int
    overall: Annotated[PilotFigures | None, BeforeValidator(lambda found: found or None), PlainSerializer(_shown)]
    by_stratum: Mapping[str, StratumDiagnosis]

    def strata(self, *kinds: str) -> list[str]:
        """Lists the strata of these kinds."""
        return [stratum for stratum, figures in self.by_stratum.items() if figures.kind in kinds]


class WarmUpPlan(Record):
    """The warm-up that the pilot advises. `strata` is a word where the recipe itself says "all" or
    "missing"."""

    strata: tuple[str, ...] | str
    traces: str
    traces_per_stratum: Mapping[str, int]
    rehearsal: float
    rehearse: str


class ExpectedGain(Record):
    """The gain in accuracy that RLVR is expected to bring, with a 95 % prediction interval."""

    gain: float
    low: float
    high: float


class ExpectedGains(Record):
    """Expected gains by stratum, of the arm that is RLVR from the base."""

    rlvr: Mapping[str, ExpectedGain]


class Plan(Record):
    """plan.json. `warm_up` is None where RLVR alone will do; `because` has the reasons in
    sentences."""

    warm_up: WarmUpPlan | None
    arms: tuple[str, ...]
    without_worked_answers: tuple[str, ...]
    because: tuple[str, ...]
    expected: ExpectedGains


class StratumGain(Record):
    """The gain of RLVR in one stratum: predicted by the pilot, and obtained."""

    kind: str
    n: int
    predicted: float
    low: float
    high: float
    obtained: float


class Gains(Record):
    """gains.json: predicted against obtained gains. `r2` is None where nothing varies."""

    decoding: str
    by_stratum: Mapping[str, StratumGain]
    r2: float | None
    r2_misapplied: float | None
