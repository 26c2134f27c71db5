"""Formats figures for the page: cells, tables, arm names, percentages, intervals, durations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from ehrmind.runs.records import Interval95

ARM_NAMES = {
    "base": "Base",
    "rlvr": "RLVR only",
    "sft": "SFT only",
    "sft_rlvr": "SFT + RLVR",
    "commonest_label": "Commonest answer of train",
    "commonest_label_oracle": "Commonest answer of these cases (oracle)",
    "majority_label": "Majority label of train",
    "bag_of_words": "Bag of words",
    "gradient_boosting": "Gradient boosting on counts",
}
VARIANT_NAMES = {
    "few_shot": "few-shot",
    "no_thinking": "no thinking",
    "open_book": "open book",
    "tool": "calculator tool",
    "majority": "majority vote",
    "best": "best of n",
}
SCORER_NAMES = {"ehrmind": "our scorer", "benchmark": "the benchmark's scorer"}
ABSENT = "–"


@dataclass(frozen=True)
class Cell:
    """A figure with a note in smaller type. `tone` is "warn", "good" or empty."""

    text: str
    note: str = ""
    tone: str = ""


Rows = list[list[str | Cell]]


@dataclass(frozen=True)
class Table:
    """A caption, column titles and rows; the first cell of a row is its header."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]


class Scored(Protocol):
    """A share of right answers among n cases."""

    @property
    def n(self) -> int: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def ci95(self) -> Interval95: ...


def arm_name(arm: str) -> str:
    """Writes `base_open_book` as "Base, open book"; keeps a name that is not ours."""
    if arm in ARM_NAMES:
        return ARM_NAMES[arm]
    model = next((model for model in sorted(ARM_NAMES, key=len, reverse=True) if arm.startswith(f"{model}_")), None)
    variant_name = arm.removeprefix(f"{model}_") if model else ""
    return f"{ARM_NAMES[model]}, {VARIANT_NAMES[variant_name]}" if model and variant_name in VARIANT_NAMES else arm


def pair_name(pair: str) -> str:
    """Writes `sft_rlvr-sft`, a key of results.json, as a difference."""
    later, _, earlier = pair.partition("-")
    return f"{arm_name(later)} − {arm_name(earlier)}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def interval(bounds: Sequence[float]) -> str:
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f}".replace("-", "−")


def accuracy(figure: Scored | None) -> Cell:
    """A share of right answers with its interval; a dash where nothing was scored."""
    if figure is None or not figure.n:
        return Cell(ABSENT)
    return Cell(percent(figure.accuracy), interval(figure.ci95))


def points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def number(value: object) -> str:
    """A metric with digits that fit its size; a dash for a value that is absent or no number."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return ABSENT
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{1 if abs(value) >= 10 else 3 if abs(value) >= 0.01 or value == 0 else 6}f}".replace("-", "−")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(time: float) -> str:
    """Seconds since 1970 as a date and time in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
