"""Combines several runs of one recipe under other seeds: the mean, its spread, and an interval for
both patients and seeds.

Suffix K is a dimension of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ehrmind.statistics.intervals import by_group, variance_of_mean

LIMITS = (0.0, 1.0)


def over_seeds(
    values: Sequence[Sequence[float]],
    groups: Sequence[Sequence[str]],
    level: float = 0.95,
    limits: tuple[float, float] = LIMITS,
) -> dict[str, Any]:
    """Summarises the mean over K ≥ 2 seeds of the mean over cases; `values[k]` and `groups[k]`
    belong to seed k.

    Other patients and other seeds would both give another figure. The variance is that between the
    seeds' means over K, plus that over patients, each with all its cases of all seeds. The chance
    in an answer is in both, so the interval errs to the wide side.

    Student's quantile has the degrees of freedom of Satterthwaite (1946, Biometrics Bulletin
    2:110). `sd` is the seeds' spread; `p` tests a mean of 0.
    """
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError("one seed has no spread between seeds; run two or more")
    means_K = np.array([float(np.mean(of_seed)) for of_seed in values])
    between = float(means_K.var(ddof=1)) / len(means_K)
    sums_G, sizes_G = by_group([v for seed in values for v in seed], [g for seed in groups for g in seed])
    patients = variance_of_mean(sums_G, sizes_G) if len(sums_G) > 1 else 0.0
    variance = between + patients
    mean = float(means_K.mean())
    if variance == 0:
        low, high, p_value = mean, mean, float(mean == 0)
    else:
        freedom = degrees_of_freedom(between, len(means_K), patients, len(sums_G))
        half = float(t.ppf(0.5 + level / 2, freedom)) * math.sqrt(variance)
        low, high = max(limits[0], mean - half), min(limits[1], mean + half)
        p_value = 2 * float(t.sf(abs(mean) / math.sqrt(variance), freedom))
    return {
        "mean": mean,
        "sd": float(means_K.std(ddof=1)),
        "ci95": [low, high],
        "per_seed": means_K.tolist(),
        "p": p_value,
    }


def degrees_of_freedom(between: float, seeds: int, patients: float, groups: int) -> float:
    """Returns those of the sum of a variance between seeds and one over groups of patients
    (Satterthwaite 1946)."""
    return (between + patients) ** 2 / (between**2 / (seeds - 1) + patients**2 / max(1, groups - 1))
