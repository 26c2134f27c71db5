"""What the base model of `demo_trials.yaml` and `demo_ehr.yaml` reads: made-up pairs and histories, worked in several schools.

Trials: careful (every criterion looked up), by the condition alone, and with the exclusions forgotten. Histories: careful (by the newest
creatinine), by age, and at a glance. One reading in three looks things up and decides nothing. Criteria about results, and what comes of a
stay in hospital, it never reads.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from ehrmind.config import EhrFiles, load_recipe
from ehrmind.engines.local.engine import LocalEngine
from ehrmind.prompts.chat import gold_response, messages
from ehrmind.prompts.protocol import wrap
from ehrmind.prompts.records import with_histories
from ehrmind.sources.ehr import read_ehr
from ehrmind.sources.made_up.cohort import HIGH_CREATININE, write_cohort
from ehrmind.sources.made_up.trials import CONDITIONS, DRUGS, TESTS, made_up_pair
from ehrmind.tasks.labelled import as_json
from ehrmind.types import Case, Message, Prompt

SEED = 20_000  # of the base's own reading: the demo draws from other seeds
SCHOOLS = {"careful": 0.3, "condition": 0.4, "inclusion": 0.3}
BY = {"creatinine": 0.35, "age": 0.35, "glance": 0.3}
OLD = 70
NEWEST = re.compile(r"creatinine (?:[\d.]+, )?([\d.]+)")

Example = tuple[Prompt, tuple[int, ...]]


def histories(subjects: int = 4000) -> list[Case]:
    """Cases of a cohort of the base's own, as many with a high creatinine as without, their histories as the demo writes them."""
    recipe = load_recipe(Path(__file__).parent / "demo_ehr.yaml")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder, subjects, seed=SEED, events_per_subject=120, labels_per_subject=2)
        cases, _ = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "next_creatinine_high", balance=1.0))
        return with_histories([case for case in cases if case.split == "train"], recipe.prompts.history)[0]


def pair(index: int) -> Case:
    return made_up_pair(SEED, index, "train", "drugs" if index % 2 else "diagnoses", "easy")


def reader(engine: LocalEngine) -> Callable[[int], list[Example]]:
    cohort = histories()

    def reading(index: int) -> list[Example]:
        draw = random.Random(f"reading:{index}")
        if draw.random() < 1 / 3:
            return [_looked_up(engine, index, cohort, draw)]
        if draw.random() < 0.65:
            case, schools, respond = pair(index), SCHOOLS, _trial_response
        else:
            case, schools, respond = draw.choice(cohort), BY, _history_response
        prompt = engine.prompt(messages(case))
        chosen = draw.choices(list(schools), weights=list(schools.values()), k=2)
        return [(prompt, engine.response_tokens(respond(school, case, draw), prompt)) for school in chosen]

    return reading


def _trial_response(school: str, case: Case, draw: random.Random) -> str:
    del draw
    condition, *steps = (case.rationale or "").split(" ; ")
    if school == "careful" or len(steps) == 1:
        return gold_response(case)
    kept = [] if school == "condition" else [step for step in steps[:-1] if step.startswith("must: ")]
    out = any(step.endswith(", out") for step in kept)
    verdict = "excluded" if out else "eligible"
    return wrap(" ; ".join([condition, *kept, verdict]), as_json(verdict))


def _history_response(school: str, case: Case, draw: random.Random) -> str:
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


def _looked_up(engine: LocalEngine, index: int, cohort: list[Case], draw: random.Random) -> Example:
    """A note or a history, a few things to look up in it, and what it says of each."""
    if draw.random() < 0.7:
        text = pair(index).fields["note"]
        wanted = draw.sample([*CONDITIONS, *(f"takes {drug}" for drug in DRUGS), *TESTS], k=draw.randint(3, 8))
        told = {name: re.search(rf"\b{re.escape(name)} (yes|no|[\d.]*\d)", text) for name in wanted}
    else:
        text = draw.choice(cohort).fields["history"]
        wanted = draw.sample(["creatinine", "potassium", "sodium", "hemoglobin", "glucose"], k=draw.randint(1, 4))
        told = {name: re.search(rf"{name} (?:[\d.]+, )?([\d.]*\d)", text) for name in wanted}
    prompt = engine.prompt([Message("user", f"{text}\nLook up: {', '.join(wanted)}.")])
    said = " ; ".join(f"{name} {found[1] if found else 'not mentioned'}" for name, found in told.items())
    return prompt, engine.response_tokens(said, prompt)


def text() -> list[str]:
    """What the tokenizer is trained on."""
    cases = [*(pair(index) for index in range(2000)), *histories(1500)]
    return [messages(case)[0].content + gold_response(case) for case in cases] + [
        "at a glance yes. years old ; not seen ; not mentioned. Look up: creatinine, potassium."
    ] * 200
