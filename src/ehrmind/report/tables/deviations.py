"""The table of deviations from the paper's settings and from the run's own plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ehrmind.config import split_arm
from ehrmind.report.formatting import Cell, Rows, Table, arm_name, number
from ehrmind.report.reading import Figures

# The settings that arXiv 2505.24105 states of its runs, by recipe key.
PAPER: dict[tuple[str, ...], Any] = {
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


def _from_paper(recipe: Mapping[str, Any]) -> Iterator[list[str | Cell]]:
    models = {split_arm(arm)[0] for arm in recipe.get("arms", [])}
    used = {"prompts", "decoding"}
    used |= {"warmup"} if models & {"sft", "sft_rlvr"} else set()
    used |= {"rlvr", "reward"} if models & {"rlvr", "sft_rlvr"} else set()
    for (part, key), stated in PAPER.items():
        here = (recipe.get(part) or {}).get(key)
        if part in used and here is not None and here != stated:
            yield [f"{part}.{key}", _value(here), Cell(_value(stated), "the paper")]


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def _from_plan(figures: Figures) -> Iterator[list[str | Cell]]:
    """Cases scored again, stages stopped, rows left out, labels recomputed, no answers."""
    times: dict[str, int] = {}
    for scoring in figures.results.get("held_out_scorings", []):
        key = f"{arm_name(scoring['arm'])}, {scoring['decoding']}, seed {scoring['seed']}"
        times[key] = times.get(key, 0) + 1
    for key, count in times.items():
        if count > 1:
            yield [f"held-out cases scored: {key}", Cell(f"{count} times", tone="warn"), "once"]
    for stage, mark in figures.marks.items():
        if mark.get("stopped"):
            steps = Cell(number(mark.get("step")), str(mark["stopped"]))
            yield [f"{stage}: steps", steps, number(figures.recipe["rlvr"]["steps"])]
        if mark.get("left_out_too_long"):
            yield [f"{stage}: prompts left out as too long", number(mark["left_out_too_long"]), "0"]
        if mark.get("without_reasoning"):
            taught = f"{number(mark['without_reasoning'])} answers without reasoning"
            cell = Cell(taught, "the data have no worked answers", tone="warn")
            yield [f"{stage}: what was taught", cell, "worked answers"]
    data = figures.provenance.get("data", {})
    if dropped := data.get("train_notes_also_held_out_dropped"):
        yield ["training cases dropped, held-out has their note", number(dropped), "0"]
    for place, read in (data.get("sources") or {}).items():
        for reason, count in (read.get("left_out") or {}).items():
            yield [f"{place.replace('_', '-')}: {reason}", f"{number(count)} left out", "0"]
    for split in ("train", "tuning", "held_out"):
        if ((figures.recipe.get("data") or {}).get(split) or {}).get("recompute"):
            yield [f"labels of {split.replace('_', '-')}", "recomputed by the published formulas", "as stored"]
    for arm, row in figures.results["arms"].items():
        if (row.get("endpoint") or {}).get("unanswered"):
            yield [f"{arm}: questions without an answer", Cell(number(row["endpoint"]["unanswered"]), tone="warn"), "0"]
