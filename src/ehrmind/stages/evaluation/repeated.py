"""Several samples of every held-out question: pass@k, majority@k, and whether agreement among
samples is a good confidence."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.runs.records import (
    Calibration,
    ConfidenceBin,
    Coverage,
    CurvePoint,
    RepeatedSamples,
    RolloutRow,
)
from ehrmind.statistics import (
    brier,
    calibration_bins,
    calibration_error,
    curve_ks,
    majority_at,
    pass_curve,
    risk_coverage,
)
from ehrmind.statistics.sampling import curve
from ehrmind.types import Case
from ehrmind.verify import judge

REPEATED = "repeated"  # takes the place of a decoding


def repeated_figures(rows: Sequence[RolloutRow], cases: Mapping[str, Case], think: bool) -> RepeatedSamples:
    """Returns the figures of one arm's samples.

    The confidence in a question's answer is the share of its samples that agree on it. A tie is
    broken by an even draw, and the figures are the expectation over it. Samples that cannot be
    parsed cast no vote and agree with nothing."""
    by_case: dict[str, list[RolloutRow]] = defaultdict(list)
    for row in rows:
        by_case[row.case].append(row)
    samples = len(next(iter(by_case.values())))
    groups = [cases[name].group for name in by_case]
    ballots = [_ballot(cases[name], members, think) for name, members in by_case.items()]
    agreed = [_winner(votes, right) for votes, right, _ in ballots]
    confidence, good = [votes / samples for votes, _ in agreed], [right for _, right in agreed]
    majority = {k: [majority_at(votes, right, blank, k) for votes, right, blank in ballots] for k in curve_ks(samples)}
    passed = pass_curve(samples, [sum(row.correct for row in members) for members in by_case.values()], groups)
    bins = calibration_bins(confidence, good)
    return RepeatedSamples(
        samples=samples,
        questions=len(by_case),
        unparsed=sum(not row.well_formed for row in rows),
        pass_at=tuple(CurvePoint.model_validate(point) for point in passed),
        majority=tuple(CurvePoint.model_validate(point) for point in curve(majority, groups)),
        calibration=Calibration(
            brier=brier(confidence, good),
            ece=calibration_error(confidence, good),
            bins=tuple(ConfidenceBin.model_validate(bin_) for bin_ in bins),
        ),
        coverage=Coverage.model_validate(risk_coverage(confidence, good)),
    )


def vote(answer: Any) -> str:
    """Returns the key by which equal answers are counted: a decimal number in three digits,
    anything else as it is."""
    return f"{answer:.3g}" if isinstance(answer, float) else json.dumps(answer, default=str)


def _ballot(case: Case, members: Sequence[RolloutRow], think: bool) -> tuple[list[int], list[float], int]:
    """Returns (samples with each answer, the share of them that is right, samples without an
    answer)."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for row in members:
        if row.well_formed:
            outcomes[vote(judge(case, row.text, think=think).answer)].append(bool(row.correct))
    votes = [len(found) for found in outcomes.values()]
    return votes, [sum(found) / len(found) for found in outcomes.values()], len(members) - sum(votes)


def _winner(votes: Sequence[int], right: Sequence[float]) -> tuple[int, float]:
    """Returns (votes of the commonest answer, its chance of being right); zeros if no sample could
    be parsed."""
    most = max(votes, default=0)
    best = [share for count, share in zip(votes, right, strict=True) if count == most]
    return most, sum(best) / len(best) if best else 0.0
