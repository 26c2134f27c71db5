"""Makes synthetic pairs of patients and trials. Item i is a pure function of (seed, i).

A patient has an age, a sex, diagnoses, laboratory values and drugs. The note states some of them,
denies others, and leaves the rest open. Each patient has `PAIRS` trials, so that splits by patient
are useful. A trial is about one condition and has criteria over the same facts.

The generator's logic gives the label. A patient without the condition is not relevant. A patient
with it is excluded if a criterion excludes the patient, otherwise eligible. Facts that the note
leaves open do not count against the patient, and the question says so. The rationale checks the
criteria one by one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ehrmind.data.labels import label_truth
from ehrmind.data.splits import note_group
from ehrmind.data.synthetic.phrases import ASIDES
from ehrmind.data.trec.pairs import LABELS
from ehrmind.types import Case, InputError, Split

PAIRS = 5  # trials per patient
NOT_RELEVANT, EXCLUDED, ELIGIBLE = range(3)
RULE = "What the description leaves open does not count against the patient."
Kind = Literal["diagnoses", "laboratory", "drugs", "ages", "mixed", "drug_classes"]
NAMED: tuple[Kind, ...] = ("drug_classes",)  # made only where they are named
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in NAMED)

CONDITIONS = (
    "asthma", "atrial fibrillation", "breast cancer", "chronic kidney disease", "COPD", "Crohn disease", "depression", "epilepsy",
    "gout", "heart failure", "hypertension", "migraine", "osteoporosis", "psoriasis", "rheumatoid arthritis", "type 2 diabetes",
)  # fmt: skip
OTHER_NAMES = {
    "atrial fibrillation": "AF",
    "chronic kidney disease": "CKD",
    "COPD": "chronic obstructive pulmonary disease",
    "heart failure": "cardiac failure",
    "hypertension": "high blood pressure",
    "type 2 diabetes": "T2DM",
}
DRUGS = (
    "amlodipine", "apixaban", "aspirin", "furosemide", "insulin", "levothyroxine", "metformin", "methotrexate", "omeprazole",
    "prednisone", "sertraline", "warfarin",
)  # fmt: skip
# Each drug belongs to one class. A note names drugs, never classes.
DRUG_CLASSES = {
    "an anticoagulant": ("apixaban", "warfarin"),
    "a diuretic": ("furosemide",),
    "a glucose-lowering drug": ("insulin", "metformin"),
    "an immunosuppressant": ("methotrexate", "prednisone"),
    "an antidepressant": ("sertraline",),
    "a calcium channel blocker": ("amlodipine",),
    "an antiplatelet drug": ("aspirin",),
    "an acid suppressant": ("omeprazole",),
    "a thyroid hormone": ("levothyroxine",),
}
# name: unit, lowest, highest, decimals, limits in criteria
TESTS: dict[str, tuple[str, float, float, int, tuple[float, ...]]] = {
    "hemoglobin": ("g/dL", 7.0, 17.0, 1, (9, 10, 11, 12)),
    "platelet count": ("x10^9/L", 60, 450, 0, (100, 150, 200)),
    "creatinine": ("mg/dL", 0.5, 4.0, 1, (1.2, 1.5, 2)),
    "HbA1c": ("%", 4.8, 11.0, 1, (6.5, 7, 8)),
    "ejection fraction": ("%", 18, 70, 0, (35, 40, 50)),
    "potassium": ("mmol/L", 3.0, 5.9, 1, (3.5, 5, 5.5)),
}
AGES = (18, 40, 50, 60, 65, 70, 75, 80)


@dataclass(frozen=True, slots=True)
class Level:
    """Difficulty of a pair. Pairs are lowest and highest counts; floats are probabilities."""

    criteria: tuple[int, int]
    denied: tuple[int, int]
    tests_left_open: float
    other_names: float
    asides: int
    prose: bool


LEVELS = {
    "easy": Level((1, 3), (2, 4), 0.3, 0.0, 1, False),
    "medium": Level((3, 5), (3, 6), 0.3, 0.2, 3, True),
    "hard": Level((5, 9), (4, 9), 0.4, 0.5, 8, True),
}


@dataclass(frozen=True, slots=True)
class Patient:
    """Facts that the note states; it denies those in `denied` and leaves the rest open."""

    age: int
    sex: Literal["woman", "man"]
    diagnoses: frozenset[str]
    drugs: frozenset[str]
    tests: dict[str, float]
    denied: frozenset[str]


@dataclass(frozen=True, slots=True)
class Criterion:
    """Criterion of a trial, one line. An inclusion criterion must hold, an exclusion must not.

    `low` and `high` bound a test or the age.
    """

    about: str
    inclusion: bool
    kind: Kind
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        if self.kind in ("laboratory", "ages"):
            unit = f" {TESTS[self.about][0]}" if self.kind == "laboratory" else ""
            return (
                f"{self.about} of {self.low:g}{unit} or more"
                if self.low is not None
                else f"{self.about} below {self.high:g}{unit}"
            )
        return f"takes {self.about}" if self.kind in ("drugs", "drug_classes") else self.about

    def holds(self, patient: Patient) -> bool | None:
        """Tells whether the criterion holds; None if the note leaves it open."""
        if self.kind in ("diagnoses", "drugs"):
            return (
                True
                if self.about in patient.diagnoses | patient.drugs
                else False
                if self.about in patient.denied
                else None
            )
        if self.kind == "drug_classes":
            drugs = frozenset(DRUG_CLASSES[self.about])
            return True if drugs & patient.drugs else False if drugs <= patient.denied else None
        value = patient.age if self.kind == "ages" else patient.tests.get(self.about)
        if value is None:
            return None
        return value >= self.low if self.low is not None else value < (self.high or 0)

    def keeps_out(self, patient: Patient) -> bool:
        return self.holds(patient) is (not self.inclusion)


def synthetic_trials(
    n: int, seed: int, split: Split, kinds: Sequence[str] = (), *, difficulty: str = "medium"
) -> list[Case]:
    """Makes the first n pairs of a seed, with the kinds of criteria in turn.

    Raises InputError for an unknown kind.
    """
    known = (*KINDS, *NAMED)
    if unknown := sorted(set(kinds) - set(known)):
        raise InputError(f"'{unknown[0]}' is not a kind of criteria; there are {', '.join(known)}.")
    asked = [kind for kind in known if kind in kinds] or list(KINDS)
    return [synthetic_pair(seed, index, split, asked[index % len(asked)], difficulty) for index in range(n)]


def synthetic_pair(seed: int, index: int, split: Split, kind: Kind = "mixed", difficulty: str = "medium") -> Case:
    level = LEVELS[difficulty]
    draw = random.Random(f"{seed}:patient:{index // PAIRS}")
    patient = _patient(level, draw)
    note = _note(patient, level, draw)
    draw = random.Random(f"{seed}:trial:{index}")
    condition = draw.choice(
        sorted(patient.diagnoses)
        if draw.random() < 0.7
        else [name for name in CONDITIONS if name not in patient.diagnoses]
    )
    criteria = _criteria(kind, condition, patient, level, draw)
    label, rationale = _decided(condition, criteria, patient)
    goal = draw.choice(
        ("A new treatment", "A comparison of two treatments", "Exercise and diet", "A remote follow-up programme")
    )
    return Case(
        id=f"made-up-trials-{seed}-{index}",
        family="trials",
        task="eligibility",
        stratum=f"trials/made-up/{kind}",
        split=split,
        group=note_group(note).replace("note-", "patient-"),
        fields={
            "note": note,
            "title": f"{goal} in patients with {condition}",
            "conditions": condition,
            "sex": "",
            "minimum_age": "",
            "maximum_age": "",
            "inclusion": "\n".join([condition, *(criterion.text() for criterion in criteria if criterion.inclusion)]),
            "exclusion": "\n".join(criterion.text() for criterion in criteria if not criterion.inclusion),
            "criteria": "",
            "rule": RULE,
        },
        truth=label_truth(label, LABELS),
        rationale=rationale,
        provenance={
            "generator": "made-up",
            "seed": seed,
            "index": index,
            "difficulty": difficulty,
            "age": patient.age,
            "sex": {"man": "male", "woman": "female"}[patient.sex],
            "topic": str(index // PAIRS),
            "trial": str(index),
        },
    )


def _patient(level: Level, draw: random.Random) -> Patient:
    diagnoses = draw.sample(CONDITIONS, k=draw.randint(2, 4))
    drugs = draw.sample(DRUGS, k=draw.randint(1, 4))
    denied = draw.sample([name for name in CONDITIONS if name not in diagnoses], k=draw.randint(*level.denied))
    denied += draw.sample([name for name in DRUGS if name not in drugs], k=draw.randint(*level.denied) - 1)
    tests = {
        name: round(draw.uniform(low, high), digits)
        for name, (_, low, high, digits, _) in TESTS.items()
        if draw.random() >= level.tests_left_open
    }
    return Patient(
        draw.randint(18, 90),
        draw.choice(("woman", "man")),
        frozenset(diagnoses),
        frozenset(drugs),
        tests,
        frozenset(denied),
    )


def _note(patient: Patient, level: Level, draw: random.Random) -> str:
    """Writes the note in random order: phrases if easy, otherwise a clinician's sentences."""
    has, takes = sorted(patient.diagnoses), sorted(patient.drugs)
    lacks, avoids = sorted(patient.denied & set(CONDITIONS)), sorted(patient.denied & set(DRUGS))
    tests = [f"{name} {value:g} {TESTS[name][0]}" for name, value in patient.tests.items()]
    asides = draw.sample(ASIDES, k=level.asides)
    if not level.prose:
        facts = [*(f"{name} yes" for name in has), *(f"{name} no" for name in lacks), *tests, *asides]
        facts += [*(f"takes {name} yes" for name in takes), *(f"takes {name} no" for name in avoids)]
        draw.shuffle(facts)
        return f"{patient.age} year old {patient.sex}. {'. '.join(facts)}."
    for names in (has, lacks, takes, avoids, tests):
        draw.shuffle(names)
    has = [OTHER_NAMES[name] if name in OTHER_NAMES and draw.random() < level.other_names else name for name in has]
    they = "She" if patient.sex == "woman" else "He"
    sentences = [f"{they} {aside}." for aside in asides]
    sentences += [
        f"The history is remarkable for {_listed(has)}.",
        f"There is no {_listed(lacks, 'or')}.",
        f"{they} takes {_listed(takes)}.",
    ]
    if avoids:
        sentences.append(f"{they} does not take {_listed(avoids, 'or')}.")
    if tests:
        sentences.append(f"Results: {', '.join(tests)}.")
    draw.shuffle(sentences)
    article = "An" if patient.age in (18, *range(80, 90)) else "A"
    return " ".join([f"{article} {patient.age}-year-old {patient.sex} is seen.", *sentences])


def _criteria(kind: Kind, condition: str, patient: Patient, level: Level, draw: random.Random) -> list[Criterion]:
    """Draws criteria of one kind, or of all kinds.

    In three of ten pairs no criterion excludes the patient, so that both outcomes are common.
    """
    wanted, may_keep_out = draw.randint(*level.criteria), draw.random() < 0.7
    found: list[Criterion] = []
    for _ in range(5 * wanted):
        if len(found) == wanted:
            break
        criterion = _criterion(draw.choice(KINDS[:-1]) if kind == "mixed" else kind, patient, draw)
        used = {condition, *(earlier.about for earlier in found)}
        if criterion.about not in used and (may_keep_out or not criterion.keeps_out(patient)):
            found.append(criterion)
    return found


def _criterion(kind: Kind, patient: Patient, draw: random.Random) -> Criterion:
    """Draws a criterion.

    About a third of diagnoses and drugs are the patient's own. Others are required less often.
    Of drug classes, most are the patient's own, and most must not be taken.
    """
    if kind in ("diagnoses", "drugs"):
        theirs, all_of_them = (patient.diagnoses, CONDITIONS) if kind == "diagnoses" else (patient.drugs, DRUGS)
        about = draw.choice(sorted(theirs) if draw.random() < 0.35 else all_of_them)
        return Criterion(about, draw.random() < (0.5 if about in theirs else 0.2), kind)
    if kind == "drug_classes":
        taken = [name for name in sorted(DRUG_CLASSES) if patient.drugs.intersection(DRUG_CLASSES[name])]
        about = draw.choice(taken if draw.random() < 0.7 else tuple(DRUG_CLASSES))
        return Criterion(about, draw.random() < 0.3, kind)
    about = "age" if kind == "ages" else draw.choice(tuple(TESTS))
    limit = draw.choice(AGES if kind == "ages" else TESTS[about][4])
    low, high = (limit, None) if draw.random() < 0.5 else (None, limit)
    return Criterion(about, draw.random() < 0.5, kind, low, high)


def _decided(condition: str, criteria: Sequence[Criterion], patient: Patient) -> tuple[int, str]:
    """Returns label and rationale: the condition, then criteria until one excludes the patient."""
    if condition not in patient.diagnoses:
        return NOT_RELEVANT, f"{condition} {'no' if condition in patient.denied else 'not mentioned'} ; not relevant"
    steps = [f"{condition} yes"]
    for criterion in sorted(criteria, key=lambda criterion: not criterion.inclusion):
        steps.append(
            f"{'must' if criterion.inclusion else 'must not'}: {criterion.text()}: {_finding(criterion, patient)}"
        )
        if criterion.keeps_out(patient):
            return EXCLUDED, " ; ".join([*steps, "excluded"])
    return ELIGIBLE, " ; ".join([*steps, "eligible"])


def _finding(criterion: Criterion, patient: Patient) -> str:
    holds = criterion.holds(patient)
    verdict = "out" if criterion.keeps_out(patient) else "fine"
    if criterion.kind == "drug_classes":
        told = dict.fromkeys(patient.drugs, "yes") | dict.fromkeys(patient.denied, "no")
        drugs = (f"{drug} {told.get(drug, 'not mentioned')}" for drug in DRUG_CLASSES[criterion.about])
        return f"{', '.join(drugs)}, {verdict}"
    if holds is None:
        return "left open, so fine"
    if criterion.kind == "ages":
        return f"{patient.age}, {verdict}"
    if criterion.kind == "laboratory":
        return f"{patient.tests[criterion.about]:g}, {verdict}"
    return f"{'yes' if holds else 'no'}, {verdict}"


def _listed(names: Sequence[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
