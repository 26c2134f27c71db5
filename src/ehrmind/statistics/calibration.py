"""Measures whether confidence can be trusted: Brier score, calibration error, accuracy against
coverage; also R² of a prediction.

`right` is 0 or 1. If a tie was broken by an even draw, it is the chance of being right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 10


def brier(confidence: Sequence[float], right: Sequence[float]) -> float:
    """Returns the mean of (confidence − right)² (Brier 1950), or its expectation if `right` is a
    chance."""
    sure, good = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return float((sure**2 - 2 * sure * good + good).mean())


def calibration_bins(confidence: Sequence[float], right: Sequence[float]) -> list[dict[str, Any]]:
    """Returns one row per tenth of confidence that holds a question: mean confidence, share right,
    number."""
    sure, good = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    place = np.clip(np.ceil(sure * BINS - 1e-9).astype(int) - 1, 0, BINS - 1)  # (0, 0.1], (0.1, 0.2] …
    return [
        {
            "confidence": float(sure[place == bin_].mean()),
            "right": float(good[place == bin_].mean()),
            "n": int((place == bin_).sum()),
        }
        for bin_ in range(BINS)
        if (place == bin_).any()
    ]


def calibration_error(confidence: Sequence[float], right: Sequence[float]) -> float:
    """Returns the expected calibration error (Naeini et al. 2015): |confidence − share right| of
    each tenth, weighted by its questions."""
    bins = calibration_bins(confidence, right)
    return sum(row["n"] * abs(row["confidence"] - row["right"]) for row in bins) / max(1, len(confidence))


def risk_coverage(confidence: Sequence[float], right: Sequence[float]) -> dict[str, Any]:
    """Measures answering only the most confident questions (El-Yaniv & Wiener 2010).

    Returns accuracy at each coverage that a threshold can give, and the area under the
    risk-coverage curve: the mean over i of the share wrong among the i most confident (Geifman &
    El-Yaniv 2017). Questions with the same confidence come in random order; the area is the
    expectation over those orders.
    """
    sure, wrong = np.asarray(confidence, dtype=np.float64), 1 - np.asarray(right, dtype=np.float64)
    order = np.argsort(-sure, kind="stable")
    levels, starts, counts = np.unique(-sure[order], return_index=True, return_counts=True)
    errors = np.add.reduceat(wrong[order], starts)
    # errors expected among the i most confident
    expected = np.cumsum(np.repeat(errors / counts, counts))
    answered = np.arange(1, len(sure) + 1)
    ends = starts + counts - 1
    points = [
        {
            "threshold": float(-level),
            "coverage": float(answered[end] / len(sure)),
            "accuracy": float(1 - expected[end] / answered[end]),
        }
        for level, end in zip(levels, ends, strict=True)
    ]
    return {"points": points, "aurc": float((expected / answered).mean())}


def r_squared(observed: Sequence[float], predicted: Sequence[float]) -> float:
    """Returns 1 − SSE / SST: the share of variance that the prediction explains.

    It is below 0 if the mean would have been better, and NaN if nothing varies.
    """
    seen, said = np.asarray(observed, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    total = float(((seen - seen.mean()) ** 2).sum()) if len(seen) else 0.0
    return 1.0 - float(((seen - said) ** 2).sum()) / total if total > 0 else float("nan")
