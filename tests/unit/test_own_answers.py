"""The warm-up on the model's own right answers: the pilot's, and those of further rounds over what
is still unsolved.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.runs import Run
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import Prompt
from tests.medcalc_cases import SHORT

LEARNT: list[str] = []


def recipe(rounds: int) -> Recipe:
    return parse_recipe(
        {
            "data": {
                "train": {
                    "synthetic": {
                        "n": 140,
                        "seed": 1,
                        "tasks": ["maintenance-fluids"],
                        "difficulty": "easy",
                        **_manners(),
                    }
                },
                "tuning": {"synthetic": {"n": 7, "seed": 2, **SHORT}},
                "held_out": {"synthetic": {"n": 7, "seed": 3, **SHORT}},
            },
            "model": {"name": "scripted"},
            "arms": ["sft"],
            "pilot": {"questions": 40, "samples": 2},
            "warmup": {"traces": "pilot", "rounds": rounds, "epochs": 1},
            "sampler_rows": 16,
        }
    )


def _manners() -> dict[str, object]:
    return {key: value for key, value in SHORT.items() if key in ("manners", "styles")}


def rarely(prompt: str, key: int, member: int, skill: int) -> str:
    """Right in one answer of five, by a draw of its own."""
    weight = float(re.search(r"(?i)weigh\w* (?:is |of )?([\d.]+) ?kg", prompt)[1])  # type: ignore[index]
    value = 4 * weight if weight <= 10 else 20 + 2 * weight if weight <= 20 else 40 + weight
    right = (key // 7 + member) % 5 == 0
    return f'<think>sum {key}</think>\n<answer>{{"answer": {round(value, 1) if right else -7}}}</answer>'


class Watched(ScriptedEngine):
    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        LEARNT.append(text)
        return super().response_tokens(text, prompt, own=own)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    ScriptedEngine(rarely).save(folder)
    LEARNT.clear()
    return folder


def warm_up(chosen: Recipe, out: Path, engine: type[ScriptedEngine] = Watched, resume: bool = False) -> Run:
    return run_pipeline(
        chosen,
        out,
        stages=("pilot", "warmup"),
        open_engine=lambda _, folder: engine.load(folder, rarely),
        locate=lambda _: out.parent / "base",
        resume=resume,
    )


def test_further_rounds_ask_only_what_is_still_unsolved_and_every_right_answer_is_learnt_once(
    base: Path, tmp_path: Path
) -> None:
    run = warm_up(recipe(3), tmp_path / "run")
    facts = run.done("warmup") or {}
    pilot = run.read_rollouts("pilot")
    solved = set(pilot.filter(correct=True)["case"])
    right = set(pilot.filter(correct=True)["text"])
    assert facts["rounds"][0]["questions"] == 40 - len(solved) > 0
    for number, told in enumerate(facts["rounds"], 1):
        rows = run.read_rollouts(f"resample-{number}")
        assert not solved & set(rows["case"]) and rows["case"].n_unique() == told["questions"] == rows.height / 2
        newly = set(rows.filter(correct=True)["case"])
        assert len(newly) == told["newly_solved"]
        solved |= newly
        right |= set(rows.filter(correct=True)["text"])
    assert (
        sorted(LEARNT) == sorted(right)
        and facts["traces"] == len(right) > pilot.filter(correct=True)["text"].n_unique()
    )


def test_no_further_round_is_sampled_unless_the_recipe_asks_for_it(base: Path, tmp_path: Path) -> None:
    run = warm_up(recipe(0), tmp_path / "run")
    assert "rounds" not in (run.done("warmup") or {}) and not run.rollout_steps("resample-1")


def test_a_round_that_breaks_off_goes_on_after_its_last_batch(base: Path, tmp_path: Path) -> None:
    warm_up(recipe(2), tmp_path / "whole")
    expected = sorted(LEARNT)
    LEARNT.clear()

    class Broken(Watched):
        def sample(self, *arguments: object) -> object:  # type: ignore[override]
            if Run(tmp_path / "run").rollout_steps("resample-1") == [0]:
                raise KeyboardInterrupt
            return super().sample(*arguments)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        warm_up(recipe(2), tmp_path / "run", Broken)
    assert Run(tmp_path / "run").rollout_steps("resample-1") == [0]
    warm_up(recipe(2), tmp_path / "run", resume=True)
    assert sorted(LEARNT) == expected
