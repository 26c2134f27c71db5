"""Tables of the process audit: each arm's thinking, part by part."""

from __future__ import annotations

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, arm_name, interval, number, percent
from ehrmind.report.reading import Figures
from ehrmind.runs.records import Interval95, ProcessFigures

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
        cells = [
            Cell(ABSENT) if part is None else share_cell(part.share, part.ci95, part.passed, part.checked)
            for part in map(found.part, PART_NAMES)
        ]
        flawed = Cell(ABSENT)
        if (right := found.right_but_flawed) is not None:
            tone = "warn" if right.flawed else ""
            flawed = share_cell(right.share, right.ci95, right.flawed, right.n, tone)
        rows.append([arm_name(arm), *cells, flawed])
    caption = (
        f"The process audit of the thinking, {figures.results.decoding} decoding: for each part, the share of checked "
        "items that is right, with its 95 % interval over patients. A dash: nothing to check. Last column: right "
        "answers in which a step, value, conclusion or leak is wrong."
    )
    return Table(caption, ["Arm", *PART_NAMES.values(), "Right, but flawed"], rows)


def flaws(figures: Figures) -> Table | None:
    """The most frequent findings, by arm."""
    rows: Rows = [
        [arm_name(arm), PART_NAMES.get(row.part, row.part), row.what, number(row.times)]
        for arm, found in _audited(figures).items()
        for row in found.findings
    ]
    return Table("What the audit found most often.", ["Arm", "Part", "What", "Times"], rows) if rows else None


def flawed_sentence(figures: Figures, arm: str) -> list[str]:
    """Says how many right answers of an arm rest on flawed reasoning, and how many of base's."""
    found = {one: row.right_but_flawed for one, row in _audited(figures).items() if row.right_but_flawed}
    if arm not in found:
        return []
    row = found[arm]
    said = (
        f"Of the {row.n:,} right answers of {arm_name(arm)}, {percent(row.share)} ({interval(row.ci95)}) rest on "
        "flawed reasoning"
    )
    if arm == "base" or "base" not in found:
        return [f"{said}."]
    return [f"{said}; of the {found['base'].n:,} of {arm_name('base')}, {percent(found['base'].share)}."]


def _audited(figures: Figures) -> dict[str, ProcessFigures]:
    return {arm: row.process for arm, row in figures.results.arms.items() if row.process is not None}


def share_cell(share: float | None, ci95: Interval95 | None, part: int, whole: int, tone: str = "") -> Cell:
    """A share with its interval and counts; a dash where nothing was counted."""
    if share is None or ci95 is None or not whole:
        return Cell(ABSENT)
    return Cell(percent(share), f"{interval(ci95)}, {part:,} of {whole:,}", tone)
