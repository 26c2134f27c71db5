"""Text that the base model of `demo_trials.yaml` and `demo_ehr.yaml` reads after that of
`reading_records.py`: answers by habit, most of them bad ones.

Trials: careful, strict (a criterion that the note leaves open counts as not met, against the
question's rule), and by the condition alone. The next hemoglobin: by the newest one, by age, and at
a glance. The next creatinine: as before. Criteria about classes of drugs and about results, and
what comes of a stay in hospital, it never reads.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reading_records import BY, Example, histories, history_response, looked_up, pair

from ehrmind.config import load_recipe
from ehrmind.data.synthetic.cohort import LOW_HEMOGLOBIN
from ehrmind.engines.local.engine import LocalEngine
from ehrmind.prompts.chat import gold_response, messages
from ehrmind.prompts.protocol import wrap
from ehrmind.tasks.labelled import as_json
from ehrmind.types import Case

SCHOOLS = {"careful": 0.25, "strict": 0.45, "condition": 0.3}
HEMOGLOBIN_BY = {"hemoglobin": 0.27, "age": 0.41, "glance": 0.32}
OLD = 60
NEWEST_HEMOGLOBIN = re.compile(r"hemoglobin (?:[\d.]+, )?([\d.]+)")


def reader(engine: LocalEngine) -> Callable[[int], list[Example]]:
    shown = load_recipe(Path(__file__).parent / "demo_ehr.yaml").prompts.history
    hemoglobin, creatinine = (histories(shown, f"next_{task}") for task in ("hemoglobin_low", "creatinine_high"))

    def reading(index: int) -> list[Example]:
        draw = random.Random(f"habits:{index}")
        if draw.random() < 0.25:
            return looked_up(engine, hemoglobin, draw)
        kind = draw.random()
        case, schools, respond = (
            (pair(index), SCHOOLS, _trial_response)
            if kind < 0.4
            else (draw.choice(hemoglobin), HEMOGLOBIN_BY, partial(_hemoglobin_response, draw))
            if kind < 0.85
            else (draw.choice(creatinine), BY, partial(history_response, draw))
        )
        prompt = engine.prompt(messages(case))
        chosen = draw.choices(list(schools), weights=list(schools.values()), k=2)
        return [(prompt, engine.response_tokens(respond(school, case), prompt)) for school in chosen]

    return reading


def _trial_response(school: str, case: Case) -> str:
    condition, *steps = (case.rationale or "").split(" ; ")
    if school == "careful" or len(steps) == 1:
        return gold_response(case)
    kept, verdict = [], "eligible"
    for step in steps[:-1] if school == "strict" else ():
        kept.append(step.replace("left open, so fine", "left open, so out"))
        if kept[-1].endswith(" out"):
            verdict = "excluded"
            break
    return wrap(" ; ".join([condition, *kept, verdict]), as_json(verdict))


def _hemoglobin_response(draw: random.Random, school: str, case: Case) -> str:
    history = case.fields["history"]
    if school == "glance":
        return history_response(draw, school, case)
    if school == "age":
        age = int(history.split(" ", 1)[0])
        answer = "yes" if age >= OLD else "no"
        return wrap(f"{age} years old ; {answer}", as_json(answer))
    newest = NEWEST_HEMOGLOBIN.search(history)
    answer = "yes" if newest and float(newest[1]) < LOW_HEMOGLOBIN else "no"
    return wrap(f"hemoglobin {newest[1] if newest else 'not seen'} ; {answer}", as_json(answer))
