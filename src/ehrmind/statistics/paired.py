"""Compares two arms on the same cases. scipy is imported where it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ehrmind.statistics.intervals import BOOTSTRAP, FEWEST_GROUPS, FEWEST_OF_A_KIND, bootstrap, by_group, wilson

NEWCOMBE, NEWCOMBE_GROUPS = "newcombe", "newcombe, a group as a case"


def paired_difference(a: Sequence[bool], b: Sequence[bool], level: float = 0.95) -> dict[str, object]:
    """Returns accuracy of a − accuracy of b on the same cases, with each case a patient of its own.

    The interval is Newcombe's hybrid score interval for paired proportions (Newcombe 1998,
    Statistics in Medicine 17:2635, method 10). p is McNemar's exact test, two-sided.
    """
    from scipy.stats import binomtest

    both, only_a, only_b, neither = _table(a, b)
    difference, low, high = _newcombe(both, only_a, only_b, neither, level)
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"difference": difference, "ci95": [low, high], "p": p_value}


def clustered_difference(
    a: Sequence[bool], b: Sequence[bool], groups: Sequence[str], level: float = 0.95, seed: int = 0
) -> dict[str, object]:
    """Does the same as `paired_difference` if some cases share a patient, and gives the same result
    if none do.

    The interval is a bootstrap over groups. If groups differ too seldom for one, it is Newcombe's
    with each group counted as one case. p comes from flipping the sign of every group's sum of
    differences, exactly.
    """
    both, only_a, only_b, neither = _table(a, b)
    if len(set(groups)) == len(a):
        return {**paired_difference(a, b, level), "interval": NEWCOMBE}
    sums_G, sizes_G = by_group([float(x) - float(y) for x, y in zip(a, b, strict=True)], groups)
    if len(sums_G) >= FEWEST_GROUPS and int((sums_G != 0).sum()) >= 2 * FEWEST_OF_A_KIND:
        low, high = bootstrap(sums_G, sizes_G, level, seed)
        difference, method = (only_a - only_b) / len(a), BOOTSTRAP
    else:
        scale = len(sums_G) / len(a)
        difference, low, high = _newcombe(both * scale, only_a * scale, only_b * scale, neither * scale, level)
        method = NEWCOMBE_GROUPS
    p_value = sign_flip([round(value) for value in sums_G.tolist()])
    return {"difference": difference, "ci95": [max(-1.0, low), min(1.0, high)], "p": p_value, "interval": method}


def sign_flip(differences: Sequence[int]) -> float:
    """Returns p of the two-sided randomisation test of whole numbers around 0 (Fisher 1935).

    p is the share of all 2^G choices of signs whose sum is at least as far from 0 as the one found.
    It is exact, by adding one group after another. With one case per group it is McNemar's exact
    test.
    """
    moves = [abs(value) for value in differences if value]
    reach = sum(moves)
    chances = np.zeros(2 * reach + 1)
    chances[reach] = 1.0
    for move in moves:
        up, down = np.zeros_like(chances), np.zeros_like(chances)
        up[move:], down[:-move] = chances[:-move], chances[move:]
        chances = (up + down) / 2
    sums = np.arange(-reach, reach + 1)
    return float(min(1.0, chances[np.abs(sums) >= abs(sum(differences))].sum()))


def _table(a: Sequence[bool], b: Sequence[bool]) -> tuple[int, int, int, int]:
    """Counts (both right, only a, only b, neither)."""
    if len(a) != len(b):
        raise ValueError(f"the arms were scored on different numbers of cases: {len(a)} and {len(b)}")
    both = sum(x and y for x, y in zip(a, b, strict=True))
    only_a, only_b = sum(a) - both, sum(b) - both
    return both, only_a, only_b, len(a) - both - only_a - only_b


def _newcombe(both: float, only_a: float, only_b: float, neither: float, level: float) -> tuple[float, float, float]:
    n = both + only_a + only_b + neither
    difference = (only_a - only_b) / n if n else 0.0
    p_a, p_b = ((both + only_a) / n, (both + only_b) / n) if n else (0.0, 0.0)
    (low_a, high_a), (low_b, high_b) = wilson(both + only_a, n, level), wilson(both + only_b, n, level)
    phi = _correlation(both, only_a, only_b, neither)
    low = difference - math.sqrt(
        max(0.0, (p_a - low_a) ** 2 - 2 * phi * (p_a - low_a) * (high_b - p_b) + (high_b - p_b) ** 2)
    )
    high = difference + math.sqrt(
        max(0.0, (high_a - p_a) ** 2 - 2 * phi * (high_a - p_a) * (p_b - low_b) + (p_b - low_b) ** 2)
    )
    return difference, max(-1.0, low), min(1.0, high)


def _correlation(both: float, only_a: float, only_b: float, neither: float) -> float:
    """Returns phi of the 2 × 2 table, with Newcombe's continuity correction if phi is positive."""
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - (both + only_a + only_b + neither) / 2, 0.0)
    return product / math.sqrt(margins)
