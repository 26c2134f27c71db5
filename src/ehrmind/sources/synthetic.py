"""Made-up MedCalc cases: five calculators over invented patients, for the demo and the tests.

Item i is a pure function of (seed, i). A patient is a handful of values; the note states those that the calculator needs and
some that it does not, in a drawn order; the truth is computed here from the published rule; the rationale names every step.
No record of any person went into it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.sources.splits import note_group
from ehrmind.types import Case, InputError, Split

Patient = dict[str, Any]


@dataclass(frozen=True)
class Criterion:
    """One yes/no item of a score: what it is called, how its value reads, and when it counts."""

    name: str
    reading: Callable[[Patient], str]
    met: Callable[[Patient], bool]


@dataclass(frozen=True)
class Rule:
    """A calculator's question, the values it needs, and its working: (steps, answer)."""

    calculator: int
    question: str
    needs: tuple[str, ...]
    work: Callable[[Patient], tuple[list[str], float]]


def made_up_cases(n: int, seed: int, split: Split, tasks: Sequence[str] = ()) -> list[Case]:
    """The first n items of a seed, the calculators in turn. Raises InputError for a task that is not made up here."""
    unknown = sorted(set(tasks) - set(RULES))
    if unknown:
        raise InputError(f"No made-up cases for {', '.join(unknown)}; there are {', '.join(RULES)}.")
    return [made_up_case(seed, index, split, tuple(tasks) or tuple(RULES)) for index in range(n)]


def made_up_case(seed: int, index: int, split: Split, tasks: tuple[str, ...]) -> Case:
    slug, patient, note = made_up(seed, index, tasks)
    rule = RULES[slug]
    steps, value = rule.work(patient)
    calculator = CATALOGUE[rule.calculator]
    return Case(
        id=f"made-up-{seed}-{index}",
        family="medcalc",
        task=slug,
        stratum=f"medcalc/{calculator.category}/{slug}",
        split=split,
        group=note_group(note),
        fields={"note": note, "question": rule.question},
        truth=_truth(rule.calculator, value),
        rationale=" ; ".join(steps),
        provenance={"generator": "made-up", "seed": seed, "index": index},
    )


def made_up(seed: int, index: int, tasks: tuple[str, ...]) -> tuple[str, Patient, str]:
    """(calculator's slug, patient, note) of an item."""
    draw = random.Random(f"{seed}:{index}")
    slug = tasks[index % len(tasks)]
    patient = made_up_patient(draw)
    return slug, patient, _note(patient, RULES[slug].needs, draw)


def made_up_patient(draw: random.Random) -> Patient:
    """Values with normal and deranged ranges, so that every criterion is met about half the time."""
    return {
        "sex": draw.choice(("man", "woman")),
        "age": draw.randint(20, 92),
        "weight": draw.randint(21, 110),
        "rate": draw.randint(12, 38),
        "pulse": draw.randint(56, 136),
        "systolic": draw.randint(74, 168),
        "diastolic": draw.randint(44, 96),
        "temperature": draw.randint(350, 398) / 10,
        "leucocytes": draw.randint(2, 19),
        "urea": draw.randint(8, 44),
        "confused": draw.random() < 0.5,
        "saturation": draw.randint(88, 99),
        "swelling": draw.random() < 0.5,
        "surgery": draw.random() < 0.5,
        "fever": draw.random() < 0.5,
        "pus": draw.random() < 0.5,
        "onset": draw.randint(1, 7),
        "inflamed": draw.random() < 0.5,
        "cough": draw.random() < 0.5,
        "opioid": draw.choice(tuple(OPIOIDS)),
        "dose": 10 * draw.randint(2, 9),
    }


def _yes_no(name: str) -> Callable[[bool], str]:
    return lambda value: f"{name} {'yes' if value else 'no'}"


SENTENCES: dict[str, Callable[[Any], str]] = {
    "weight": lambda v: f"weight {v} kg",
    "rate": lambda v: f"respiratory rate {v}",
    "pulse": lambda v: f"heart rate {v}",
    "pressure": lambda v: f"blood pressure {v[0]}/{v[1]}",
    "temperature": lambda v: f"temperature {v} C",
    "leucocytes": lambda v: f"white cells {v}",
    "urea": lambda v: f"urea nitrogen {v}",
    "saturation": lambda v: f"saturation {v} %",
    "onset": lambda v: f"days ill {v}",
    "analgesia": lambda v: f"{v[0]} {v[1]} mg daily",
    "confused": _yes_no("confusion"),
    "swelling": _yes_no("swollen leg"),
    "surgery": _yes_no("recent surgery"),
    "fever": _yes_no("fever"),
    "pus": _yes_no("pus"),
    "inflamed": _yes_no("red tonsils"),
    "cough": _yes_no("cough"),
}
OPIOIDS = {"hydrocodone": 1.0, "oxycodone": 1.5, "oxymorphone": 3.0, "hydromorphone": 5.0}  # morphine's strength
PLACES = ("clinic", "ward", "emergency room", "home visit", "nursing home")
DISTRACTORS = ("lives alone", "works nights", "allergic to pollen", "walks daily", "quit smoking", "eats little", "sleeps badly")


def facts_of(patient: Patient) -> dict[str, str]:
    """Everything that a note may say of a patient, by the name of the value."""
    told = {**patient, "pressure": (patient["systolic"], patient["diastolic"]), "analgesia": (patient["opioid"], patient["dose"])}
    return {name: sentence(told[name]) for name, sentence in SENTENCES.items()}


def _note(patient: Patient, needs: tuple[str, ...], draw: random.Random) -> str:
    told = facts_of(patient)
    others = draw.sample([name for name in told if name not in needs], k=draw.randint(1, 3))
    facts = [told[name] for name in (*(need for need in needs if need != "age"), *others)]
    facts.append(draw.choice(DISTRACTORS))
    draw.shuffle(facts)
    return f"{patient['age']} year old {patient['sex']}, {draw.choice(PLACES)}. {'. '.join(facts)}."


def _truth(calculator: int, value: float) -> dict[str, Any]:
    entry = CATALOGUE[calculator]
    if entry.kind == "integer":
        return {"kind": "integer", "value": int(value), "unit": entry.unit, "calculator": calculator}
    low, high = sorted((round(value * 0.95, 4), round(value * 1.05, 4)))
    return {"kind": "decimal", "value": value, "low": low, "high": high, "unit": entry.unit, "calculator": calculator}


def _flag(name: str, key: str, *, counts_when: bool = True) -> Criterion:
    return Criterion(name, lambda p: "yes" if p[key] else "no", lambda p: bool(p[key]) is counts_when)


def _measured(name: str, key: str, met: Callable[[Any], bool]) -> Criterion:
    return Criterion(name, lambda p: str(p[key]), lambda p: met(p[key]))


SCORES: dict[str, tuple[Criterion, ...]] = {
    "curb-65": (
        _flag("confusion", "confused"),
        _measured("urea nitrogen", "urea", lambda v: v > 19),
        _measured("respiratory rate", "rate", lambda v: v >= 30),
        Criterion("blood pressure", lambda p: f"{p['systolic']}/{p['diastolic']}", lambda p: p["systolic"] < 90 or p["diastolic"] <= 60),
        _measured("age", "age", lambda v: v >= 65),
    ),
    "sirs": (
        _measured("temperature", "temperature", lambda v: v > 38 or v < 36),
        _measured("heart rate", "pulse", lambda v: v > 90),
        _measured("respiratory rate", "rate", lambda v: v > 20),
        _measured("white cells", "leucocytes", lambda v: v > 12 or v < 4),
    ),
    "feverpain": (
        _flag("fever", "fever"),
        _flag("pus", "pus"),
        _measured("days ill", "onset", lambda v: v <= 3),
        _flag("red tonsils", "inflamed"),
        _flag("cough", "cough", counts_when=False),
    ),
}


def count_criteria(criteria: Sequence[Criterion], patient: Patient) -> tuple[list[str], float]:
    """The working of a score: every criterion with its reading and its point."""
    steps, total = [], 0
    for criterion in criteria:
        met = criterion.met(patient)
        total += met
        steps.append(f"{criterion.name} {criterion.reading(patient)} {'1' if met else '0'}")
    return [*steps, f"total {total}"], total


def _score(slug: str) -> Callable[[Patient], tuple[list[str], float]]:
    return lambda patient: count_criteria(SCORES[slug], patient)


def _morphine_equivalents(p: Patient) -> tuple[list[str], float]:
    """Daily dose times the drug's factor (CDC 2022)."""
    factor = OPIOIDS[p["opioid"]]
    value = round(p["dose"] * factor)
    return [f"{p['opioid']} {p['dose']} * {factor:g} = {value}"], value


def _maintenance_fluids(p: Patient) -> tuple[list[str], float]:
    """4 mL/h per kg up to 10 kg, 2 for the next 10, 1 beyond (Holliday and Segar 1957); made-up patients weigh more than 20 kg."""
    rest = p["weight"] - 20
    return [f"{p['weight']} - 20 = {rest}", f"60 + {rest} = {60 + rest}"], 60 + rest


RULES: dict[str, Rule] = {
    "curb-65": Rule(45, "What is the patient's CURB-65 score?", ("age", "confused", "urea", "rate", "pressure"), _score("curb-65")),
    "sirs": Rule(
        51, "What is the number of SIRS criteria met by the patient?", ("temperature", "pulse", "rate", "leucocytes"), _score("sirs")
    ),
    "feverpain": Rule(33, "What is the patient's FeverPAIN score?", ("fever", "pus", "onset", "inflamed", "cough"), _score("feverpain")),
    "morphine-equivalents": Rule(
        49, "What is the patient's daily dose in morphine milligram equivalents (MME/day)?", ("analgesia",), _morphine_equivalents
    ),
    "maintenance-fluids": Rule(22, "What is the patient's maintenance fluid in mL/hr?", ("weight",), _maintenance_fluids),
}
