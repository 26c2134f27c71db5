"""Measures of labels over several seeds. Rankings and risks of different models are no single
ranking, so they are measured seed by seed, and their means are reported."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ehrmind.runs.records import Interval95, LabelMeasures, RankingMeasures, RiskMeasures
from ehrmind.statistics.seeds import degrees_of_freedom

WITH_INTERVALS = ("auroc", "auprc", "brier")
NORMAL = 1.959963984540054  # half the width of a 95 % interval, in standard errors


def with_means(whole: LabelMeasures, seeds: Sequence[LabelMeasures]) -> LabelMeasures:
    """Returns the measures of all seeds' answers together, with ranking and risk as means over
    `seeds`, the measures of each."""
    more: dict[str, object] = {}
    if rankings := [of.ranking for of in seeds if of.ranking is not None]:
        more["ranking"] = _ranking(rankings)
    if whole.risk is not None:
        more["risk"] = _risk(whole.risk, [of.risk for of in seeds if of.risk is not None])
    return whole.model_copy(update=more)


def _ranking(seeds: Sequence[RankingMeasures]) -> RankingMeasures:
    trees = [of.to_dict() for of in seeds]
    means = {key: sum(tree[key] for tree in trees) / len(trees) for key in trees[0]}
    return RankingMeasures.model_validate(
        {key: round(value) if key.startswith("topics") else value for key, value in means.items()}
    )


def _risk(whole: RiskMeasures, seeds: Sequence[RiskMeasures]) -> RiskMeasures:
    """Returns means over seeds. Counts and calibration are of all answers together."""
    more: dict[str, object] = {}
    intervals: dict[str, Interval95] = {}
    for name in (*WITH_INTERVALS, "f1", "balanced_accuracy"):
        values: list[float] = [value for of in seeds if (value := getattr(of, name)) is not None]
        more[name] = sum(values) / len(values) if values else None
        bounds = [of.ci95[name] for of in seeds if name in of.ci95]
        if len(values) > 1 and len(bounds) == len(values):
            intervals[name] = _interval(values, bounds, whole.subjects)
    return whole.model_copy(update={**more, "ci95": intervals})


def _interval(values: Sequence[float], bounds: Sequence[Interval95], subjects: int) -> Interval95:
    """Returns the 95 % interval of a mean over seeds, for other subjects and other seeds, as
    `over_seeds` does. The variance over subjects is the mean of the seeds' own."""
    from scipy.stats import t

    k, mean = len(values), sum(values) / len(values)
    between = sum((value - mean) ** 2 for value in values) / (k - 1) / k
    patients = sum(((high - low) / (2 * NORMAL)) ** 2 for low, high in bounds) / k
    if between + patients == 0:
        return mean, mean
    freedom = degrees_of_freedom(between, k, patients, subjects)
    half = float(t.ppf(0.975, freedom)) * math.sqrt(between + patients)
    return max(0.0, mean - half), min(1.0, mean + half)
