"""statistics: intervals against scipy, a published example, and what they promise: coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ehrmind.statistics import paired_difference, wilson

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def table(both: int, only_a: int, only_b: int, neither: int) -> dict[str, Any]:
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return paired_difference(a, b)


@given(COUNTS, st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_is_scipys_wilson_interval(count: tuple[int, int], level: float) -> None:
    correct, n = count
    expected = binomtest(correct, n).proportion_ci(level, method="wilson")
    assert wilson(correct, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_nothing_to_count_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert paired_difference([], []) == {"difference": 0.0, "ci95": [-1.0, 1.0], "p": 1.0}


def test_the_upper_limit_of_none_right_is_below_5_percent_from_73_answers_on() -> None:
    assert wilson(0, 72)[1] > 0.05 > wilson(0, 73)[1]


def test_a_contrast_of_newcombes_paper_has_its_published_interval() -> None:
    """a, b, c, d = 20, 12, 2, 16 under method 10."""
    assert table(20, 12, 2, 16)["ci95"] == pytest.approx([0.0562, 0.3292], abs=5e-5)


@given(OUTCOMES)
def test_p_is_mcnemars_exact_test_of_the_cases_where_the_arms_differ(pairs: list[tuple[bool, bool]]) -> None:
    only_a, only_b = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert paired_difference([a for a, _ in pairs], [b for _, b in pairs])["p"] == pytest.approx(expected)


@given(OUTCOMES.filter(bool))
def test_the_interval_holds_the_difference_and_turns_around_with_the_arms(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [a for a, _ in pairs], [b for _, b in pairs]
    there: dict[str, Any] = paired_difference(a, b)
    back: dict[str, Any] = paired_difference(b, a)
    low, high = there["ci95"]
    assert -1 <= low <= there["difference"] + 1e-12 and there["difference"] - 1e-12 <= high <= 1
    assert there["difference"] == pytest.approx(sum(a) / len(a) - sum(b) / len(b))
    assert back["difference"] == -there["difference"] and back["p"] == there["p"]
    assert back["ci95"] == pytest.approx([-high, -low])


def test_arms_scored_on_different_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference([True, False, True], [True, False])


# Chances of: both right, only a, only b, neither. Alike arms, distant ones, hardly any right,
# nearly all right.
@pytest.mark.parametrize(
    "chances", [(0.3, 0.1, 0.1, 0.5), (0.45, 0.25, 0.05, 0.25), (0.01, 0.04, 0.02, 0.93), (0.9, 0.06, 0.02, 0.02)]
)
@pytest.mark.parametrize("n", [60, 600])
def test_95_percent_intervals_hold_the_truth_about_95_times_in_100(chances: tuple[float, ...], n: int) -> None:
    draws, truth = 2000, chances[1] - chances[2]
    tables = np.random.default_rng(7).multinomial(n, chances, size=draws).tolist()
    intervals: list[list[float]] = [table(*counts)["ci95"] for counts in tables]
    share = sum(low <= truth <= high for low, high in intervals) / draws
    assert 0.935 <= share <= 0.99
    right = [wilson(both + only_a, n) for both, only_a, _, _ in tables]
    assert 0.925 <= sum(low <= chances[0] + chances[1] <= high for low, high in right) / draws <= 0.99


def test_p_is_below_5_percent_at_most_5_times_in_100_when_nothing_differs() -> None:
    tables = np.random.default_rng(8).multinomial(300, (0.3, 0.1, 0.1, 0.5), size=2000).tolist()
    assert sum(table(*counts)["p"] < 0.05 for counts in tables) / 2000 <= 0.055
