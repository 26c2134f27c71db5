"""The process audit of an arm's answers as figures: a share per part, and right answers whose
reasoning is flawed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ehrmind.config import Recipe
from ehrmind.process_audit import PARTS, ProcessAudit, audit
from ehrmind.process_audit.facts import Known, known, with_numbers_of
from ehrmind.runs import Run
from ehrmind.runs.records import (
    CheckedPart,
    FindingCount,
    FlawedReasoning,
    Interval95,
    ProcessFigures,
    RolloutRow,
    StageKey,
)
from ehrmind.stages.evaluation.comparison import widest
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.statistics import mean_interval, over_seeds
from ehrmind.types import Case

MOST = 8  # kinds of findings that are counted one by one
Audited = tuple[str, bool, ProcessAudit]  # the group, whether the answer is right, the audit
Values = list[tuple[str, float]]  # the group, and 1 or 0
Share = TypeVar("Share", CheckedPart, FlawedReasoning)


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits answers to `cases`. What is known of a case is found once and kept from arm to arm."""

    cases: Mapping[str, Case]
    known: dict[str, Known] = field(default_factory=dict)

    def audit(self, row: RolloutRow) -> ProcessAudit:
        """Audits one answer. What a tool replied in earlier turns counts as given."""
        case = self.cases[row.case]
        if case.id not in self.known:
            self.known[case.id] = known(case)
        given = with_numbers_of(self.known[case.id], row.earlier) if row.earlier else self.known[case.id]
        return audit(case, row.text, about=given)


def process_figures(runs: Sequence[tuple[Run, Recipe, Auditor]], arm: str) -> ProcessFigures | None:
    """Audits one arm's answers under the headline decoding, in one run or in those of several
    seeds; None if the arm is not asked to think."""
    if not all(thinks(recipe, arm) for _, recipe, _ in runs):
        return None
    audits = [_audited(run, recipe, arm, auditor) for run, recipe, auditor in runs]
    times = Counter((one.part, one.what) for of in audits for _, _, found in of for one in found.findings)
    return ProcessFigures(
        **{part: _checked(audits, part) for part in PARTS},
        right_but_flawed=_flawed(audits),
        findings=tuple(
            FindingCount(part=part, what=what, times=count) for (part, what), count in times.most_common(MOST)
        ),
    )


def _audited(run: Run, recipe: Recipe, arm: str, auditor: Auditor) -> list[Audited]:
    rows = run.rollout_rows(str(StageKey.scoring(arm, recipe.evaluate.decodings[0])))
    return [(auditor.cases[row.case].group, row.correct, auditor.audit(row)) for row in rows]


def _checked(audits: Sequence[Sequence[Audited]], name: str) -> CheckedPart | None:
    """Counts what one part checked over all answers; None if it checked nothing."""
    values: list[Values] = []
    for of_seed in audits:
        by_group: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for group, _, found in of_seed:
            if (part := found.parts[name]) is not None:
                by_group[group][0] += part.checked
                by_group[group][1] += part.passed
        values.append(
            [
                (group, float(place < passed))
                for group, (checked, passed) in by_group.items()
                for place in range(checked)
            ]
        )
    if not any(values):
        return None
    checked = sum(map(len, values))
    passed = int(sum(value for of_seed in values for _, value in of_seed))
    return _of_seeds(
        CheckedPart(checked=checked, passed=passed, share=passed / checked, ci95=_interval(values)), values
    )


def _flawed(audits: Sequence[Sequence[Audited]]) -> FlawedReasoning | None:
    values = [[(group, float(found.flawed)) for group, right, found in of_seed if right] for of_seed in audits]
    if not any(values):
        return None
    n, flawed = sum(map(len, values)), int(sum(value for of_seed in values for _, value in of_seed))
    return _of_seeds(FlawedReasoning(n=n, flawed=flawed, share=flawed / n, ci95=_interval(values)), values)


def _interval(values: Sequence[Values]) -> Interval95:
    """Returns the interval over patients of all values."""
    interval = mean_interval(
        [value for of_seed in values for _, value in of_seed], [group for of_seed in values for group, _ in of_seed]
    )
    return interval.low, interval.high


def _of_seeds(figure: Share, values: Sequence[Values]) -> Share:
    """Puts the mean over seeds and its interval into a figure, where two seeds or more have a
    value."""
    there = [of_seed for of_seed in values if of_seed]
    if len(there) < 2:
        return figure
    seeds = over_seeds([[value for _, value in of] for of in there], [[group for group, _ in of] for of in there])
    ci95, per_seed = widest(seeds["ci95"], figure.ci95), tuple(seeds["per_seed"])
    return figure.model_copy(update={"share": seeds["mean"], "ci95": ci95, "per_seed": per_seed})
