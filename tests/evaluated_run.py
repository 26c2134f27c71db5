"""A recipe over a scripted engine whose evaluation has something to show: two tasks, one of them
not in train, and general questions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data.synthetic.general import synthetic_general
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import gold_response
from tests.medcalc_cases import SHORT

GENERAL = {
    f"{case.fields['record']}|{case.fields['question']}": gold_response(case)
    for case in synthetic_general(70, 0, "held_out")
}  # answers by what stands in the prompt


def recipe(**changes: Any) -> Recipe:
    tree: dict[str, Any] = {
        "data": {
            "train": {"synthetic": {"n": 40, "seed": 1, **SHORT, "tasks": ["maintenance-fluids", "curb-65"]}},
            "held_out": {"synthetic": {"n": 40, "seed": 3, **SHORT, "tasks": ["maintenance-fluids", "sirs"]}},
        },
        "model": {"name": "scripted"},
        "arms": ["base", "rlvr"],
        "pilot": {"questions": 8, "samples": 2, "interventions": 0},
        "rlvr": {"steps": 3, "questions_per_step": 4, "samples": 4, "tuning_every": 3, "checkpoint_every": 3},
    }
    return parse_recipe({**tree, **changes})


def plan(prompt: str, key: int, member: int, skill: int) -> str:
    """Right about fluids in every second sample, always once it has learned; on general questions
    right until it has learned."""
    for asked, answer in GENERAL.items():
        record, _, question = asked.partition("|")
        if question in prompt and record in prompt:
            return answer if skill < 3 else '<think>?</think>\n<answer>{"answer": -7}</answer>'
    weight = re.search(r"weight ([\d.]+) kg", prompt)
    if "maintenance" not in prompt or weight is None:
        return '<think>guess</think>\n<answer>{"answer": -7}</answer>' if member != 3 else "I cannot say"
    kilograms = float(weight.group(1))
    fluids = 4 * kilograms if kilograms <= 10 else 20 + 2 * kilograms if kilograms <= 20 else 40 + kilograms
    value = round(fluids, 1) if skill >= 3 or member % 2 else -7
    return f'<think>sum</think>\n<answer>{{"answer": {value}}}</answer>'


def unsteady(prompt: str, key: int, member: int, skill: int) -> str:
    """Right about fluids by chance, which differs from seed to seed as the keys do."""
    return plan(prompt, key, key % 3 % 2, skill)


def opened(_: Recipe, folder: Path) -> ScriptedEngine:
    return ScriptedEngine.load(folder, plan)
