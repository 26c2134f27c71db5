"""Text that the base model of `demo.yaml` reads: synthetic notes in which three scores are worked
in several ways, right and wrong, as text about medicine does.

Careful, in short (the last two criteria forgotten), as remembered (the first two forgotten), and at
a glance. One reading in three lists findings without scoring them, which is how it learns to look
things up. Of how morphine equivalents and maintenance fluids are worked it reads nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.labels import work_case
from ehrmind.calculators.telling import jot
from ehrmind.data.synthetic import synthetic_case
from ehrmind.engines.local.engine import LocalEngine
from ehrmind.prompts.chat import messages
from ehrmind.prompts.protocol import wrap
from ehrmind.tasks.medcalc import as_json
from ehrmind.types import Case, Message, Prompt

KNOWN, MISSING = ("curb-65", "sirs", "feverpain"), ("morphine-equivalents", "maintenance-fluids")
SCHOOLS = {"careful": 0.26, "short": 0.38, "remembered": 0.22, "glance": 0.14}
SEED = 20_000  # of the base's own reading: the demo draws from other seeds
PER_PROMPT = 2

Example = tuple[Prompt, tuple[int, ...]]


def case_of(index: int, slugs: tuple[str, ...], seed: int = SEED) -> Case:
    """The demo's kind of case: a telegraphic note, its working in jottings."""
    return synthetic_case(
        seed, index, "train", CALCULATORS[slugs[index % len(slugs)]], "easy", ["telegraphic"], ["jotted"]
    )


def school_response(school: str, case: Case, draw: random.Random) -> str:
    """An answer to the question in the manner of one school."""
    result, _ = work_case(case)
    assert result is not None
    criteria = [step for step in result.steps if step.points is not None]
    if school == "glance":
        value = max(0, case.truth["value"] + draw.choice((-1, 0, 1)))
        return wrap(f"at a glance total {value}", as_json(value))
    kept = {"careful": criteria, "short": criteria[:-2], "remembered": criteria[2:]}[school]
    value = int(sum(step.points or 0 for step in kept))
    opening = {"careful": [], "short": ["in short"], "remembered": ["as remembered"]}[school]
    return wrap(" ; ".join([*opening, *map(jot, kept), f"total {value}"]), as_json(value))


def reader(engine: LocalEngine) -> Callable[[int], list[Example]]:
    return lambda index: _reading(engine, index)


def _reading(engine: LocalEngine, index: int) -> list[Example]:
    """One prompt with the answers of several schools, or (one in three) findings to list."""
    draw = random.Random(f"reading:{index}")
    if draw.random() < 1 / 3:
        return [_findings(engine, index, draw)]
    case = case_of(index, KNOWN)
    prompt = engine.prompt(messages(case))
    schools = draw.choices(list(SCHOOLS), weights=list(SCHOOLS.values()), k=PER_PROMPT)
    return [(prompt, engine.response_tokens(school_response(school, case, draw), prompt)) for school in schools]


def _findings(engine: LocalEngine, index: int, draw: random.Random) -> Example:
    """A handful of what notes of the five say, to be listed in the order of the alphabet: how it
    learns to look things up."""
    notes = [case_of(5 * index + place, (*KNOWN, *MISSING), SEED + 2).fields["note"] for place in range(5)]
    facts = [fact for note in notes for fact in note.rstrip(".").split(". ")[1:]]
    facts = draw.sample(
        [fact for fact in facts if fact.endswith((" yes", " no")) or any(map(str.isdigit, fact))], k=draw.randint(2, 7)
    )
    prompt = engine.prompt([Message("user", f"{'. '.join(facts)}. List the findings.")])
    return prompt, engine.response_tokens(" ; ".join(sorted(facts)), prompt)


def text() -> list[str]:
    """Text that the tokenizer is trained on."""
    cases = [case_of(index, (*KNOWN, *MISSING), SEED + 1) for index in range(3000)]
    return [messages(case)[0].content + wrap(case.rationale, as_json(case.truth["value"])) for case in cases] + [
        "in short ; as remembered ; at a glance. List the findings."
    ] * 200
