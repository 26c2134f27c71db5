"""How figures read on the page: names of arms, shares in percent, intervals, p, durations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ARM_NAMES = {
    "base": "Base",
    "rlvr": "RLVR only",
    "sft": "SFT only",
    "sft_rlvr": "SFT + RLVR",
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
    """A figure, and in smaller type what it needs beside it. `tone` is warn, good or nothing."""

    text: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """The first cell of a row is its header."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]


def arm_name(arm: str) -> str:
    """`base_open_book` reads "Base, open book"; a name that is not ours stays as it is."""
    if arm in ARM_NAMES:
        return ARM_NAMES[arm]
    model = next((model for model in sorted(ARM_NAMES, key=len, reverse=True) if arm.startswith(f"{model}_")), None)
    variant_name = arm.removeprefix(f"{model}_") if model else ""
    return f"{ARM_NAMES[model]}, {VARIANT_NAMES[variant_name]}" if model and variant_name in VARIANT_NAMES else arm


def pair_name(pair: str) -> str:
    """`sft_rlvr-sft`, the key of results.json, as a difference."""
    later, _, earlier = pair.partition("-")
    return f"{arm_name(later)} − {arm_name(earlier)}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def interval(bounds: Sequence[float]) -> str:
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f}".replace("-", "−")


def accuracy(figure: Mapping[str, Any] | None) -> Cell:
    """A share of right answers with its interval; a dash where there was nothing to score."""
    if not figure or not figure["n"]:
        return Cell(ABSENT)
    return Cell(percent(figure["accuracy"]), interval(figure["ci95"]))


def points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def number(value: Any) -> str:
    """A metric in as many digits as it deserves; a dash for what is absent or not a number."""
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
