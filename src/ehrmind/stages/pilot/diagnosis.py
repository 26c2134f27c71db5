"""The pilot's diagnosis: each stratum is solid, misapplied or missing. docs/pilot.md has the
definitions.

A right answer may be chance: `chance` is how often an answer to another question of the stratum
would be right here. A question counts as *reliably* solved when at least `needed` of its k samples
are right: the smallest number from 2 on that chance alone reaches in at most one question in
twenty."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence

from ehrmind.prompts.protocol import THINK_CLOSE
from ehrmind.runs.records import CurvePoint, Diagnosis, PilotFigures, RolloutRow, StratumDiagnosis, Unsettled
from ehrmind.stages.rollout import outcome_metrics
from ehrmind.statistics import wilson
from ehrmind.statistics.intervals import mean_interval
from ehrmind.statistics.sampling import pass_curve
from ehrmind.types import Case
from ehrmind.verify.judge import judge

SOLID, MISAPPLIED, MISSING = "solid", "misapplied", "missing"
SOLID_FROM = 0.8  # pass@1
MISSING_BELOW = 0.1  # share of questions reliably solved, and pass@1 corrected for chance
BY_CHANCE = 0.05  # chance that a question without knowledge counts as reliably solved
SWAPS = 16  # answers to other questions that are tried on each


def diagnose(
    rows: Sequence[RolloutRow], samples: int, cases: Mapping[str, Case], *, think: bool = True, seed: int = 0
) -> Diagnosis:
    """Returns the figures of all answers and of every stratum. `cases` are by id."""
    by_stratum: dict[str, list[RolloutRow]] = defaultdict(list)
    for row in rows:
        by_stratum[row.stratum].append(row)
    found = {}
    for stratum in sorted(by_stratum):
        figures = _figures(by_stratum[stratum], samples, cases, think, seed)
        low, reliable = figures.pass_at_1_ci95[0], figures.reliable_at_k
        kind = kind_of(figures.pass_at_1, low, reliable, figures.chance, figures.needed <= samples)
        found[stratum] = StratumDiagnosis(**figures.to_dict(), kind=kind)
    overall = _figures(rows, samples, cases, think, seed) if rows else None
    return Diagnosis(samples=samples, overall=overall, by_stratum=found)


def _figures(
    rows: Sequence[RolloutRow], samples: int, cases: Mapping[str, Case], think: bool, seed: int
) -> PilotFigures:
    """Returns pass@1 … pass@k with intervals over patients. k is the number of samples, so pass@k
    counts solved questions."""
    right = dict.fromkeys(dict.fromkeys(row.case for row in rows), 0)
    for row in rows:
        right[row.case] += row.correct
    groups, counts, n = [cases[name].group for name in right], list(right.values()), len(right)
    solved = sum(count > 0 for count in counts)
    means = outcome_metrics(rows)
    chance = chance_of(rows, cases, think, seed)
    needed = needed_samples(samples, chance)
    reliable = sum(count >= needed for count in counts)
    interval = mean_interval([count / samples for count in counts], groups, seed=seed)
    unsettled = {name: count for name, count in right.items() if 2 * count <= samples or samples == 1}
    return PilotFigures(
        questions=n,
        answers=len(rows),
        correct=sum(counts),
        pass_at_1=sum(counts) / max(1, len(rows)),
        pass_at_1_ci95=(interval.low, interval.high),
        unsettled=Unsettled(
            questions=len(unsettled),
            pass_at_1=sum(unsettled.values()) / max(1, samples * len(unsettled)),
            chance=chance_of(rows, cases, think, seed, unsettled),
        ),
        pass_at_k=solved / max(1, n),
        pass_at_k_ci95=wilson(solved, n),
        curve=tuple(CurvePoint.model_validate(point) for point in pass_curve(samples, counts, groups, seed)),
        chance=chance,
        needed=needed,
        reliable_at_k=reliable / max(1, n),
        reliable_at_k_ci95=wilson(reliable, n),
        entropy=entropy_of(rows),
        format_rate=means["format_rate"],
        truncated=means["truncated"],
    )


def kind_of(pass_1: float, pass_1_low: float, reliable: float, chance: float, decidable: bool) -> str:
    """Decides the kind of a stratum. `decidable`: some number of right samples rules chance out.

    A missing one has hardly a question reliably solved and a pass@1 hardly above chance. Where
    chance is so high that no number of samples rules it out (a label that nearly all cases have),
    the interval of pass@1 must lie above chance."""
    if pass_1 >= SOLID_FROM and (decidable or pass_1_low > chance):
        return SOLID
    if decidable:
        missing = max(reliable, beyond_chance(pass_1, chance)) < MISSING_BELOW
    else:
        missing = pass_1_low <= chance
    return MISSING if missing else MISAPPLIED


def beyond_chance(pass_1: float, chance: float) -> float:
    """Corrects pass@1 for chance: (pass@1 − chance) / (1 − chance). Negative where chance alone
    would give more."""
    return (pass_1 - chance) / (1 - chance) if chance < 1 else 0.0


def chance_of(
    rows: Sequence[RolloutRow], cases: Mapping[str, Case], think: bool, seed: int, only: Container[str] | None = None
) -> float:
    """Returns how often answers would be right if they belonged to another question of the same
    stratum, as in a shuffled pilot. `only` restricts the questions."""
    by_stratum: dict[str, list[RolloutRow]] = defaultdict(list)
    for row in rows:
        by_stratum[row.stratum].append(row)
    tried = right = 0
    for stratum, answers in by_stratum.items():
        draw = random.Random(f"{seed}:luck:{stratum}")
        for name in dict.fromkeys(row.case for row in answers if only is None or row.case in only):
            others = [row for row in draw.sample(answers, min(len(answers), 2 * SWAPS)) if row.case != name][:SWAPS]
            tried += len(others)
            right += sum(row.well_formed and judge(cases[name], row.text, think=think).correct for row in others)
    return right / tried if tried else 0.0


def needed_samples(samples: int, chance: float) -> int:
    """Returns the smallest r from 2 on with P(at least r of `samples` right by chance) ≤
    `BY_CHANCE`; `samples` + 1 if there is none."""
    from scipy.stats import binom

    return next(
        (r for r in range(min(2, samples), samples + 1) if binom.sf(r - 1, samples, chance) <= BY_CHANCE), samples + 1
    )


def entropy_of(rows: Sequence[RolloutRow]) -> float:
    """Returns the mean entropy, in bits, of the answers to one question. All malformed answers
    count as one answer."""
    by_case: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_case[row.case][row.text.rpartition(THINK_CLOSE)[2].strip() if row.well_formed else ""] += 1
    return sum(_entropy(list(counts.values())) for counts in by_case.values()) / max(1, len(by_case))


def _entropy(counts: Sequence[int]) -> float:
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts) + 0.0
