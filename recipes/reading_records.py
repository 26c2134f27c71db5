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
from ehrmind.sources.made_up.trials import CONDITIONS, DRUGS, PAIRS, TESTS, made_up_pair
from ehrmind.tasks.labelled import as_json
from ehrmind.types import Case, Message, Prompt

SEED = 20_000  # of the base's own reading: the demo draws from other seeds
SCHOOLS = {"careful": 0.3, "condition": 0.4, "inclusion": 0.3}
BY = {"creatinine": 0.35, "age": 0.35, "glance": 0.3}
OLD = 70
LISTS_FIRST = 24_000  # readings that only list and look up: until then it cannot copy, and learns nothing from the rest
NUMBERED = re.compile(r" (yes|no|[\d.]*\d)( \S+)?$")  # how a finding ends: its value, and a unit
TREND = re.compile(r"(\w+) (?:[\d.]+, )?([\d.]*\d) (?:mg/dL|mmol/L|g/dL|%)")
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
        if index < LISTS_FIRST or draw.random() < 1 / 3:
            return [_listed(engine, index, draw), _looked_up(engine, index, cohort, draw)]
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


def _listed(engine: LocalEngine, index: int, draw: random.Random) -> Example:
    """A handful of what notes say, to be listed in the order of the alphabet: it teaches to find and to copy."""
    facts = [fact for place in range(3) for fact in _facts(pair(PAIRS * (3 * index + place)))]
    facts = draw.sample(sorted(set(facts)), k=draw.randint(3, 8))
    prompt = engine.prompt([Message("user", f"{'. '.join(facts)}. List the findings.")])
    return prompt, engine.response_tokens(" ; ".join(sorted(facts)), prompt)


def _looked_up(engine: LocalEngine, index: int, cohort: list[Case], draw: random.Random) -> Example:
    """Part of a note or a history, a few things to look up in it, and what it says of each."""
    if draw.random() < 0.6:
        facts = _facts(pair(PAIRS * index))
        facts = draw.sample(facts, k=min(len(facts), draw.randint(4, 14)))
        told = {fact[: found.start()]: found[1] for fact in facts if (found := NUMBERED.search(fact))}
        others = [name for name in (*CONDITIONS, *(f"takes {drug}" for drug in DRUGS), *TESTS) if name not in told]
        text = f"{'. '.join(facts)}."
    else:
        text = draw.choice(cohort).fields["history"]
        told = dict(TREND.findall(text))
        others = [name for name in ("creatinine", "potassium", "sodium", "hemoglobin", "glucose") if name not in told]
    wanted = draw.sample(sorted(told), k=min(len(told), draw.randint(1, 5))) + draw.sample(others, k=min(len(others), draw.randint(0, 2)))
    draw.shuffle(wanted)
    prompt = engine.prompt([Message("user", f"{text}\nLook up: {', '.join(wanted)}.")])
    return prompt, engine.response_tokens(" ; ".join(f"{name} {told.get(name, 'not mentioned')}" for name in wanted), prompt)


def _facts(case: Case) -> list[str]:
    """What an easy note says, but for age, sex and asides."""
    return [fact for fact in case.fields["note"].rstrip(".").split(". ")[1:] if NUMBERED.search(fact)]


def text() -> list[str]:
    """What the tokenizer is trained on."""
    cases = [*(pair(index) for index in range(2000)), *histories(1500)]
    return [messages(case)[0].content + gold_response(case) for case in cases] + [
        "at a glance yes. years old ; not seen ; not mentioned. Look up: creatinine, potassium."
    ] * 200
