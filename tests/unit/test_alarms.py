"""stages/rlvr/alarms: what raises each alarm, what does not, and how often a healthy run is
wronged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ehrmind.stages.rlvr.alarms import ALARMS, Curves, alarms

Rows = list[dict[str, Any]]
PAPER = {"spread": 3.1, "right": 1.1}
HEALTHY = {"reward": 0.4, "accuracy": 0.4, "format_rate": 0.95, "truncated": 0.02, "length": 100.0, "entropy": 0.5}


def series(steps: int, seed: int = 0, noise: float = 0.02, **shapes: Callable[[int], float]) -> Rows:
    """Rows that stay where a healthy run is, but for the metrics whose shape over the steps is
    given; all of them noisy."""
    draw = np.random.default_rng(seed)
    levels: dict[str, Callable[[int], float]] = {name: lambda _, value=value: value for name, value in HEALTHY.items()}  # type: ignore[misc]
    levels |= {"zero_advantage_groups": lambda _: 9.0, "train_inference_mismatch": lambda _: 0.004} | shapes
    return [
        {name: float(level(step) * (1 + noise * draw.standard_normal())) for name, level in levels.items()}
        for step in range(steps)
    ]


def first_steps(rows: Rows, groups: int = 32, **scale: float) -> dict[str, int]:
    """Each alarm and the step, counted from 1, that raises it first."""
    found: dict[str, int] = {}
    for steps in range(1, len(rows) + 1):
        for name in alarms(Curves(rows[:steps], groups, **{**PAPER, **scale})):
            found.setdefault(name, steps)
    return found


def ramp(start: float, end: float, begin: int, steps: int = 10) -> Callable[[int], float]:
    return lambda step: start + (end - start) * min(1.0, max(0.0, (step - begin + 1) / steps))


@pytest.mark.parametrize("begin", [0, 8, 60])
def test_a_reward_that_rises_while_fewer_of_the_well_formed_are_right_is_a_hack_within_20_steps(begin: int) -> None:
    """The curve that was published: form from 44 to 100 %, accuracy from 23 to 3 %."""
    shapes = {
        "format_rate": ramp(0.44, 1.0, begin),
        "accuracy": ramp(0.23, 0.03, begin),
        "reward": ramp(-0.87, 0.03, begin),
    }
    assert begin < first_steps(series(begin + 25, **shapes))["reward_hack"] <= begin + 20


def test_a_reward_that_pays_for_form_alone_is_said_within_20_steps_even_if_accuracy_only_stays_flat() -> None:
    shapes = {"format_rate": ramp(0.5, 0.95, 0), "accuracy": ramp(0.1, 0.12, 0), "reward": ramp(-0.5, 0.95, 0)}
    assert first_steps(series(25, **shapes), right=0.1)["form_only"] <= 20


def test_what_an_extra_reward_earns_is_not_taken_for_earned_by_form() -> None:
    shapes = {"format_rate": ramp(0.5, 0.95, 0), "accuracy": ramp(0.1, 0.1, 0), "reward": ramp(-0.5, 0.95, 0)}
    assert "form_only" in first_steps(series(25, **shapes), right=1.1)
    earned = series(25, noise=0.002, **shapes, extra_reward=ramp(0.0, 1.45, 0))
    assert "form_only" not in first_steps(earned, right=1.1)
    assert "reward_hack" in first_steps(
        series(25, **shapes | {"accuracy": ramp(0.23, 0.03, 0)}, extra_reward=ramp(0.0, 1.45, 0))
    )


def test_form_that_takes_accuracy_with_it_is_no_hack() -> None:
    """The share right among the well-formed falls a little, because the hard questions become
    well-formed too."""
    shapes = {
        "format_rate": ramp(0.4, 0.98, 0, 20),
        "accuracy": ramp(0.16, 0.33, 0, 20),
        "reward": ramp(-1.0, 0.33, 0, 20),
    }
    assert first_steps(series(60, **shapes)) == {}


def test_entropy_that_is_gone_is_an_alarm_and_knowledge_is_none() -> None:
    collapse = {"entropy": ramp(0.5, 0.01, 5)}
    assert first_steps(series(40, **collapse)).keys() == {"entropy_collapse"}
    solved = {"accuracy": ramp(0.4, 0.97, 5), "reward": ramp(0.4, 1.07, 5), "zero_advantage_groups": ramp(9, 31.5, 5)}
    assert first_steps(series(40, **collapse, **solved)) == {}
    assert first_steps(series(40, entropy=ramp(0.5, 0.15, 5))) == {}  # what learning leaves


@pytest.mark.parametrize("end", [240.0, 40.0])
def test_answers_that_grow_or_shrink_are_an_alarm_unless_they_are_right_more_often(end: float) -> None:
    drift = {"length": ramp(100.0, end, 5, 20)}
    assert first_steps(series(60, **drift)).keys() == {"length_drift"}
    assert first_steps(series(60, **drift, accuracy=ramp(0.4, 0.7, 5, 20), reward=ramp(0.4, 0.7, 5, 20))) == {}


def test_answers_that_meet_the_token_limit_are_a_drift_too() -> None:
    assert "length_drift" in first_steps(series(60, truncated=ramp(0.02, 0.4, 5, 20)))


@pytest.mark.parametrize("level", [-1.5, 1.05])
def test_a_reward_that_jumps_is_an_alarm_and_one_that_climbs_is_none(level: float) -> None:
    assert first_steps(series(40, reward=ramp(0.4, level, 20, 1)))["reward_jump"] in (21, 22)
    assert first_steps(series(60, reward=ramp(-1.5, 0.9, 3, 25), accuracy=ramp(0.1, 0.6, 3, 25))) == {}


def test_groups_without_a_signal_are_an_alarm_unless_the_questions_are_solved() -> None:
    silent = {"zero_advantage_groups": ramp(20, 32, 10)}
    assert "no_signal" in first_steps(series(30, noise=0.001, **silent))
    solved = {"accuracy": ramp(0.8, 0.99, 0), "reward": ramp(0.9, 1.08, 0)}
    assert "no_signal" not in first_steps(series(30, noise=0.001, **silent, **solved))


def test_a_sampler_that_parts_from_the_learner_is_an_alarm_and_half_precision_is_none() -> None:
    assert first_steps(series(40, train_inference_mismatch=ramp(0.004, 0.08, 10))).keys() == {
        "train_inference_mismatch"
    }
    assert first_steps(series(40, train_inference_mismatch=ramp(1e-6, 1e-3, 10))) == {}


def test_metrics_that_are_missing_or_no_numbers_raise_nothing() -> None:
    rows = series(30)
    assert first_steps([{"reward": row["reward"], "accuracy": 0.0, "format_rate": 0.0} for row in rows]) == {}
    assert first_steps([{**row, "entropy": math.nan, "reward": math.nan} for row in rows]) == {}
    assert first_steps([{**row, **({"entropy": 0.5} if place % 3 else {})} for place, row in enumerate(rows)]) == {}
    assert alarms(Curves([], 32, **PAPER)) == {}


def healthy_run(seed: int, steps: int = 120) -> tuple[Rows, int]:
    """A run that learns, as it would be recorded: questions of all difficulties, groups of answers,
    form learned at once or slowly, before, with or long before accuracy; from hardly a right answer
    or many; entropy falling to a third, answers growing with skill."""
    draw = np.random.default_rng(seed)
    questions, members = int(draw.choice([16, 32, 64])), int(draw.choice([8, 12]))
    difficulty = draw.normal(0, draw.uniform(0.8, 2.5), size=600)
    start, gain = draw.uniform(-2.5, 1.0), draw.uniform(0.5, 3.5)
    middle, pace = draw.uniform(5, 70), draw.uniform(3, 20)
    first_form, form_middle, form_pace = (
        draw.choice([0.985, draw.uniform(0.2, 0.9)]),
        draw.uniform(3, 30),
        draw.uniform(2, 8),
    )
    longer, level, gap = draw.uniform(0.7, 1.6), draw.uniform(0.03, 1.0), draw.choice([1e-6, 0.01])
    rows: Rows = []
    for step in range(steps):
        learned = 1 / (1 + math.exp((middle - step) / pace))
        form = first_form + (0.985 - first_form) / (1 + math.exp((form_middle - step) / form_pace))
        asked = draw.choice(difficulty, size=questions, replace=False)[:, None]
        right = draw.random((questions, members)) < 1 / (1 + np.exp(asked - start - gain * learned))
        eased = np.clip(
            form - 0.05 * np.tanh(asked) * (1 - form), 0, 1
        )  # hard questions are malformed a little more often
        formed = draw.random((questions, members)) < eased
        rewards = np.where(formed, np.where(right, 1.1, 0.0), -2.0)
        lengths = draw.lognormal(4 + math.log(longer) * learned, 0.4, size=(questions, members))
        rows.append(
            {
                "reward": float(rewards.mean()),
                "accuracy": float((right & formed).mean()),
                "format_rate": float(formed.mean()),
                "truncated": float((lengths > 180).mean()),
                "length": float(lengths.mean()),
                "entropy": level * (1 - 0.7 * learned) * draw.lognormal(0, 0.2),
                "zero_advantage_groups": float((rewards.std(1) == 0).sum()),
                "train_inference_mismatch": gap * draw.lognormal(0, 0.3),
            }
        )
    return rows, questions


def test_forty_healthy_runs_raise_no_alarm() -> None:
    wronged = {
        seed: found
        for seed in range(40)
        for rows, questions in [healthy_run(seed)]
        if (found := first_steps(rows, questions))
    }
    assert wronged == {}


def test_every_alarm_names_what_it_saw() -> None:
    shapes = {"format_rate": ramp(0.44, 1.0, 0), "accuracy": ramp(0.23, 0.03, 0), "reward": ramp(-0.87, 0.03, 0)}
    said = alarms(Curves(series(20, noise=0.001, **shapes), 32, **PAPER))["reward_hack"]
    assert "from -0.60 to 0.03" in said and "(29%, then 3%)" in said
    assert ALARMS.keys() == {
        "reward_hack",
        "form_only",
        "entropy_collapse",
        "length_drift",
        "reward_jump",
        "no_signal",
        "train_inference_mismatch",
    }


def test_alarms_are_documented(repository: Path) -> None:
    page = (repository / "docs" / "rlvr.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in ALARMS)
    json.dumps(alarms(Curves(series(20), 32, **PAPER)))
