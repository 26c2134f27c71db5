"""Audits the thinking part by part; the judge judges the answer. docs/process-audit.md defines each
part.

Like the judge, the audit takes any text, in time linear in its length, and executes nothing in it.
It reads the first `LONGEST` characters of a thought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ehrmind import tasks
from ehrmind.parsing.parse import parse
from ehrmind.process_audit.conclusion import CONCLUSION, LEAK, conclusion, leak, leaks
from ehrmind.process_audit.criteria import criteria_quoted
from ehrmind.process_audit.facts import Known, known
from ehrmind.process_audit.formula import FORMULA, formula, wording
from ehrmind.process_audit.grounding import ENTITIES, GROUNDING, entities, numbers_of, quotations, standing
from ehrmind.process_audit.sums import ARITHMETIC, listed_points, running_totals, sum_of_points
from ehrmind.process_audit.thought import Finding, Looked, Thought, read_thought
from ehrmind.prompts.protocol import ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from ehrmind.types import Case

__all__ = ["PARTS", "Finding", "Part", "ProcessAudit", "Said", "audit", "audit_thinking", "grounded", "known", "leaks"]

PARTS = (GROUNDING, ENTITIES, FORMULA, ARITHMETIC, CONCLUSION, LEAK)
LONGEST = 200_000  # characters of a thought that are read
SHOWN = 0.5  # share of the formula from which a thought counts as showing its working
NOT_EQUAL = "the expression comes to another value than is written"
OTHER_UNIT = "the units of the expression come to another unit than is written"
WRONG_DAY = "the days do not come to the day, or the time between, that is written"


class Part(NamedTuple):
    """How many things a part looked at, and how many of them are right."""

    checked: int
    passed: int

    @property
    def share(self) -> float:
        return self.passed / self.checked


@dataclass(frozen=True, slots=True)
class ProcessAudit:
    """The result of each part, or None if it found nothing to look at (never full marks).

    `findings` point into the text that was audited.
    """

    parts: Mapping[str, Part | None]
    findings: tuple[Finding, ...] = ()

    @property
    def flawed(self) -> bool:
        """True if something that is said is wrong: a finding with a place. What is only left unsaid
        is no flaw."""
        return any(finding.start is not None for finding in self.findings)

    @property
    def sound(self) -> bool:
        """True if nothing is flawed and at least half of the formula's steps or criteria are there:
        an answer without its working is not sound."""
        working = self.parts.get(FORMULA)
        return not self.flawed and (working is None or working.share >= SHOWN)


def audit(case: Case, text: str, think: bool = True, about: Known | None = None) -> ProcessAudit:
    """Audits a whole response. Raises InputError only for a case of an unknown family.

    `about` is `known(case)`, if the caller already has it.
    """
    thinking, start = thinking_of(text)
    given, unit, reason = parse(text, think)
    answer = tasks.of(case).check(case, given, unit)[0] if reason is None else None
    return audit_thinking(case, thinking, answer, start, about)


def audit_thinking(
    case: Case, thinking: str, answer: object = None, start: int = 0, about: Known | None = None
) -> ProcessAudit:
    """Audits a thought alone. Places count from `start`.

    `answer` is the answer as the task reads it; with None the conclusion is not checked.
    """
    thought = read_thought(thinking[:LONGEST], start)
    if not thought.tokens:
        return ProcessAudit(dict.fromkeys(PARTS))
    about = about or known(case)
    points = listed_points(thought) if about.is_score else []
    totals, explained = running_totals(thought) if about.calculator else (Looked(0, ()), frozenset[int]())
    looked = {
        GROUNDING: [
            numbers_of(thought, about, explained | {line.place for line in points}),
            quotations(thought, about),
            criteria_quoted(case, thought, about),
        ],
        ENTITIES: [entities(thought, about)],
        FORMULA: [formula(thought, about, points), wording(thought, about)],
        ARITHMETIC: [_steps(thought), totals, sum_of_points(thought, points)],
        CONCLUSION: [conclusion(case, thought, answer)],
        LEAK: [leak(case, thought)],
    }
    return _summed(looked)


class Said(NamedTuple):
    """A value or quotation in a thought, by its characters.

    `stands`: it is in the record or the question. Otherwise neither record, formula nor any step
    has it.
    """

    start: int
    end: int
    stands: bool


def grounded(case: Case, thinking: str, about: Known | None = None) -> tuple[Said, ...]:
    """Returns what a thought says about the record, in order. It looks at no gold answer.

    Values that only the formula or a step has are left out. A quotation wins over the values inside
    it.
    """
    thought = read_thought(thinking[:LONGEST])
    if not thought.tokens:
        return ()
    about = about or known(case)
    points = listed_points(thought) if about.is_score else []
    explained = running_totals(thought)[1] if about.calculator else frozenset[int]()
    looks = (
        numbers_of(thought, about, explained | {line.place for line in points}),
        quotations(thought, about),
        criteria_quoted(case, thought, about),
    )
    wrong = [
        Said(finding.start, finding.end, False)
        for look in looks
        for finding in look.findings
        if finding.start is not None and finding.end
    ]
    right = [Said(start, end, True) for start, end in standing(thought, about)]
    kept: list[Said] = []
    for said in sorted([*wrong, *right], key=lambda said: (said.start, -said.end, said.stands)):
        if not kept or said.start >= kept[-1].end:
            kept.append(said)
    return tuple(kept)


def _summed(looked: Mapping[str, list[Looked]]) -> ProcessAudit:
    parts: dict[str, Part | None] = {}
    for name, looks in looked.items():
        checked, wrong = sum(look.checked for look in looks), sum(len(look.findings) for look in looks)
        parts[name] = Part(checked, max(0, checked - wrong)) if checked else None
    return ProcessAudit(
        parts, tuple(finding for looks in looked.values() for look in looks for finding in look.findings)
    )


def _steps(thought: Thought) -> Looked:
    """Checks every equation and every calculation with days."""
    findings = []
    for step in thought.equations:
        if not step.right:
            findings.append(
                thought.found(
                    ARITHMETIC, step.start, max(step.end - 1, step.value), NOT_EQUAL, f"it comes to {step.comes_to:.6g}"
                )
            )
        elif step.unit_right is False:
            findings.append(thought.found(ARITHMETIC, step.start, max(step.end - 1, step.value), OTHER_UNIT))
    findings += [thought.found(ARITHMETIC, day.start, day.end, WRONG_DAY) for day in thought.days if not day.right]
    return Looked(len(thought.equations) + len(thought.days), tuple(findings))


def thinking_of(text: str) -> tuple[str, int]:
    """Returns (the thought, where it begins): the text inside its tags, or all text before the
    answer if there are no tags."""
    end = text.find(ANSWER_OPEN)
    head = text[: end if end >= 0 else len(text)]
    start = head.find(THINK_OPEN)
    start = 0 if start < 0 else start + len(THINK_OPEN)
    close = head.find(THINK_CLOSE, start)
    return head[start : close if close >= 0 else len(head)], start
