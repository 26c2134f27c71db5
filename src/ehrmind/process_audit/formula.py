"""Checks the formula: finds the calculator's steps in a thought by value or constants, and a
score's criteria by name and points."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from ehrmind.calculators.working import Result, Step
from ehrmind.process_audit.amounts import alike, digits, says
from ehrmind.process_audit.facts import Known, criteria, plain_text, words_before
from ehrmind.process_audit.numbers import Token, tokens
from ehrmind.process_audit.sums import Points
from ehrmind.process_audit.thought import Finding, Looked, Thought
from ehrmind.process_audit.units import unit_behind

FORMULA = "formula"
NO_STEP = "a step of the formula is not taken"
NO_CRITERION = "a criterion of the score is not named"
OTHER_NUMBER = "the formula has another number behind these words"
OTHER_UNIT = "the formula has another unit behind these words"
OTHER_POINTS = "the criterion earns other points than the score gives it"
_LIMIT = re.compile(r",| (?:above|below|of|from|at most) |\(")
_SMALL = frozenset(
    {
        "of",
        "or",
        "the",
        "a",
        "an",
        "in",
        "on",
        "at",
        "and",
        "for",
        "to",
        "with",
        "than",
        "by",
        "as",
        "is",
        "per",
        "least",
        "most",
        "more",
        "less",
    }
)
STEM = 5  # letters of a word that are compared: edema, edematous
NAMED = 0.5  # share of a criterion's words that suffices to name it
NEAR = 0.005
ENOUGH = 3  # numbers with fewer digits say little: 0, 1, 12


def formula(thought: Thought, known: Known, points: Sequence[Points]) -> Looked:
    """Compares a thought with the calculator's own working, in the convention that the thought
    follows best."""
    if not known.results:
        return Looked(0, ())
    numbers = [token for token in thought.tokens if token.kind == "number"]
    values = frozenset(token.value for token in numbers)
    stems = frozenset(word[:STEM] for word in plain_text(thought.text).split())
    looks = [_against(thought, known, result, points, numbers, values, stems) for result in known.results]
    return min(looks, key=lambda look: (len(look.findings), -look.checked))


def wording(thought: Thought, known: Known) -> Looked:
    """Checks numbers after words that the calculator's own working has too: `heart rate above 90`,
    `sex factor 1`.

    Another number there is a flaw.
    """
    checked, findings = 0, list[Finding]()
    for place, token in enumerate(thought.tokens):
        before = words_before(thought.tokens, place) if token.kind == "number" else None
        if before is None or before not in known.wording:
            continue
        checked += 1
        unit, end = unit_behind(thought.tokens, place + 1)
        same = [known_in for value, known_in in known.wording[before] if says(value, token) or value == token.value]
        if not same:
            findings.append(thought.found(FORMULA, place, place, OTHER_NUMBER))
        elif unit and all(same) and not any(alike(unit, known_in) for known_in in same):
            findings.append(thought.found(FORMULA, place, end - 1, OTHER_UNIT))
    return Looked(checked, tuple(findings))


def _against(
    thought: Thought,
    known: Known,
    result: Result,
    points: Sequence[Points],
    numbers: Sequence[Token],
    values: Collection[float],
    stems: Collection[str],
) -> Looked:
    earning = criteria(result)
    checked, findings = 0, list[Finding]()
    listed = len(points) == len(earning)
    for place, step in enumerate(earning):
        checked += 1
        if not any(_is_named(name, stems) for name in _names(step, known)):
            findings.append(Finding(FORMULA, None, None, NO_CRITERION, step.what))
        elif listed and points[place].value != step.points:
            findings.append(thought.found(FORMULA, points[place].place, points[place].place, OTHER_POINTS, step.what))
    for step in () if earning else result.steps:
        if not step.expression or not isinstance(step.value, int | float) or " in " in step.what:
            continue
        checked += 1
        if not _is_taken(step, numbers, values):
            findings.append(Finding(FORMULA, None, None, NO_STEP, step.what))
    return Looked(checked, tuple(findings))


def _names(step: Step, known: Known) -> list[str]:
    """Lists the names of a criterion: the step's own, and those of the inputs it is about."""
    own = _LIMIT.split(step.what.lower(), maxsplit=1)[0]
    inputs = known.calculator.inputs if known.calculator else ()
    about = [
        item
        for item in inputs
        if _words(item.label) and (_words(item.label) <= _words(own) or _words(own) <= _words(item.label))
    ]
    return [own, *(name for item in about for name in (item.label, *item.entities))]


@lru_cache(maxsize=8192)
def _words(name: str) -> frozenset[str]:
    return frozenset(word[:STEM] for word in re.findall(r"[a-z][a-z0-9]+", name.lower()) if word not in _SMALL)


def _is_named(name: str, stems: Collection[str]) -> bool:
    words = _words(name)
    return not words or sum(word in stems for word in words) >= NAMED * len(words)


def _is_taken(step: Step, numbers: Sequence[Token], values: Collection[float]) -> bool:
    """True if the thought has the step's value, or the numbers in its expression that do not come
    from the patient."""
    assert isinstance(step.value, int | float)
    if any(says(step.value, token) or (digits(token) >= ENOUGH and _is_near(step.value, token)) for token in numbers):
        return True
    constants = [token.value for token in tokens(step.expression) if token.kind == "number" and digits(token) < ENOUGH]
    return bool(constants) and all(value in values for value in constants)


def _is_near(value: float, token: Token) -> bool:
    """True if a value is close enough to be the step computed with rounded numbers."""
    return math.isclose(abs(value), token.value, rel_tol=NEAR)
