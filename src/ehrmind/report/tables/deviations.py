"""The table of deviations from the paper's settings and from the run's own plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydantic import JsonValue

from ehrmind.config import Recipe, split_arm
from ehrmind.report.formatting import Cell, Rows, Table, arm_name, number
from ehrmind.report.reading import Figures
from ehrmind.runs import SPLITS
from ehrmind.runs.records import DataFacts

# The settings that arXiv 2505.24105 states of its runs, by recipe key.
PAPER: dict[tuple[str, str], JsonValue] = {
    ("prompts", "think"): True,
    ("decoding", "temperature"): 0.6,
    ("decoding", "top_p"): 0.95,
    ("reward", "malformed"): -2.0,
    ("reward", "wrong"): 0.0,
    ("reward", "correct"): 1.0,
    ("reward", "correct_format"): 0.1,
    ("warmup", "learning_rate"): 2e-5,
    ("warmup", "batch"): 16,
    ("warmup", "epochs"): 2,
    ("rlvr", "learning_rate"): 1e-6,
    ("rlvr", "questions_per_step"): 32,
    ("rlvr", "samples"): 12,
    ("rlvr", "advantage"): "grpo",
    ("rlvr", "kl"): 0.001,
}


def deviations(figures: Figures) -> Table | None:
    """None where the run departs from nothing."""
    rows: Rows = [*_from_paper(figures.recipe), *_from_plan(figures)]
    caption = (
        "Where this run departs from the reward, sampling, warm-up and GRPO settings of the paper (arXiv 2505.24105), "
        "as far as it states them, and from its own plan."
    )
    return Table(caption, ["What", "Here", "There"], rows) if rows else None


def _from_paper(recipe: Recipe) -> Iterator[list[str | Cell]]:
    models = {split_arm(arm)[0] for arm in recipe.arms}
    used = {"prompts", "decoding"}
    used |= {"warmup"} if models & {"sft", "sft_rlvr"} else set()
    used |= {"rlvr", "reward"} if models & {"rlvr", "sft_rlvr"} else set()
    for (part, key), stated in PAPER.items():
        here = getattr(getattr(recipe, part), key)
        if part in used and here != stated:
            yield [f"{part}.{key}", _value(here), Cell(_value(stated), "the paper")]
    for name, extra in recipe.reward.extra.items() if "reward" in used else ():
        yield [f"reward.extra.{name}", Cell(extra.function, f"weight {extra.weight:g}"), Cell("none", "the paper")]


def _value(value: JsonValue) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def _from_plan(figures: Figures) -> Iterator[list[str | Cell]]:
    """Cases scored again, stages stopped, rows left out, labels recomputed, no answers."""
    scorings = [f"{arm_name(one.arm)}, {one.decoding}, seed {one.seed}" for one in figures.results.held_out_scorings]
    for key, count in Counter(scorings).items():
        if count > 1:
            yield [f"held-out cases scored: {key}", Cell(f"{count} times", tone="warn"), "once"]
    for arm, mark in figures.rlvr.items():
        if mark.stopped:
            yield [f"rlvr-{arm}: steps", Cell(number(mark.step), mark.stopped), number(figures.recipe.rlvr.steps)]
        if mark.left_out_too_long:
            yield [f"rlvr-{arm}: prompts left out as too long", number(mark.left_out_too_long), "0"]
    if figures.warmup is not None and figures.warmup.without_reasoning:
        taught = f"{number(figures.warmup.without_reasoning)} answers without reasoning"
        yield ["warmup: what was taught", Cell(taught, "the data have no worked answers", "warn"), "worked answers"]
    if figures.provenance is not None:
        yield from _from_data(figures.provenance.data)
    for split in SPLITS:
        if getattr(figures.recipe.data, split).recompute:
            yield [f"labels of {split.replace('_', '-')}", "recomputed by the published formulas", "as stored"]
    for arm, row in figures.results.arms.items():
        if row.endpoint is not None and row.endpoint.unanswered:
            yield [f"{arm}: questions without an answer", Cell(number(row.endpoint.unanswered), tone="warn"), "0"]


def _from_data(data: DataFacts) -> Iterator[list[str | Cell]]:
    if dropped := data.train_notes_also_held_out_dropped:
        yield ["training cases dropped, held-out has their note", number(dropped), "0"]
    for place, read in data.sources.items():
        left_out = read.get("left_out")
        for reason, count in left_out.items() if isinstance(left_out, dict) else ():
            yield [f"{place.replace('_', '-')}: {reason}", f"{number(count)} left out", "0"]
