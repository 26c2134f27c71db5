"""Checks grounding and entities: what a thought says about the patient is in the record, and it
says what the calculator needs."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from ehrmind.calculators.inputs import Choice
from ehrmind.process_audit.amounts import MOLAR_MASSES, Amounts, alike, bases_of, digits, kind_of, says
from ehrmind.process_audit.facts import Known, Needed, plain_text
from ehrmind.process_audit.numbers import Token
from ehrmind.process_audit.thought import Finding, Looked, Thought, is_list_number
from ehrmind.process_audit.units import Unit, unit_behind

GROUNDING, ENTITIES = "grounding", "entities"
NOT_THERE = "this number is in neither the record nor the formula, and no step gives it"
OTHER_UNIT = "the number is known, in another unit"
FOREIGN_UNIT = "nothing that the calculator takes or gives is measured in this unit"
DAY_NOT_THERE = "this day is not in the record, and no step gives it"
NOT_QUOTED = "what is quoted does not stand in the record"
NOT_SAID = "a value that the calculator needs is not said"
OTHER_WORD = "the record says something else"
# double quotation marks only: single ones name criteria
_QUOTED = re.compile(r'["“]([^"“”\n]{12,300})["”]')
_YES, _NO = frozenset({"present", "yes", "true"}), frozenset({"absent", "no", "false"})
_COMPARES = frozenset(
    {"between", "above", "below", "than", "least", "most", "from", "to", "over", "under", "exceeds", "equal"}
)
MANY = 64  # number of results that a number is compared with
_MOLAR: Unit = (("g", 1), ("mol", -1))
_VOLUMES: tuple[Unit, ...] = ((("dl", 1),), (("l", 1),), (("ml", 1),))
_DAYS: Unit = (("day", 1),)
_WEEKS: Unit = (("week", 1),)
_SKIPPED = frozenset({"point", "109", "106", "103"})


class Sources(NamedTuple):
    """The units that a number has where it may come from.

    `own`: as the patient's value or a result. `given`: as any number of the record. `constants`: in
    the formula. `free`: it is a factor between units.
    """

    own: list[Unit]
    given: list[Unit]
    constants: list[Unit]
    free: bool


def numbers_of(thought: Thought, known: Known, explained: Collection[int]) -> Looked:
    """Checks every number that no sum of points accounts for. Of results of steps it checks the
    unit only."""
    checked, findings = 0, list[Finding]()
    reached: dict[float, list[Unit]] = {}
    units_behind = _places_in_units(thought.tokens)
    counted = {step.end for step in thought.days if step.right}
    computed = {step.value for step in thought.equations if step.unit_right}
    for place, token in enumerate(thought.tokens):
        if token.kind == "date":
            checked += 1
            if token.date not in known.days and place not in counted:
                findings.append(thought.found(GROUNDING, place, place, DAY_NOT_THERE))
        if token.kind != "number" or place in units_behind or is_list_number(thought.tokens, place):
            continue
        unit, end = unit_behind(thought.tokens, place + 1)
        unit = unit or _of_the_pair(thought.tokens, place)
        is_result = place in thought.results
        sources = _sources(token, unit, known, reached)
        if not is_result and place not in explained:
            checked += 1
            if sources is None and not _is_bound(thought, place, known) and not _is_molar(thought, place, unit):
                findings.append(thought.found(GROUNDING, place, place, NOT_THERE))
        if (
            sources
            and unit
            and place not in computed
            and not _counts(unit)
            and not _fits(unit, sources)
            and not _of_weeks(thought, place, unit)
        ):
            checked += is_result or place in explained
            findings.append(thought.found(GROUNDING, place, max(place, end - 1), OTHER_UNIT))
        elif unit and known.bases and not bases_of([unit]) <= known.bases:
            checked += is_result or place in explained
            findings.append(thought.found(GROUNDING, place, max(place, end - 1), FOREIGN_UNIT))
        if is_result or sources is None:
            units = reached.setdefault(token.value, [])
            units += [] if (own := unit if is_result else ()) in units else [own]
    return Looked(checked, tuple(findings))


def _sources(token: Token, unit: Unit, known: Known, reached: dict[float, list[Unit]]) -> Sources | None:
    """Finds where a number may come from; None if it is not known at all."""
    own = known.inputs.units_of(token) + known.reached.units_of(token) + reached.get(token.value, [])
    given, constants, free = (
        known.given.units_of(token),
        known.constants.units_of(token),
        bool(known.factors.units_of(token)),
    )
    if not (own or given or constants or free) and unit == _WEEKS:
        free = bool(known.constants.units_of(token._replace(value=token.value * 7)))
    if not (own or given or constants or free) and digits(token) > 1 and len(reached) < MANY:
        own = [known_in for value, units in reached.items() if says(value, token) for known_in in units][:8]
    return Sources(own, given, constants, free) if own or given or constants or free else None


def _fits(unit: Unit, sources: Sources) -> bool:
    """True if a unit fits the sources of its number.

    The patient's values and the results must have their own unit. The formula's numbers may have
    another unit of the same kind, and a factor between units may have any.
    """
    own = [source for source in (*sources.own, *sources.given) if source]
    if any(alike(unit, source) for source in (*own, *sources.constants) if source):
        return True
    if any(source and not _counts(source) for source in sources.own):
        return sources.free and unit in _VOLUMES  # mg in 10 dL
    constants = [source for source in sources.constants if source]
    if sources.free or (sources.constants and not constants):
        return True
    if constants:
        return any(kind_of(unit) == kind_of(source) for source in constants)
    return not own


def _is_bound(thought: Thought, place: int, known: Known) -> bool:
    """True for the end of a band written from its own side: between 55 and 64, if the formula says
    65."""
    token = thought.tokens[place]
    if not any(thought.word(back) in _COMPARES for back in range(max(0, place - 8), place)):
        return False
    ends = (token.value + token.worth, token.value - token.worth, token.value + 1, token.value - 1)
    return any(known.constants.units_of(token._replace(value=end, worth=0.0)) for end in ends if end > 0)


def _is_molar(thought: Thought, place: int, unit: Unit) -> bool:
    """True for a molar mass, by any table of atomic weights."""
    value = thought.tokens[place].value
    return unit == _MOLAR and any(math.isclose(value, mass, rel_tol=0.03) for mass in MOLAR_MASSES)


def _of_weeks(thought: Thought, place: int, unit: Unit) -> bool:
    """True for the days of `9 weeks, 2 days`."""
    before = [
        unit_behind(thought.tokens, back + 1)[0]
        for back in range(max(0, place - 3), place)
        if thought.kind(back) == "number"
    ]
    return unit == _DAYS and _WEEKS in before


def _counts(unit: Unit) -> bool:
    return all(name in _SKIPPED for name, _ in unit)


def _of_the_pair(tokens: Sequence[Token], place: int) -> Unit:
    """Returns the unit of 120 in `120/80 mm Hg`."""
    if place + 2 < len(tokens) and tokens[place + 1].kind == "/" and tokens[place + 2].kind == "number":
        unit = unit_behind(tokens, place + 3)[0]
        return unit if unit == (("mmhg", 1),) else ()
    return ()


def _places_in_units(tokens: Sequence[Token]) -> frozenset[int]:
    """Returns the places of numbers that belong to a unit: 1.73 m^2."""
    found: set[int] = set()
    for place, token in enumerate(tokens):
        if token.kind == "number":
            end = unit_behind(tokens, place + 1)[1]
            found |= {inside for inside in range(place + 1, end) if tokens[inside].kind == "number"}
    return frozenset(found)


def quotations(thought: Thought, known: Known) -> Looked:
    """Checks that longer quotations stand in the record, words and numbers, ignoring
    punctuation."""
    checked, findings = 0, list[Finding]()
    for match in _QUOTED.finditer(thought.text):
        checked += 1
        if plain_text(match[1]) not in known.text:
            start, end = match.span()
            findings.append(Finding(GROUNDING, thought.offset + start, thought.offset + end, NOT_QUOTED))
    return Looked(checked, tuple(findings))


def standing(thought: Thought, known: Known) -> list[tuple[int, int]]:
    """Returns where a thought says a number, a day or a longer quotation that is in the record or
    the question."""
    units_behind, quoted = _places_in_units(thought.tokens), _QUOTED.finditer(thought.text)
    found = [match.span() for match in quoted if plain_text(match[1]) in known.text]
    for place, token in enumerate(thought.tokens):
        number = token.kind == "number" and place not in units_behind and not is_list_number(thought.tokens, place)
        if (number and known.given.units_of(token)) or (token.kind == "date" and token.date in known.days):
            found.append((token.start, token.end))
    return found


def entities(thought: Thought, known: Known) -> Looked:
    """Checks each value that the case says its note holds, if a formula takes it.

    A number must appear with its unit, and a day must appear. Words are checked if the thought
    speaks of them.
    """
    checked, findings = 0, list[Finding]()
    said = Amounts.of((token.value, unit_behind(thought.tokens, place + 1)[0]) for place, token in _numbers(thought))
    words = frozenset(token.text for token in thought.tokens if token.kind == "word")
    days = {token.date for token in thought.tokens if token.date}
    for need in known.needed:
        looked = _looked_for(thought, need, said, words, days)
        if looked is None:
            continue
        checked += 1
        if isinstance(looked, Finding):
            findings.append(looked)
    return Looked(checked, tuple(findings))


def _looked_for(
    thought: Thought, need: Needed, said: Amounts, words: Collection[str], days: Collection[object]
) -> Finding | Literal[True] | None:
    """Returns True if the input was found, a finding if it is missing or wrong, None if there is
    nothing to look for."""
    label = need.item.label
    if need.values:
        if any(_is_said(thought, value, unit) for value, unit in need.values):
            return True
        return Finding(ENTITIES, None, None, NOT_SAID, label)
    if need.day is not None:
        return True if need.day in days else Finding(ENTITIES, None, None, NOT_SAID, label)
    if isinstance(need.item, Choice):
        return _chosen(thought, need, need.item)
    if need.present is not None:
        return _stated(thought, need, need.present, words)
    return None


def _is_said(thought: Thought, value: float, unit: Unit) -> bool:
    for place, token in _numbers(thought):
        if says(value, token):
            written = unit_behind(thought.tokens, place + 1)[0] or _of_the_pair(thought.tokens, place)
            if alike(written, unit):
                return True
    return False


def _numbers(thought: Thought) -> list[tuple[int, Token]]:
    return [(place, token) for place, token in enumerate(thought.tokens) if token.kind == "number"]


def _chosen(thought: Thought, need: Needed, item: Choice) -> Finding | Literal[True] | None:
    """Checks the option chosen. It is right if its own words appear and wrong if only another
    option's do; otherwise nothing was said."""
    text = f" {plain_text(thought.text)} "
    options = {option: (option, *others) for option, others in item.options.items()}
    if any(f" {plain_text(word)} " in text for word in options[need.word]):
        return True
    if item.name != "sex":
        return None
    for option, spellings in options.items():
        for spelling in spellings:
            if option != need.word and len(spelling) > 1 and f" {spelling} " in text:
                place = next((n for n, token in enumerate(thought.tokens) if token.text == spelling), None)
                return None if place is None else thought.found(ENTITIES, place, place, OTHER_WORD, item.label)
    return None


def _stated(thought: Thought, need: Needed, present: bool, said: Collection[str]) -> Finding | Literal[True] | None:
    """Checks a finding that a sentence names and calls present or absent right after its name."""
    name = re.findall(r"[a-z0-9']+", need.item.label.lower())
    if not all(word in said for word in name):
        return None
    for first, last in thought.sentences:
        words = [thought.word(place) for place in range(first, last)]
        begins = next((at for at in range(len(words) - len(name) + 1) if words[at : at + len(name)] == name), None)
        if begins is None or {"or", "and"} & set(words):
            continue
        behind = first + begins + len(name)
        for place in range(behind, min(last, behind + 3)):
            if thought.word(place) in _YES | _NO:
                right = (thought.word(place) in _YES) is present
                return True if right else thought.found(ENTITIES, place, place, OTHER_WORD, need.item.label)
    return None
