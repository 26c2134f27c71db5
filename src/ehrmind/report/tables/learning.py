"""Tables of training: curves, questions asked; and the alarms, as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, arm_name, number, percent
from ehrmind.report.reading import Figures, Training
from ehrmind.runs.records import RlvrMark, StepMetrics

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


def curves(training: Training) -> list[Table]:
    return [
        _steps(rows, CURVES, f"RLVR of the arm {arm_name(arm)}, step by step")
        for arm, rows in training.curves().items()
    ]


def warmup(training: Training) -> Table | None:
    rows = training.metrics.get("warmup")
    return _steps(rows, WARMUP, "Warm-up") if rows else None


def _steps(rows: Sequence[StepMetrics], titles: Mapping[str, str], what: str) -> Table:
    """Evenly spaced steps, always with the last one and those that were scored on tuning."""
    every = max(1, -(-len(rows) // MOST_STEPS))
    shown = [
        row
        for place, row in enumerate(rows)
        if place % every == 0 or place == len(rows) - 1 or "tuning_accuracy" in row.values
    ]
    caption = f"{what}{'' if every == 1 else f' (one step in {every}, and those scored on tuning)'}."
    cells = [[number(row.step + 1), *(number(row.values.get(name)) for name in titles)] for row in shown]
    return Table(caption, ["Step", *titles.values()], cells)


def alarms(training: Training) -> list[str]:
    """A sentence for each alarm, in order, and one for each stage that ended early."""
    sentences = [
        f"{arm_name(row.arm)}, step {row.step + 1}, {row.alarm.replace('_', ' ')}: {row.said}."
        for row in training.alarms
    ]
    for arm, mark in training.rlvr.items():
        if mark.stopped:
            sentences.append(f"{arm_name(arm)} was stopped after {mark.step} steps: {mark.stopped}.")
    return sentences


def questions(figures: Figures) -> Table | None:
    """Questions in train and asked in RLVR, by stratum; None without a curriculum."""
    marks = curriculum_marks(figures)
    if not marks:
        return None
    rows: Rows = []
    for stratum in strata_of(marks):
        held = max(mark.in_train_by_stratum.get(stratum, 0) for mark in marks.values())
        pilot = figures.pilot.by_stratum.get(stratum) if figures.pilot else None
        cells = [_asked(mark, stratum) for mark in marks.values()]
        rows.append([stratum, number(held), percent(pilot.pass_at_1) if pilot else ABSENT, *cells])
    settings = figures.recipe.rlvr
    how = "by their pass rate" if settings.curriculum == "pass_rate" else "in turn"
    mixed = ", families in the shares of rlvr.mix" if settings.mix else ""
    caption = f"Questions asked in RLVR, drawn {how}{mixed}: how many, and their share of all that were asked."
    return Table(caption, ["Stratum", "In train", "pass@1 in the pilot", *map(arm_name, marks)], rows)


def curriculum_marks(figures: Figures) -> dict[str, RlvrMark]:
    """The marks of RLVR stages by arm, where the recipe decides which questions are asked."""
    settings = figures.recipe.rlvr
    if settings.curriculum == "uniform" and not settings.mix:
        return {}
    return {arm: mark for arm, mark in figures.rlvr.items() if mark.asked_by_stratum}


def strata_of(marks: Mapping[str, RlvrMark]) -> list[str]:
    return sorted({stratum for mark in marks.values() for stratum in mark.in_train_by_stratum})


def _asked(mark: RlvrMark, stratum: str) -> Cell:
    asked, total = mark.asked_by_stratum.get(stratum, 0), sum(mark.asked_by_stratum.values())
    return Cell(number(asked), percent(asked / max(1, total)))
