"""Text that the base model of `demo_trials.yaml` and `demo_ehr.yaml` reads first: synthetic pairs
and histories, worked in several ways. `reading_habits.py` is what it reads next.

Trials: careful (every criterion looked up), by the condition alone, and with the exclusions
forgotten. Histories: careful (by the newest creatinine), by age, and at a glance. Before all that
it learns to repeat words, and then to look names up whose values may be anything: a small model
that meets only "yes" and "no" guesses between them for ever. One later reading in three still looks
things up. Criteria about results, and what comes of a stay in hospital, it never reads.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ehrmind.config import EhrFiles, History
from ehrmind.data.ehr import read_ehr
from ehrmind.data.synthetic.cohort import HIGH_CREATININE, write_cohort
from ehrmind.data.synthetic.trials import CONDITIONS, DRUGS, TESTS, synthetic_pair
from ehrmind.engines.local.engine import LocalEngine
from ehrmind.prompts.chat import gold_response, messages
from ehrmind.prompts.protocol import wrap
from ehrmind.prompts.records import with_histories
from ehrmind.tasks.labelled import as_json
from ehrmind.types import Case, Message, Prompt

SEED = 20_000  # of the base's own reading: the demo draws from other seeds
SCHOOLS = {"careful": 0.35, "condition": 0.4, "inclusion": 0.25}
BY = {"creatinine": 0.35, "age": 0.35, "glance": 0.3}
OLD = 70
REPEATS, LOOKS_UP = 13_000, 24_000  # readings before it looks things up, and before it decides anything
TREND = re.compile(r"(\w+) (?:[\d.]+, )?([\d.]*\d) (?:mg/dL|mmol/L|g/dL|%)")
NEWEST = re.compile(r"creatinine (?:[\d.]+, )?([\d.]+)")

HISTORY = History(kinds=["labs", "diagnoses"], max_tokens=70, trend_values=2, flags=False)

Example = tuple[Prompt, tuple[int, ...]]


def histories(shown: History = HISTORY, task: str = "next_creatinine_high", subjects: int = 4000) -> list[Case]:
    """Cases of a cohort of the base's own, as many with the label yes as with no."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder, subjects, seed=SEED, events_per_subject=120, labels_per_subject=2)
        cases, _ = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / task, balance=1.0))
        return with_histories([case for case in cases if case.split == "train"], shown)[0]


def pair(index: int) -> Case:
    return synthetic_pair(SEED, index, "train", "drugs" if index % 2 else "diagnoses", "easy")


def reader(engine: LocalEngine) -> Callable[[int], list[Example]]:
    cohort = histories()

    def reading(index: int) -> list[Example]:
        draw = random.Random(f"reading:{index}")
        if index < REPEATS:
            return [_repeated(engine, draw)]
        if index < LOOKS_UP or draw.random() < 1 / 3:
            return looked_up(engine, cohort, draw)
        if draw.random() < 0.65:
            case, schools, respond = pair(index), SCHOOLS, _trial_response
        else:
            case, schools, respond = draw.choice(cohort), BY, history_response
        prompt = engine.prompt(messages(case))
        chosen = draw.choices(list(schools), weights=list(schools.values()), k=2)
        return [(prompt, engine.response_tokens(respond(draw, school, case), prompt)) for school in chosen]

    return reading


def _trial_response(draw: random.Random, school: str, case: Case) -> str:
    del draw
    condition, *steps = (case.rationale or "").split(" ; ")
    if school == "careful" or len(steps) == 1:
        return gold_response(case)
    kept = [] if school == "condition" else [step for step in steps[:-1] if step.startswith("must: ")]
    out = any(step.endswith(", out") for step in kept)
    verdict = "excluded" if out else "eligible"
    return wrap(" ; ".join([condition, *kept, verdict]), as_json(verdict))


def history_response(draw: random.Random, school: str, case: Case) -> str:
    history = case.fields["history"]
    if school == "glance":
        answer = draw.choice(("yes", "no"))
        return wrap(f"at a glance {answer}", as_json(answer))
    if school == "age":
        age = int(history.split(" ", 1)[0])
        answer = "yes" if age >= OLD else "no"
        return wrap(f"{age} years old ; {answer}", as_json(answer))
    newest = NEWEST.search(history)
    answer = "yes" if newest and float(newest[1]) > HIGH_CREATININE else "no"
    return wrap(f"creatinine {newest[1] if newest else 'not seen'} ; {answer}", as_json(answer))


NAMES = (*CONDITIONS, *(f"takes {drug}" for drug in DRUGS), *TESTS)
WORDS = (
    "asthma",
    "eligible",
    "fine",
    "man",
    "old",
    "out",
    "Trial",
    "woman",
)  # findings have no such values; looking up must not guess


def looked_up(engine: LocalEngine, cohort: Sequence[Case], draw: random.Random) -> list[Example]:
    """Something to look up: in a history, in a list, or for a trial's criteria."""
    kind = draw.random()
    if kind < 0.2:
        return [_looked_up_in_history(engine, draw.choice(cohort), draw)]
    return [_looked_up_in_list(engine, draw) if kind < 0.6 else _looked_up_by_criteria(engine, draw)]


def _repeated(engine: LocalEngine, draw: random.Random) -> Example:
    """Words in no order, to be said again."""
    tokens = (
        engine.tokenizer.decode([draw.randrange(256, len(engine.tokenizer))]).strip()
        for _ in range(draw.randint(8, 40))
    )
    text = " ".join(token for token in tokens if token.isalpha())
    prompt = engine.prompt([Message("user", f"{text}.\nSay again.")])
    return prompt, engine.response_tokens(text, prompt)


def _looked_up_in_list(engine: LocalEngine, draw: random.Random) -> Example:
    """Names with values, ten of them to be looked up, some of which are not there."""
    told = {name: _value(draw) for name in draw.sample(NAMES, k=draw.randint(4, 16))}
    wanted = draw.sample(sorted(told), k=min(len(told), 8)) + draw.sample(
        [name for name in NAMES if name not in told], k=2
    )
    return _asked(engine, ". ".join(f"{name} {value}" for name, value in told.items()) + ".", told, wanted, draw)


def _looked_up_by_criteria(engine: LocalEngine, draw: random.Random) -> Example:
    """The same for a trial's criteria, one by one, without a verdict."""
    names = [name for name in NAMES if name not in TESTS]
    told = {name: draw.choice(("yes", "no")) for name in draw.sample(names, k=draw.randint(4, 16))}
    wanted = draw.sample(sorted(told), k=4) + draw.sample([name for name in names if name not in told], k=2)
    draw.shuffle(wanted)
    must, must_not = wanted[:3], wanted[3:]
    fine = {"yes": "yes, fine", "no": "no, out", "": "left open, so fine"}
    out = {"yes": "yes, out", "no": "no, fine", "": "left open, so fine"}
    steps = [f"must: {name}: {fine[told.get(name, '')]}" for name in must] + [
        f"must not: {name}: {out[told.get(name, '')]}" for name in must_not
    ]
    listed = [
        "Inclusion criteria:",
        *(f"- {name}" for name in must),
        "Exclusion criteria:",
        *(f"- {name}" for name in must_not),
    ]
    text = ". ".join(f"{name} {value}" for name, value in told.items())
    prompt = engine.prompt([Message("user", "\n".join([f"Patient:\n{text}.\n", *listed, "\nLook up."]))])
    return prompt, engine.response_tokens(" ; ".join(steps), prompt)


def _looked_up_in_history(engine: LocalEngine, case: Case, draw: random.Random) -> Example:
    """The same for the newest results of a history."""
    told = dict(TREND.findall(case.fields["history"]))
    others = [name for name in ("creatinine", "potassium", "sodium", "hemoglobin", "glucose") if name not in told]
    return _asked(engine, case.fields["history"], told, [*told, *others[:1]], draw)


def _asked(engine: LocalEngine, text: str, told: dict[str, str], wanted: list[str], draw: random.Random) -> Example:
    draw.shuffle(wanted)
    prompt = engine.prompt([Message("user", f"{text}\nLook up: {', '.join(wanted)}.")])
    return prompt, engine.response_tokens(
        " ; ".join(f"{name} {told.get(name, 'not mentioned')}" for name in wanted), prompt
    )


def _value(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.5:
        return draw.choice(("yes", "no"))
    return (
        draw.choice(WORDS) if kind < 0.65 else str(draw.choice((draw.randint(1, 999), round(draw.uniform(0.3, 20), 1))))
    )


def text() -> list[str]:
    """Text that the tokenizer is trained on."""
    cases = [*(pair(index) for index in range(2000)), *histories(subjects=1500)]
    return [messages(case)[0].content + gold_response(case) for case in cases] + [
        "at a glance yes. years old ; not seen ; not mentioned. Look up: creatinine, potassium. Say again."
    ] * 200
