"""statistics: pass@k and the majority of k against drawing every subset; calibration against
scikit-learn.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, r2_score

from ehrmind.statistics import (
    brier,
    calibration_bins,
    calibration_error,
    majority_at,
    pass_curve,
    r_squared,
    risk_coverage,
)
from ehrmind.statistics.sampling import curve_ks

ANSWERS = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=8)
SURE = st.lists(st.tuples(st.sampled_from([0.125, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=1, max_size=6)


def majority_by_hand(answers: list[str | None], right: str, k: int) -> float:
    chances = []
    for drawn in combinations(answers, k):
        votes = Counter(answer for answer in drawn if answer is not None)
        best = [answer for answer, count in votes.items() if count == max(votes.values())]
        chances.append(best.count(right) / len(best) if best else 0.0)
    return sum(chances) / len(chances)


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.data())
def test_the_majority_of_k_is_the_mean_over_every_subset(answers: list[str | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(answers)))
    votes = Counter(answer for answer in answers if answer is not None)
    found = majority_at(list(votes.values()), [float(answer == "a") for answer in votes], answers.count(None), k)
    assert found == pytest.approx(majority_by_hand(answers, "a", k), abs=1e-12)


def test_a_majority_of_many_samples_is_found_without_drawing_them() -> None:
    found = majority_at([40, 20, 4], [1.0, 0.0, 0.0], 0, 33)
    draw = np.random.default_rng(1)
    pool = np.repeat([0, 1, 2], [40, 20, 4])
    drawn = [np.bincount(draw.choice(pool, 33, replace=False), minlength=3) for _ in range(20_000)]
    share = np.mean([(row[0] == row.max()) / (row == row.max()).sum() for row in drawn])
    assert found == pytest.approx(share, abs=0.004)
    assert majority_at([40, 20, 4], [1.0, 0.0, 0.0], 0, 64) == 1.0


@pytest.mark.parametrize("k", [0, 9])
def test_a_majority_of_more_than_there_are_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        majority_at([5, 2], [1.0, 0.0], 1, k)


def test_the_curve_is_drawn_at_powers_of_two_and_at_the_last_sample() -> None:
    assert curve_ks(1) == [1] and curve_ks(12) == [1, 2, 4, 8, 12] and curve_ks(16) == [1, 2, 4, 8, 16]


def test_the_pass_curve_is_the_closed_form_of_the_simple_cases() -> None:
    curve: Any = pass_curve(4, [0, 1, 4] * 20, [str(place) for place in range(60)])
    assert [point["k"] for point in curve] == [1, 2, 4]
    assert [point["value"] for point in curve] == pytest.approx([(0 + 1 / 4 + 1) / 3, (0 + 1 / 2 + 1) / 3, 2 / 3])
    assert all(point["ci95"][0] < point["value"] < point["ci95"][1] for point in curve)


@given(SURE)
def test_brier_and_calibration_are_those_of_scikit_learn(found: list[tuple[float, bool]]) -> None:
    sure, right = [confidence for confidence, _ in found], [float(good) for _, good in found]
    assert brier(sure, right) == pytest.approx(brier_score_loss(right, sure, pos_label=1))
    inside = [confidence - 1e-7 for confidence in sure]  # their tenths are closed below, ours above
    observed, predicted = calibration_curve(right, inside, n_bins=10)
    bins = calibration_bins(sure, right)
    assert [row["right"] for row in bins] == pytest.approx(observed.tolist())
    assert [row["confidence"] for row in bins] == pytest.approx(predicted.tolist(), abs=1e-6)
    weights = np.array([row["n"] for row in bins]) / len(sure)
    assert calibration_error(sure, right) == pytest.approx(float(weights @ np.abs(observed - predicted)), abs=1e-6)


def test_brier_of_a_broken_tie_is_its_expectation() -> None:
    assert brier([0.5], [0.5]) == pytest.approx((0.5**2 + 0.5**2) / 2) == pytest.approx(0.25)
    assert brier([0.75], [0.5]) == pytest.approx((0.25**2 + 0.75**2) / 2)


@settings(max_examples=60, deadline=None)
@given(SURE)
def test_the_area_under_risk_and_coverage_is_the_mean_over_orders_of_equal_confidence(
    found: list[tuple[float, bool]],
) -> None:
    sure, right = [confidence for confidence, _ in found], [float(good) for _, good in found]
    areas = []
    for order in permutations(range(len(found))):
        placed = sorted(order, key=lambda place: -sure[place])  # stable: keeps the permutation among equals
        wrong = np.cumsum([1 - right[place] for place in placed])
        areas.append(float(np.mean(wrong / np.arange(1, len(found) + 1))))
    curve = risk_coverage(sure, right)
    assert curve["aurc"] == pytest.approx(np.mean(areas))
    for point in curve["points"]:
        chosen = [good for confidence, good in zip(sure, right, strict=True) if confidence >= point["threshold"]]
        assert point["coverage"] == pytest.approx(len(chosen) / len(found)) and point["accuracy"] == pytest.approx(
            np.mean(chosen)
        )


def test_confidence_that_knows_lifts_accuracy_at_low_coverage() -> None:
    curve = risk_coverage([0.9, 0.8, 0.3, 0.2], [1, 1, 0, 0])["points"]
    assert [point["accuracy"] for point in curve] == [1, 1, pytest.approx(2 / 3), 0.5]


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=20).filter(
        lambda p: len({round(a, 3) for a, _ in p}) > 1
    )
)
def test_r_squared_is_that_of_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    observed, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    assert r_squared(observed, predicted) == pytest.approx(r2_score(observed, predicted), rel=1e-6, abs=1e-6)


def test_r_squared_of_what_does_not_vary_is_not_a_number() -> None:
    assert np.isnan(r_squared([1.0, 1.0], [0.0, 2.0])) and np.isnan(r_squared([], []))
