"""statistics: intervals and tests where patients have several cases, against scipy and in
simulation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from ehrmind.statistics import (
    benjamini_hochberg,
    clustered_difference,
    holm,
    mean_interval,
    over_seeds,
    paired_difference,
    sign_flip,
    wilson,
)
from ehrmind.statistics.intervals import bootstrap, by_group, effective_n, resamples, t_interval, variance_of_mean

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def patients(
    draw: np.random.Generator, groups: int, cases: float, share: float, alike: float
) -> tuple[list[float], list[str]]:
    """Cases of patients who have a chance of their own each: beta-binomial with correlation `alike`
    within a patient."""
    sizes = draw.poisson(cases - 1, groups) + 1
    chances = draw.beta(share * (1 - alike) / alike, (1 - share) * (1 - alike) / alike, groups)
    values = [float(value) for n, chance in zip(sizes, chances, strict=True) for value in draw.random(n) < chance]
    return values, [f"p{group}" for group, n in enumerate(sizes) for _ in range(n)]


@pytest.mark.parametrize(
    ("groups", "cases", "share", "alike"),
    [(24, 5, 0.5, 0.3), (60, 4, 0.5, 0.3), (60, 4, 0.1, 0.3), (60, 3, 0.9, 0.5), (200, 2, 0.3, 0.2), (9, 4, 0.5, 0.2)],
)
def test_95_percent_intervals_of_clustered_cases_hold_the_truth_about_95_times_in_100(
    groups: int, cases: float, share: float, alike: float
) -> None:
    draw, held, repeats = np.random.default_rng(1), 0, 2000
    for _ in range(repeats):
        found = mean_interval(*patients(draw, groups, cases, share, alike))
        held += found.low <= share <= found.high
    # Monte-Carlo error of 2,000 repeats: three standard errors are 1.5 points
    assert 0.935 <= held / repeats <= 0.985


def test_taking_clustered_cases_as_independent_would_be_too_sure() -> None:
    draw, held = np.random.default_rng(2), 0
    for _ in range(500):
        values, _ = patients(draw, 60, 6, 0.5, 0.5)
        low, high = wilson(sum(values), len(values))
        held += low <= 0.5 <= high
    assert held / 500 < 0.85


@pytest.mark.parametrize("share", [0.03, 0.5, 0.97])
def test_intervals_of_one_case_a_patient_are_wilsons_and_hold_the_truth(share: float) -> None:
    draw, held = np.random.default_rng(3), 0
    names = [f"p{place}" for place in range(80)]
    for _ in range(2000):
        values = [float(value) for value in draw.random(80) < share]
        found = mean_interval(values, names)
        assert found.method == "wilson"
        assert (found.low, found.high) == pytest.approx(proportion_confint(sum(values), 80, method="wilson"), abs=1e-9)
        held += found.low <= share <= found.high
    assert 0.925 <= held / 2000 <= 0.99


@pytest.mark.parametrize("groups", [30, 120])
def test_intervals_of_a_mean_of_shares_hold_the_truth(groups: int) -> None:
    """As of pass@k, which lies between 0 and 1 for each question."""
    draw, held = np.random.default_rng(4), 0
    for _ in range(1000):
        found = mean_interval(draw.beta(2, 3, groups).tolist(), [str(place) for place in range(groups)])
        assert found.method == "bootstrap over groups"
        held += found.low <= 0.4 <= found.high
    assert 0.929 <= held / 1000 <= 0.975


def test_the_bootstrap_is_scipys_bca_bootstrap_where_groups_are_many() -> None:
    values, groups = patients(np.random.default_rng(5), 400, 3, 0.2, 0.4)
    sums, sizes = by_group(values, groups)
    theirs = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        rng=6,
    ).confidence_interval
    # both from draws of their own; the interval is 0.06 wide
    assert bootstrap(sums, sizes) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_a_clusters_variance_is_that_of_a_plain_mean_where_every_group_has_one_case() -> None:
    values = np.random.default_rng(6).random(50)
    assert variance_of_mean(values, np.ones(50)) == pytest.approx(stats.sem(values) ** 2)


def test_the_same_cases_give_the_same_interval_in_any_order_and_none_is_invented_for_all_alike() -> None:
    values, groups = patients(np.random.default_rng(7), 40, 4, 0.5, 0.3)
    order = np.random.default_rng(8).permutation(len(values)).tolist()
    assert mean_interval(values, groups) == mean_interval(
        [values[place] for place in order], [groups[place] for place in order]
    )
    alike = mean_interval([1.0] * 40, [f"p{place // 4}" for place in range(40)])
    assert alike.high == 1.0 and alike.low < wilson(40, 40)[0], "ten patients are not forty"
    assert alike.method == "wilson, effective n"
    assert effective_n(np.array([3.0]), np.array([5.0])) == 1.0
    nothing = mean_interval([], [])
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_resamples_in_blocks_draw_every_group_as_often_as_there_are_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehrmind.statistics.intervals.KEPT", 900)
    blocks = list(resamples(100, seed=1))
    assert len(blocks) > 200 and sum(len(block) for block in blocks) == 2000
    assert all((block.sum(axis=1) == 100).all() for block in blocks)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=10))
def test_the_sign_flip_test_is_scipys_exact_permutation_test(differences: list[int]) -> None:
    theirs = stats.permutation_test(
        (np.array(differences),),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip(differences) == pytest.approx(min(1.0, float(theirs.pvalue)))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_one_case_a_patient_gives_the_plain_paired_test(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [a for a, _ in pairs], [b for _, b in pairs]
    plain = paired_difference(a, b)
    clustered = clustered_difference(a, b, [str(place) for place in range(len(pairs))])
    assert clustered == {**plain, "interval": "newcombe"}
    assert sign_flip([x - y for x, y in pairs]) == pytest.approx(plain["p"])


def two_arms(draw: np.random.Generator, groups: int, gain: float) -> tuple[list[bool], list[bool], list[str]]:
    """Patients of four cases; one arm is better by `gain`, and a patient tends to have all cases
    right or wrong in both."""
    chance = np.repeat(draw.beta(1.5, 1.5, groups) * (1 - gain), 4)
    shift = np.repeat(draw.normal(0, 0.1, groups), 4)
    b = draw.random(4 * groups) < chance
    a = draw.random(4 * groups) < np.clip(chance + gain + shift, 0, 1)
    return a.tolist(), b.tolist(), [f"p{place // 4}" for place in range(4 * groups)]


def test_clustered_differences_have_intervals_and_tests_that_keep_their_level() -> None:
    draw, found = np.random.default_rng(9), []
    for _ in range(1000):
        a, b, groups = two_arms(draw, 50, 0.0)
        found.append(clustered_difference(a, b, groups))
    results: list[Any] = found
    # the shift is cut at 0 and 1, alike on both sides on average
    assert 0.92 <= sum(low <= 0 <= high for low, high in (row["ci95"] for row in results)) / 1000 <= 0.98
    assert sum(row["p"] < 0.05 for row in results) / 1000 <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
    better: Any = clustered_difference(*two_arms(draw, 100, 0.3))
    assert better["p"] < 0.001 and better["ci95"][0] > 0 and better["interval"] == "bootstrap over groups"


def test_too_few_groups_that_differ_count_as_one_case_each() -> None:
    a, b = [True] * 40, [True] * 36 + [False] * 4
    groups = [f"p{place // 4}" for place in range(40)]
    found: Any = clustered_difference(a, b, groups)
    low, high = found["ci95"]
    assert found["interval"] == "newcombe, a group as a case" and found["p"] == 1.0
    assert low < 0.1 < high and high - low > 0.2


@pytest.mark.slow
@settings(max_examples=20, deadline=None)  # theirs takes a tenth of a second
@given(P_VALUES)
def test_adjusted_p_values_are_those_of_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))


def test_nothing_to_adjust_gives_nothing() -> None:
    assert holm([]) == [] and benjamini_hochberg([]) == []


def test_holm_keeps_the_chance_of_any_false_finding_below_5_percent() -> None:
    draw = np.random.default_rng(10)
    assert sum(min(holm(row)) < 0.05 for row in draw.random((4000, 6)).tolist()) / 4000 <= 0.06


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=6).filter(lambda means: max(means) - min(means) > 0.01))
def test_with_one_patient_the_interval_over_seeds_is_students(means: list[float]) -> None:
    found = over_seeds([[mean] for mean in means], [["one"]] * len(means), limits=(-9, 9))
    theirs = stats.ttest_1samp(means, 0.0)
    assert found["ci95"] == pytest.approx(list(theirs.confidence_interval()), abs=1e-9)
    assert found["p"] == pytest.approx(theirs.pvalue) and found["sd"] == pytest.approx(np.std(means, ddof=1))


@pytest.mark.parametrize(("seeds", "between", "groups"), [(3, 0.05, 60), (3, 0.0, 60), (5, 0.08, 200), (3, 0.1, 400)])
def test_intervals_over_seeds_and_patients_hold_the_truth(seeds: int, between: float, groups: int) -> None:
    draw, held = np.random.default_rng(11), 0
    for _ in range(1000):
        patient = draw.normal(0, 0.15, groups)
        values = [
            (draw.random(2 * groups) < np.clip(0.5 + draw.normal(0, between) + np.repeat(patient, 2), 0, 1))
            .astype(float)
            .tolist()
            for _ in range(seeds)
        ]
        names = [f"p{place // 2}" for place in range(2 * groups)]
        low, high = over_seeds(values, [names] * seeds)["ci95"]
        held += low <= 0.5 <= high
    assert 0.929 <= held / 1000 <= 0.999


def test_seeds_that_agree_about_each_patient_do_not_make_patients_many() -> None:
    draw, held = np.random.default_rng(12), 0
    for _ in range(1000):
        chance = np.where(draw.random(80) < 0.5, 0.02, 0.98)
        values = [(draw.random(80) < chance).astype(float).tolist() for _ in range(4)]
        low, high = over_seeds(values, [[str(place) for place in range(80)]] * 4)["ci95"]
        held += low <= 0.5 <= high
        assert 0.18 < high - low < 0.26, "twice 1.99 standard errors of 80 patients, whatever the number of seeds"
    assert 0.929 <= held / 1000 <= 0.99


def test_one_seed_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two or more"):
        over_seeds([[1.0]], [["a"]])


def test_the_interval_of_paired_differences_is_students_where_every_group_has_one() -> None:
    draw = np.random.default_rng(3)
    values = draw.normal(0.2, 0.5, 17).tolist()
    low, high = t_interval(values, [str(place) for place in range(17)])
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_differences_that_come_by_patient_have_the_interval_of_the_patients() -> None:
    """Each patient's value four times over is no more evidence than once."""
    values, groups = [0.1, 0.5, -0.2, 0.4, 0.3], ["a", "b", "c", "d", "e"]
    assert t_interval(values * 4, groups * 4) == pytest.approx(t_interval(values, groups))
    assert t_interval([0.5, 0.7], ["a", "a"]) == (-math.inf, math.inf)
