"""Adjusts the p values of several comparisons made at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Keeps the chance of any false finding below the level (Holm 1979, Scandinavian Journal of
    Statistics 6:65)."""
    found = np.asarray(p, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)))
    return [float(value) for value in adjusted]


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Keeps the expected share of false findings among all findings below the level (Benjamini &
    Hochberg 1995, JRSS B 57:289)."""
    found = np.asarray(p, dtype=np.float64)
    order = np.argsort(found, kind="stable")[::-1]
    adjusted = np.empty_like(found)
    scaled = found[order] * len(found) / np.arange(len(found), 0, -1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled)) if len(found) else scaled
    return [float(value) for value in adjusted]
