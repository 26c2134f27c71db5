"""Tables of training: curves, questions asked; and the alarms, as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, arm_name, number, percent
from ehrmind.report.reading import Figures

CURVES = {
    "reward": "reward",
    "accuracy": "right",
    "format_rate": "well-formed",
    "length": "tokens an answer",
    "kl": "KL from the start",
    "entropy": "entropy",
    "zero_advantage_groups": "groups without signal",
    "tuning_accuracy": "right on tuning",
}
WARMUP = {"loss": "loss", "gradient_norm": "gradient norm", "learning_rate": "learning rate"}
MOST_STEPS = 100  # rows of a learning curve's table; the plot shows every step


def curves(figures: Figures) -> list[Table]:
    return [
        _steps(rows, CURVES, f"RLVR of the arm {arm_name(arm)}, step by step") for arm, rows in figures.curves().items()
    ]


def warmup(figures: Figures) -> Table | None:
    rows = figures.metrics.get("warmup")
    return _steps(rows, WARMUP, "Warm-up") if rows else None


def _steps(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], what: str) -> Table:
    """Evenly spaced steps, always with the last one and those that were scored on tuning."""
    every = max(1, -(-len(rows) // MOST_STEPS))
    shown = [
        row
        for place, row in enumerate(rows)
        if place % every == 0 or place == len(rows) - 1 or "tuning_accuracy" in row
    ]
    caption = f"{what}{'' if every == 1 else f' (one step in {every}, and those scored on tuning)'}."
    cells = [[number(row["step"] + 1), *(number(row.get(name)) for name in titles)] for row in shown]
    return Table(caption, ["Step", *titles.values()], cells)


def alarms(figures: Figures) -> list[str]:
    """A sentence for each alarm, in order, and one for each stage that ended early."""
    sentences = [
        f"{arm_name(row['arm'])}, step {row['step'] + 1}, {row['alarm'].replace('_', ' ')}: {row['said']}."
        for row in figures.results.get("alarms", [])
    ]
    for arm, mark in _marks(figures).items():
        if mark.get("stopped"):
            sentences.append(f"{arm_name(arm)} was stopped after {mark['step']} steps: {mark['stopped']}.")
    return sentences


def questions(figures: Figures) -> Table | None:
    """Questions in train and asked in RLVR, by stratum; None without a curriculum."""
    marks = curriculum_marks(figures)
    if not marks:
        return None
    rows: Rows = []
    for stratum in strata_of(marks):
        held = max(mark["in_train_by_stratum"].get(stratum, 0) for mark in marks.values())
        pilot = (figures.pilot or {}).get("by_stratum", {}).get(stratum)
        cells = [_asked(mark, stratum) for mark in marks.values()]
        rows.append([stratum, number(held), percent(pilot["pass@1"]) if pilot else ABSENT, *cells])
    settings = figures.recipe["rlvr"]
    how = "by their pass rate" if settings["curriculum"] == "pass_rate" else "in turn"
    mixed = ", families in the shares of rlvr.mix" if settings["mix"] else ""
    caption = f"Questions asked in RLVR, drawn {how}{mixed}: how many, and their share of all that were asked."
    return Table(caption, ["Stratum", "In train", "pass@1 in the pilot", *map(arm_name, marks)], rows)


def curriculum_marks(figures: Figures) -> dict[str, dict[str, Any]]:
    """The marks of RLVR stages by arm, where the recipe decides which questions are asked."""
    settings = figures.recipe.get("rlvr", {})
    if settings.get("curriculum", "uniform") == "uniform" and not settings.get("mix"):
        return {}
    return {arm: mark for arm, mark in _marks(figures).items() if mark.get("asked_by_stratum")}


def strata_of(marks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return sorted({stratum for mark in marks.values() for stratum in mark["in_train_by_stratum"]})


def _marks(figures: Figures) -> dict[str, dict[str, Any]]:
    return {
        stage.removeprefix("rlvr-"): dict(mark)
        for stage, mark in sorted(figures.marks.items())
        if stage.startswith("rlvr-")
    }


def _asked(mark: Mapping[str, Any], stratum: str) -> Cell:
    asked, total = mark["asked_by_stratum"].get(stratum, 0), sum(mark["asked_by_stratum"].values())
    return Cell(number(asked), percent(asked / max(1, total)))
