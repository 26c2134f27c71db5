"""Checks points that are added up along a thought.

Examples: `making the total 1 + 1 = 2`, `keeping it at 2`, `hypertension yes 1 ; … ; total 4`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ehrmind.process_audit.steps import Equation
from ehrmind.process_audit.thought import Finding, Looked, Thought

ARITHMETIC = "arithmetic"
NOT_FROM_TOTAL = "the sum does not go on from the total before it"
NOT_THE_POINTS = "the points that are said are not the points that are added"
NOT_KEPT = "the total that is kept is not the total before"
NOT_ZERO = "the points do not begin at zero"
NOT_THE_SUM = "the total is not the sum of the points"
NOT_THE_LINE = "a term of the sum is not the points of its criterion"
_TOTALS = frozenset({"total", "score", "count", "index", "points", "criteria", "it", "equivalents"})
_KEPT = frozenset(
    {"keep", "keeps", "keeping", "kept", "remain", "remains", "unchanged", "stays", "leaving", "maintain", "same"}
)
_WORDS = {
    "no": 0.0,
    "zero": 0.0,
    "one": 1.0,
    "two": 2.0,
    "three": 3.0,
    "four": 4.0,
    "five": 5.0,
    "six": 6.0,
    "seven": 7.0,
    "eight": 8.0,
}
_RAISES = frozenset(
    {
        "add",
        "adds",
        "adding",
        "added",
        "increase",
        "increases",
        "increased",
        "increment",
        "incremented",
        "decrease",
        "decreased",
        "subtract",
    }
)
_NEAR = 40  # tokens before a number in which a total may be mentioned


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one criterion as a thought gives them, and the token that says so."""

    place: int
    value: float


def running_totals(thought: Thought) -> tuple[Looked, frozenset[int]]:
    """Returns (what is wrong with the totals, the tokens of numbers that are accounted for)."""
    checked, findings, explained = 0, list[Finding](), set[int]()
    totals: set[float] = set()
    steps = {step.value: step for step in thought.equations if step.terms}
    for first, last in thought.sentences:
        spoken = False
        begin = first
        for place in range(first, last):
            if thought.word(place) in _TOTALS:
                spoken = True
            if thought.kind(place) != "number":
                continue
            step = steps.get(place)
            if step is not None and len(step.terms) == 2 and spoken:
                found = _gone_on(thought, step, totals, begin)
                checked += 1
                findings += [found] if found else []
                totals, begin = {thought.signed(place)}, place + 1
                explained |= {*step.terms, place}
            elif (
                spoken
                and _is_kept(thought, first, place)
                and place not in thought.operands
                and place not in thought.results
            ):
                value = thought.signed(place)
                explained.add(place)
                if not totals and value and _is_current(thought, first, place):
                    checked, value = checked + 1, 0.0
                    findings.append(thought.found(ARITHMETIC, place, place, NOT_ZERO))
                added = [found for found in _said(thought, begin, place) if found[1] and place - found[0] > 1]
                if added and _is_kept_word(thought, first, place):
                    findings.append(thought.found(ARITHMETIC, added[-1][0], added[-1][0], NOT_THE_POINTS))
                if totals:
                    checked += 1
                    findings += [] if value in totals else [thought.found(ARITHMETIC, place, place, NOT_KEPT)]
                totals = {value} if value in totals or not totals else {*totals, value}
            elif (
                totals
                and _is_made(thought, first, place)
                and place not in thought.operands
                and place not in thought.results
            ):
                value, said = thought.signed(place), _said(thought, begin, place)
                checked, explained = checked + bool(said), explained | {place}
                right = any(
                    abs(total + sign * points - value) < 1e-9
                    for total in totals
                    for _, points in said
                    for sign in (1, -1)
                )
                findings += [] if right or not said else [thought.found(ARITHMETIC, place, place, NOT_FROM_TOTAL)]
                totals = {value}
    return Looked(checked, tuple(findings)), frozenset(explained)


def _gone_on(thought: Thought, step: Equation, totals: set[float], begin: int) -> Finding | None:
    values = terms_of(thought, step)
    if totals and not totals & set(values):
        return thought.found(ARITHMETIC, step.start, step.value, NOT_FROM_TOTAL)
    said = _said(thought, begin, step.start)
    if not said:
        return None
    added = [abs(values[1 - place]) for place in (0, 1) if not totals or values[place] in totals]
    return (
        None
        if any(value in added for _, value in said)
        else thought.found(ARITHMETIC, said[-1][0], said[-1][0], NOT_THE_POINTS)
    )


def terms_of(thought: Thought, step: Equation) -> list[float]:
    """Returns the terms of a sum with their signs."""
    values = []
    before = step.start
    for place in step.terms:
        minus = sum(thought.kind(between) == "-" for between in range(before, place))
        values.append(-thought.tokens[place].value if minus % 2 else thought.tokens[place].value)
        before = place + 1
    return values


def _said(thought: Thought, begin: int, end: int) -> list[tuple[int, float]]:
    """Finds points named before a sum in its sentence: `add two points`, `by 1.5`, `1 point is
    added`."""
    found = []
    for place in range(max(begin, end - _NEAR), end):
        value = thought.tokens[place].value if thought.kind(place) == "number" else _WORDS.get(thought.word(place))
        if value is None:
            continue
        counted = thought.word(place + 1) in ("point", "points") and thought.word(place - 1) != "a"
        by = thought.word(place - 1) == "by" and any(
            thought.word(back) in _RAISES for back in range(max(begin, place - 8), place)
        )
        added = thought.word(place - 1) in _RAISES and thought.word(place + 1) in ("to", "point", "points")
        if counted or by or added:
            found.append((place, abs(value)))
    return found


def _is_kept(thought: Thought, first: int, place: int) -> bool:
    """True for `keeping the current total at 2`, `the total remains at 1`, `the current score is
    0`."""
    before = thought.word(place - 1) or (thought.word(place - 2) if thought.kind(place - 1) == "-" else "")
    since = range(max(first, place - _NEAR), place)
    if before in ("at", "to"):
        return any(thought.word(back) in _KEPT for back in since)
    if before == "is" and thought.word(place - 2) in ("score", "index") and thought.word(place - 3) != "coma":
        return True
    return before in ("is", "at", "currently") and _is_current(thought, first, place)


def _is_kept_word(thought: Thought, first: int, place: int) -> bool:
    return any(thought.word(back) in _KEPT for back in range(max(first, place - _NEAR), place))


def _is_current(thought: Thought, first: int, place: int) -> bool:
    words = {thought.word(back) for back in range(max(first, place - _NEAR), place)}
    return bool(words & {"current", "currently", "curent"}) and bool(
        words & {"score", "total", "count", "index", "equivalents"}
    )


def _is_made(thought: Thought, first: int, place: int) -> bool:
    """True for `making the current total 5` without a written sum."""
    words = [thought.word(back) for back in range(max(first, place - 5), place)]
    return (
        words[-1:] in (["total"], ["score"], ["count"], ["to"])
        and "making" in words
        and thought.kind(place + 1) not in ("+", "-")
    )


def listed_points(thought: Thought) -> list[Points]:
    """Reads points listed one criterion a line: `3. melena: present, 1 point`.

    If no line is like that, it reads the short form: `melena yes 1 ;`.
    """
    lines = [
        (first, last)
        for first, last in thought.sentences
        if all(thought.kind(place) != "=" for place in range(first, last))
    ]
    found = [
        Points(last - 2, thought.signed(last - 2))
        for _, last in lines
        if thought.word(last - 1) in ("point", "points")
        and thought.kind(last - 2) == "number"
        and _behind_comma(thought, last - 2)
    ]
    if found or sum(thought.kind(last) == ";" for _, last in thought.sentences) < 2:
        return found
    return [
        Points(last - 1, thought.signed(last - 1))
        for first, last in lines
        if thought.kind(last - 1) == "number" and last - first > 1 and thought.word(first) != "total"
    ]


def _behind_comma(thought: Thought, place: int) -> bool:
    return "," in (thought.kind(place - 1), thought.kind(place - 2) if thought.kind(place - 1) == "-" else "")


def sum_of_points(thought: Thought, points: Sequence[Points]) -> Looked:
    """Checks the one sum at the end against the lines before it, term by term."""
    if len(points) < 2:
        return Looked(0, ())
    values = [line.value for line in points]
    long = [step for step in thought.equations if len(step.terms) > 1 and step.start > points[-1].place]
    if long:
        step = long[0]
        terms = terms_of(thought, step)
        if len(terms) != len(values):
            wrong = abs(sum(values) - thought.signed(step.value)) > 1e-9
            return Looked(1, (thought.found(ARITHMETIC, step.start, step.value, NOT_THE_SUM),) if wrong else ())
        unlike = [line for line, term in zip(points, terms, strict=True) if line.value != term]
        findings = (
            [thought.found(ARITHMETIC, line.place, line.place, NOT_THE_LINE) for line in unlike] if step.right else []
        )
        return Looked(len(values), tuple(findings))
    total = _last_total(thought, points[-1].place)
    if total is None:
        return Looked(0, ())
    wrong = abs(sum(values) - thought.signed(total)) > 1e-9
    return Looked(1, (thought.found(ARITHMETIC, total - 1, total, NOT_THE_SUM),) if wrong else ())


def _last_total(thought: Thought, behind: int) -> int | None:
    """Returns the place of the number in `total 4`, if that is the last statement."""
    for first, last in reversed(thought.sentences):
        if first > behind and thought.word(first) == "total" and thought.kind(last - 1) == "number":
            return last - 1
    return None
