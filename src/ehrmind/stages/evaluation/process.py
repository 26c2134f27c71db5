"""The process audit of an arm's answers as figures: a share per part, and right answers whose
reasoning is flawed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ehrmind.config import Recipe
from ehrmind.process_audit import PARTS, ProcessAudit, audit
from ehrmind.process_audit.facts import Known, known, with_numbers_of
from ehrmind.runs import Run
from ehrmind.runs.records import CheckedPart, FindingCount, FlawedReasoning, ProcessFigures, RolloutRow, StageKey
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.statistics import mean_interval
from ehrmind.types import Case

MOST = 8  # kinds of findings that are counted one by one


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


def process_figures(run: Run, recipe: Recipe, arm: str, auditor: Auditor) -> ProcessFigures | None:
    """Audits one arm's answers under the headline decoding; None if the arm is not asked to
    think."""
    if not thinks(recipe, arm):
        return None
    rows = run.rollout_rows(str(StageKey.scoring(arm, recipe.evaluate.decodings[0])))
    audits = [(auditor.cases[row.case].group, row, auditor.audit(row)) for row in rows]
    by_patient = [(group, audited) for group, _, audited in audits]
    right = [(group, audited.flawed) for group, row, audited in audits if row.correct]
    times = Counter((finding.part, finding.what) for _, audited in by_patient for finding in audited.findings)
    return ProcessFigures(
        **{part: _checked(by_patient, part) for part in PARTS},
        right_but_flawed=_flawed(right),
        findings=tuple(
            FindingCount(part=part, what=what, times=count) for (part, what), count in times.most_common(MOST)
        ),
    )


def _checked(audits: Sequence[tuple[str, ProcessAudit]], name: str) -> CheckedPart | None:
    """Counts what one part checked over all answers, with an interval over patients; None if it
    checked nothing."""
    values: list[float] = []
    groups: list[str] = []
    by_group: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for group, audited in audits:
        if (part := audited.parts[name]) is not None:
            by_group[group][0] += part.checked
            by_group[group][1] += part.passed
    for group, (checked, passed) in by_group.items():
        values += [1.0] * passed + [0.0] * (checked - passed)
        groups += [group] * checked
    if not values:
        return None
    share, interval = sum(values) / len(values), mean_interval(values, groups)
    return CheckedPart(checked=len(values), passed=int(sum(values)), share=share, ci95=(interval.low, interval.high))


def _flawed(right: Sequence[tuple[str, bool]]) -> FlawedReasoning | None:
    if not right:
        return None
    values = [float(flawed) for _, flawed in right]
    share, interval = sum(values) / len(values), mean_interval(values, [group for group, _ in right])
    return FlawedReasoning(n=len(values), flawed=int(sum(values)), share=share, ci95=(interval.low, interval.high))
