"""Forgetting: trained arms against base on general questions."""

from __future__ import annotations

from ehrmind.report.formatting import Cell, Rows, Table, arm_name, interval, number, p_value, percent, points
from ehrmind.report.reading import Figures
from ehrmind.runs.records import Results


def forgetting(figures: Figures) -> Table | None:
    found = figures.results.forgetting
    if not found:
        return None
    rows: Rows = []
    for arm, row in found.arms.items():
        skill = Cell("kept", tone="good") if row.kept else Cell("not shown to be kept", tone="warn")
        if row.lost and not row.kept:
            skill = Cell("lost", tone="warn")
        difference = Cell(points(row.difference), f"{interval(row.ci95)}; {p_value(row.p)}")
        rows.append([arm_name(arm), percent(found.base + row.difference), difference, skill])
    caption = (
        f"{found.n:,} general questions, of which base answers {percent(found.base)} right: what training made a "
        f"model forget. Kept: the interval's lower end is above −{100 * found.margin:g} points"
        f"{' (the gate of this recipe)' if found.gate else ''}."
    )
    return Table(caption, ["Arm", "Right", "Against base", "General skill"], rows)


def forgetting_sentence(results: Results) -> list[str]:
    """The arms that are not shown to keep their skill; empty without general questions."""
    found = results.forgetting
    if not found:
        return []
    failing = [arm_name(arm) for arm, row in found.arms.items() if not row.kept]
    margin = f"{100 * found.margin:g} points"
    said = f"On {number(found.n)} general questions, of which base answers {percent(found.base)} right,"
    if not failing:
        return [f"{said} every trained arm keeps within {margin} of it."]
    return [f"{said} not shown to keep within {margin} of it: {', '.join(failing)}."]
