"""Intervals of shares and means over cases, some of which may belong to one patient.

Suffixes: G is a dimension of groups (patients, notes), B of resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
FEWEST_GROUPS = 20  # a bootstrap over fewer groups is too narrow
FEWEST_OF_A_KIND = 5  # so is a bootstrap if nearly all groups are right, or nearly all wrong
KEPT = 5_000_000  # largest table of resamples that is made at once and cached
WILSON, EFFECTIVE, BOOTSTRAP = "wilson", "wilson, effective n", "bootstrap over groups"


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval. `method` is one of `WILSON`, `EFFECTIVE` and `BOOTSTRAP`, or another function's
    own word."""

    low: float
    high: float
    method: str


def wilson(correct: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Returns Wilson's score interval for a proportion (Wilson 1927); (0, 1) if there is nothing to
    count."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if correct == 0 else max(0.0, centre - half)), (1.0 if correct == n else min(1.0, centre + half))


def mean_interval(values: Sequence[float], groups: Sequence[str], level: float = 0.95, seed: int = 0) -> Interval:
    """Returns an interval of the mean of values between 0 and 1.

    - Wilson's, if every group has one case and every value is 0 or 1.
    - Otherwise a bootstrap over groups.
    - If groups are too few or too much alike for a bootstrap: Wilson's with the effective number of
      cases, from the variance between groups.
    """
    if not values:
        return Interval(0.0, 1.0, WILSON)
    sums_G, sizes_G = by_group(values, groups)
    total, n = float(sums_G.sum()), float(sizes_G.sum())
    if len(sizes_G) == n and all(value in (0, 1) for value in values):
        return Interval(*wilson(total, n, level), WILSON)
    enough = min(int((sums_G > 0).sum()), int((sums_G < sizes_G).sum())) >= FEWEST_OF_A_KIND
    if enough and len(sums_G) >= FEWEST_GROUPS:
        low, high = bootstrap(sums_G, sizes_G, level, seed)
        return Interval(max(0.0, low), min(1.0, high), BOOTSTRAP)
    worth = effective_n(sums_G, sizes_G, level)
    return Interval(*wilson(total / n * worth, worth, level), EFFECTIVE)


def t_interval(values: Sequence[float], groups: Sequence[str], level: float = 0.95) -> tuple[float, float]:
    """Returns an interval of the mean of differences of either sign, by Student's t over groups.

    With a single group the interval is infinite.
    """
    from scipy.stats import t

    sums_G, sizes_G = by_group(values, groups)
    mean = float(sums_G.sum() / sizes_G.sum())
    if len(sums_G) < 2:
        return -math.inf, math.inf
    half = float(t.ppf(0.5 + level / 2, len(sums_G) - 1)) * math.sqrt(variance_of_mean(sums_G, sizes_G))
    return mean - half, mean + half


def by_group(values: Sequence[float], groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (sum of the values, number of cases) of each group, ordered by group name."""
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} values and {len(groups)} groups")
    _, place = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    return np.bincount(place, np.asarray(values, dtype=np.float64)), np.bincount(place).astype(np.float64)


def effective_n(sums_G: np.ndarray, sizes_G: np.ndarray, level: float = 0.95) -> float:
    """Returns the number of independent cases that would give the share this variance.

    Source: Korn & Graubard 1998, Survey Methodology 24:193, with Student's quantile for few groups.
    The number never exceeds the number of cases, or the number of groups if the groups do not
    differ.
    """
    from scipy.stats import t

    groups, n = len(sums_G), float(sizes_G.sum())
    if groups < 2:
        return 1.0
    share = float(sums_G.sum()) / n
    variance = variance_of_mean(sums_G, sizes_G)
    worth = min(n, share * (1 - share) / variance) if variance > 0 else float(groups)
    return float(worth * (NormalDist().inv_cdf(0.5 + level / 2) / t.ppf(0.5 + level / 2, groups - 1)) ** 2)


def variance_of_mean(sums_G: np.ndarray, sizes_G: np.ndarray) -> float:
    """Returns the variance of a ratio of sums over groups, by linearisation (Cochran 1977, Sampling
    Techniques, chapter 6)."""
    groups, n = len(sums_G), float(sizes_G.sum())
    return float(((sums_G - sums_G.sum() / n * sizes_G) ** 2).sum() / n**2 * groups / (groups - 1))


def bootstrap(sums_G: np.ndarray, sizes_G: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Returns the BCa bootstrap interval (Efron 1987, JASA 82:171) of Σ sums / Σ sizes, drawing
    whole groups.

    The tails are widened as Student's are, because G groups vary less in a resample than among
    patients (Hesterberg 2015, American Statistician 69:371).
    """
    from scipy.stats import norm, t

    groups = len(sums_G)
    mean = sums_G.sum() / sizes_G.sum()
    means_B = np.concatenate([(w @ sums_G) / (w @ sizes_G) for w in resamples(groups, seed)])
    without_G = (sums_G.sum() - sums_G) / (sizes_G.sum() - sizes_G)
    apart_G = without_G.mean() - without_G
    spread = float((apart_G**2).sum())
    if spread == 0:
        return float(mean), float(mean)
    skew = float((apart_G**3).sum()) / (6 * spread**1.5)
    below = ((means_B < mean).mean() + (means_B <= mean).mean()) / 2
    bias = norm.ppf(np.clip(below, 1 / len(means_B), 1 - 1 / len(means_B)))
    tail = t.ppf(0.5 + level / 2, groups - 1) * math.sqrt(groups / (groups - 1))
    z = bias + np.array([-tail, tail])
    low, high = np.quantile(means_B, norm.cdf(bias + z / (1 - skew * z)))
    return float(low), float(high)


def resamples(groups: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each group is drawn: `RESAMPLES` rows in all, in blocks that fit into
    memory."""
    if groups * RESAMPLES <= KEPT:
        yield _resampled(groups, seed)
        return
    draw = np.random.default_rng(seed)
    at_once = max(1, KEPT // groups)
    for start in range(0, RESAMPLES, at_once):
        yield _counts(draw, groups, min(at_once, RESAMPLES - start))


@lru_cache(maxsize=8)
def _resampled(groups: int, seed: int) -> np.ndarray:
    return _counts(np.random.default_rng(seed), groups, RESAMPLES)


def _counts(draw: np.random.Generator, groups: int, rows: int) -> np.ndarray:
    drawn = draw.integers(groups, size=(rows, groups)) + np.arange(rows)[:, None] * groups
    return np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float32)
