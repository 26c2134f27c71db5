"""Makes synthetic MedCalc cases, as many as needed.

A patient is drawn, a note is written with the calculator's inputs, and the calculator gives the
truth. Item i is a pure function of (seed, i) for a choice of calculators, difficulty, manners and
styles. The calculator gets the same literals as the note, so the truth is what a reader who finds
them computes. For an input that the note leaves out, the score's own rule gives the value. The
case's provenance has every input and its words in the note.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ehrmind.calculators import CALCULATORS, Calculator, Result
from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.calculators.inputs import Day, Flag, Input, Quantity
from ehrmind.calculators.labels import truth_of
from ehrmind.calculators.telling import STYLES
from ehrmind.calculators.telling import stated as words_of
from ehrmind.calculators.units import convert
from ehrmind.data.splits import note_group
from ehrmind.data.synthetic.notes import MANNERS, Fact, Person, Section
from ehrmind.data.synthetic.patients import Patient, draw_value
from ehrmind.data.synthetic.phrases import (
    ALSO_CALLED,
    ASIDES,
    OTHER_TESTS,
    RELATIVES,
    SAID_THE_OTHER_WAY,
    VITALS,
    WRITTEN,
)
from ehrmind.types import Case, InputError, Split

# Tries for a patient with a defined result; a delta ratio is not defined at a bicarbonate of 24.
ATTEMPTS = 50
ADMISSION = "admission"


@dataclass(frozen=True, slots=True)
class Level:
    """Difficulty of a note. Pairs are lowest and highest counts; floats are probabilities."""

    asides: tuple[int, int]
    other_tests: tuple[int, int]
    other_names: float
    other_units: float
    stated_absent: float
    left_to_default: float
    repeated: float
    relatives: float
    drugs: int


LEVELS: dict[str, Level] = {
    "easy": Level((1, 1), (1, 2), 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1),
    "medium": Level((1, 3), (1, 4), 0.3, 0.25, 0.7, 0.3, 0.15, 0.0, 2),
    "hard": Level((3, 8), (4, 10), 0.5, 0.5, 0.5, 0.6, 0.5, 0.5, 3),
}
# easy: everything stated once in usual units. medium: some other units and names, and some absent
# findings are not mentioned. hard: long notes, half of the values in other units, values over time
# of which the question asks for one, relatives' values.
Difficulty = Literal["easy", "medium", "hard"]

AGES = {"maintenance-fluids": (0.2, 90.0)}  # calculators for children too that do not ask for the age
RULES = {
    "first": "Use the values on admission.",
    "latest": "Where a value was measured more than once, use the latest one.",
}


def synthetic_cases(
    n: int,
    seed: int,
    split: Split,
    tasks: Sequence[str] = (),
    *,
    difficulty: Difficulty = "medium",
    manners: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> list[Case]:
    """Makes the first n items of a seed, with the calculators in turn.

    `manners` of the notes and `styles` of the worked answers default to all. Raises InputError for
    an unknown calculator, manner or style.
    """
    calculators = [CALCULATORS[task] for task in tasks] or list(CALCULATORS.values())
    for asked, known, what in (
        (manners, MANNERS, "manner of writing notes"),
        (styles, STYLES, "style of worked answers"),
    ):
        if unknown := sorted(set(asked) - set(known)):
            raise InputError(f"'{unknown[0]}' is not a {what}; there are {', '.join(known)}.")
    return [
        synthetic_case(seed, index, split, calculators[index % len(calculators)], difficulty, manners, styles)
        for index in range(n)
    ]


def synthetic_case(
    seed: int,
    index: int,
    split: Split,
    calculator: Calculator,
    difficulty: Difficulty = "medium",
    manners: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> Case:
    draw = random.Random(f"{seed}:{index}")
    level, manner = LEVELS[difficulty], draw.choice(tuple(manners) or tuple(MANNERS))
    patient, given, result = _worked(calculator, level, draw)
    facts, stated, rule = _facts(calculator, patient, given, level, manner, draw)
    asides, others = _irrelevant(level, draw)
    note = MANNERS[manner](_person(patient), [*facts, *others], asides, draw)
    style = draw.choice(tuple(styles) or tuple(STYLES))
    return Case(
        id=f"made-up-{seed}-{index}",
        family="medcalc",
        task=calculator.slug,
        stratum=f"medcalc/{calculator.category}/{calculator.slug}",
        split=split,
        group=note_group(note),
        fields={"note": note, "question": calculator.question + rule},
        truth=truth_of(CATALOGUE[calculator.id], result),
        rationale=_rationale(style, calculator, result, facts),
        provenance={
            "generator": "made-up",
            "seed": seed,
            "index": index,
            "difficulty": difficulty,
            "manner": manner,
            "age": round(patient.age, 2),
            "sex": patient.sex,
            "inputs": {name: _json(value) for name, value in given.items()},
            "stated": stated,
        },
    )


def _rationale(style: str, calculator: Calculator, result: Result, facts: Sequence[Fact]) -> str:
    """Writes the steps in a style.

    A jotted calculation begins with the note's facts, as a jotted score does: read first, then
    compute.
    """
    working = STYLES[style](calculator, result)
    if style != "jotted" or any(step.points is not None for step in result.steps):
        return working
    return " ; ".join([*(f"{fact.label} {fact.value}" for fact in facts), working])


def _worked(calculator: Calculator, level: Level, draw: random.Random) -> tuple[Patient, dict[str, Any], Result]:
    """Returns a patient with a defined result, the inputs in the note, and the result."""
    for _ in range(ATTEMPTS):
        patient = _patient(calculator, draw)
        given = {
            item.name: _written(item, value, patient, level, draw)
            for item in _asked(calculator, level, draw)
            if _is_stated(item, value := draw_value(patient, item), level, draw)
        }
        try:
            return patient, given, calculator(**given)
        except InputError:
            continue
    raise AssertionError(
        f"no patient for {calculator.slug} in {ATTEMPTS} draws; its inputs' ranges and MEASUREMENTS disagree"
    )


def _patient(calculator: Calculator, draw: random.Random) -> Patient:
    inputs = {item.name: item for item in calculator.inputs}
    if "last_period" in inputs:
        return Patient(draw, (16, 45), ("female",))
    age = inputs.get("age")
    ages = (age.low, age.high) if isinstance(age, Quantity) else AGES.get(calculator.slug, (18, 97))
    flags = sum(isinstance(item, Flag) for item in calculator.inputs)
    return Patient(draw, ages, flag_rate=min(0.45, max(0.12, 3 / max(flags, 1))))


def _asked(calculator: Calculator, level: Level, draw: random.Random) -> list[Input]:
    """Lists the calculator's inputs; of many drugs, only the few that the patient takes."""
    doses = [item.name.removesuffix("_dose") for item in calculator.inputs if item.name.endswith("_dose")]
    if len(doses) < 2:
        return list(calculator.inputs)
    taken = draw.sample(doses, k=draw.randint(1, level.drugs))
    return [
        replace(item, because="")
        for item in calculator.inputs
        if item.name.startswith(tuple(f"{name}_dose" for name in taken))
    ]


def _is_stated(item: Input, value: Any, level: Level, draw: random.Random) -> bool:
    """Decides whether the note states an input; if not, its value must be the score's default."""
    if isinstance(item, Flag):
        return value or item.default is not False or draw.random() < level.stated_absent
    if isinstance(item, Quantity) and value == item.default == 0:
        return False  # notes do not mention an infusion that is not given
    return not item.because or draw.random() >= level.left_to_default


def _written(item: Input, value: Any, patient: Patient, level: Level, draw: random.Random) -> Any:
    """Converts a value to the form in the note: (number, unit), a bare number, a word or a date."""
    if not isinstance(item, Quantity):
        return value
    if item.name == "age":
        return int(value) if value >= 2 else (round(value * 12), "months")
    if item.name.endswith("_doses_per_day"):
        return int(value)
    choices = WRITTEN.get(item.name, ((item.unit, 0),))
    unit, digits = draw.choice(choices) if draw.random() < level.other_units else choices[0]
    number = round(convert(value, item.unit, unit, item.analyte) if unit else value, digits)
    number = int(number) if digits <= 0 else number
    return (number, unit) if unit else number


def _facts(
    calculator: Calculator, patient: Patient, given: dict[str, Any], level: Level, manner: str, draw: random.Random
) -> tuple[list[Fact], dict[str, str], str]:
    """Returns the note's facts, the words of each input, and the rule for repeated values."""
    rule = draw.choice(tuple(RULES)) if draw.random() < level.repeated else None
    facts: list[Fact] = []
    stated: dict[str, str] = {}
    for item in calculator.inputs:
        if item.name in ("age", "sex") and item.name in given:
            person = _person(patient)
            stated[item.name] = person.age.split()[0] if item.name == "age" else person.noun
        elif item.name in given:
            value = given[item.name]
            fact = Fact(_section(item), _label(item, level, draw), words_of(value))
            if item.name in SAID_THE_OTHER_WAY and manner != "telegraphic":
                fact = Fact("findings", SAID_THE_OTHER_WAY[item.name], words_of(not value))
            if (
                rule
                and isinstance(item, Quantity)
                and item.name not in ("height", "systolic", "diastolic")
                and draw.random() < 0.6
            ):
                fact = _measured_again(fact, item, value, rule, draw)
            stated[item.name] = fact.label if isinstance(item, Flag) else fact.value
            facts.append(fact)
    facts = _with_doses(_with_one_pressure(facts, stated), stated)
    return facts, stated, f" {RULES[rule]}" if rule and any(fact.moments for fact in facts) else ""


def _measured_again(fact: Fact, item: Quantity, value: Any, rule: str, draw: random.Random) -> Fact:
    """Adds a second measurement to a fact. `rule` says which of the two is the input's value."""
    number, unit = value if isinstance(value, tuple) else (value, "")
    digits = next((digits for name, digits in WRITTEN.get(item.name, ()) if name == unit), 1)
    other = round(number * draw.uniform(0.8, 1.25), digits)
    other_text = words_of((int(other) if digits <= 0 else other, unit) if unit else other)
    day = f"day {draw.randint(2, 9)}"
    moments = (
        ((ADMISSION, fact.value), (day, other_text))
        if rule == "first"
        else ((ADMISSION, other_text), (day, fact.value))
    )
    return Fact(fact.section, fact.label, fact.value, moments)


def _with_one_pressure(facts: list[Fact], stated: dict[str, str]) -> list[Fact]:
    """Joins systolic and diastolic pressure into one fact: 120/80 mm Hg."""
    if not {"systolic", "diastolic"} <= stated.keys():
        return facts
    both = f"{stated['systolic'].split()[0]}/{stated['diastolic']}"
    stated |= {"systolic": both, "diastolic": both}
    return [*(fact for fact in facts if "blood pressure" not in fact.label), Fact("vitals", "blood pressure", both)]


def _with_doses(facts: list[Fact], stated: dict[str, str]) -> list[Fact]:
    """Joins a dose and its frequency into one fact: oxycodone 10 mg 3 times a day."""
    kept = [fact for fact in facts if not fact.label.endswith(" doses per day")]
    for place, fact in enumerate(kept):
        drug = fact.label.removesuffix(" dose")
        often = next((other.value.split()[0] for other in facts if other.label == f"{drug} doses per day"), None)
        if often is not None:
            kept[place] = Fact("results", drug, f"{fact.value} {often} times a day")
            stated[f"{drug.replace(' ', '_')}_doses_per_day"] = f"{often} times a day"
    return kept


def _irrelevant(level: Level, draw: random.Random) -> tuple[list[str], list[Fact]]:
    asides = draw.sample(ASIDES, k=draw.randint(*level.asides))
    if draw.random() < level.relatives:
        test, low, high, _, unit = draw.choice(OTHER_TESTS)
        asides.append(f"the {draw.choice(RELATIVES)}'s {test} was {draw.uniform(low, high):.3g} {unit} last year")
    tests = draw.sample(OTHER_TESTS, k=draw.randint(*level.other_tests))
    return asides, [
        Fact("results", name, f"{draw.uniform(low, high):.{digits}f} {unit}") for name, low, high, digits, unit in tests
    ]


def _person(patient: Patient) -> Person:
    age = f"{int(patient.age)} year" if patient.age >= 2 else f"{round(patient.age * 12)} month"
    return Person(age, patient.sex, child=patient.age < 18)


def _label(item: Input, level: Level, draw: random.Random) -> str:
    others = ALSO_CALLED.get(item.name, ())
    return draw.choice(others) if others and draw.random() < level.other_names else item.label


def _section(item: Input) -> Section:
    if isinstance(item, Day):
        return "dates"
    if isinstance(item, Quantity):
        return "vitals" if item.name in VITALS else "results"
    return "findings"


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else list(value) if isinstance(value, tuple) else value
