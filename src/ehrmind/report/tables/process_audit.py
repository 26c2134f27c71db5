"""Tables of the process audit: each arm's thinking, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, arm_name, interval, number, percent
from ehrmind.report.reading import Figures

PART_NAMES = {
    "grounding": "Grounded",
    "entities": "Inputs said",
    "formula": "Formula",
    "arithmetic": "Arithmetic",
    "conclusion": "Conclusion",
    "leak": "No leak",
}


def parts(figures: Figures) -> Table | None:
    """The share of checked items that passed; None where no arm was asked to think."""
    audited = _audited(figures)
    if not audited:
        return None
    rows: Rows = []
    for arm, found in audited.items():
        flawed = share_cell(found["right_but_flawed"], "flawed", "n")
        if found["right_but_flawed"] and found["right_but_flawed"]["flawed"]:
            flawed = Cell(flawed.text, flawed.note, "warn")
        rows.append([arm_name(arm), *(share_cell(found.get(part), "passed", "checked") for part in PART_NAMES), flawed])
    caption = (
        f"The process audit of the thinking, {figures.results['decoding']} decoding: for each part, the share of checked "
        "items that is right, with its 95 % interval over patients. A dash: nothing to check. Last column: right "
        "answers in which a step, value, conclusion or leak is wrong."
    )
    return Table(caption, ["Arm", *PART_NAMES.values(), "Right, but flawed"], rows)


def flaws(figures: Figures) -> Table | None:
    """The most frequent findings, by arm."""
    rows: Rows = [
        [arm_name(arm), PART_NAMES.get(row["part"], row["part"]), row["what"], number(row["times"])]
        for arm, found in _audited(figures).items()
        for row in found["findings"]
    ]
    return Table("What the audit found most often.", ["Arm", "Part", "What", "Times"], rows) if rows else None


def _audited(figures: Figures) -> dict[str, Mapping[str, Any]]:
    return {arm: row["process"] for arm, row in figures.results["arms"].items() if row.get("process")}


def share_cell(found: Mapping[str, Any] | None, part: str, whole: str) -> Cell:
    """A share with its interval and counts; a dash where nothing was counted."""
    if not found or not found[whole]:
        return Cell(ABSENT)
    return Cell(percent(found["share"]), f"{interval(found['ci95'])}, {found[part]:,} of {found[whole]:,}")
