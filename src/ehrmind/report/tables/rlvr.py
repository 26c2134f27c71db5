"""What a run of RLVR noticed about itself, and which questions it asked."""

from __future__ import annotations

from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Table, arm_name, number, percent
from ehrmind.report.reading import Figures


def alarms(figures: Figures) -> list[str]:
    """A sentence an alarm, in the order they were raised; and why a stage ended early, where it did."""
    said = [
        f"{arm_name(row['arm'])}, step {row['step'] + 1}, {row['alarm'].replace('_', ' ')}: {row['said']}."
        for row in figures.results.get("alarms", [])
    ]
    for arm, mark in _marks(figures).items():
        if mark.get("stopped"):
            said.append(f"{arm_name(arm)} was stopped after {mark['step']} steps: {mark['stopped']}.")
    return said


def questions(figures: Figures) -> Table | None:
    """What train has and what was asked, stratum by stratum; None where questions were asked in turn, all families alike."""
    marks = chosen(figures)
    if not marks:
        return None
    rows: list[list[str | Cell]] = []
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


def chosen(figures: Figures) -> dict[str, dict[str, Any]]:
    """The marks of RLVR stages by arm, where the recipe has a say in which questions are asked."""
    settings = figures.recipe.get("rlvr", {})
    if settings.get("questions", "uniform") == "uniform" and not settings.get("mix"):
        return {}
    return {arm: mark for arm, mark in _marks(figures).items() if mark.get("asked_by_stratum")}


def strata_of(marks: dict[str, dict[str, Any]]) -> list[str]:
    return sorted({stratum for mark in marks.values() for stratum in mark["in_train_by_stratum"]})


def _marks(figures: Figures) -> dict[str, dict[str, Any]]:
    return {
        stage.removeprefix("rlvr-"): dict(mark)
        for stage, mark in sorted(figures.marks.items())
        if stage.startswith("rlvr-")
    }


def _asked(mark: dict[str, Any], stratum: str) -> Cell:
    asked, total = mark["asked_by_stratum"].get(stratum, 0), sum(mark["asked_by_stratum"].values())
    return Cell(number(asked), percent(asked / max(1, total)))
