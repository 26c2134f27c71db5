"""Tables and sentence of the baselines, which use no language model."""

from __future__ import annotations

from collections.abc import Mapping

from ehrmind.report.formatting import Rows, Table, accuracy, arm_name, interval, number, p_value, percent, points
from ehrmind.report.reading import Figures
from ehrmind.report.tables.results import difference
from ehrmind.runs.records import BaselineAccuracy

ORACLE = "commonest_label_oracle"


def baselines(figures: Figures) -> list[Table]:
    """Every baseline's accuracy and each arm's difference to it: a table for the held-out cases and
    for each transfer set."""
    sets = {"Held-out": figures.results.baseline_accuracy}
    sets |= {name: found.baseline_accuracy for name, found in figures.results.transfer.items()}
    return [_table(figures, name, found) for name, found in sets.items() if found]


def _table(figures: Figures, name: str, found: Mapping[str, BaselineAccuracy]) -> Table:
    rows: Rows = [
        ["Cases", *(number(row.n) for row in found.values())],
        ["Right", *map(accuracy, found.values())],
        ["No answer", *(number(row.unanswered) for row in found.values())],
    ]
    for arm in figures.arms:
        rows.append([f"{arm_name(arm)} − baseline", *(difference(row.differences.get(arm)) for row in found.values())])
    caption = (
        f"Baselines without a language model on {name.lower()} cases, each on those that it is made for: the share "
        "answered right, then the differences of the arms to it in points on the same cases. "
        f"{figures.results.decoding.capitalize()} decoding, 95 % intervals over patients, p as in the paired tests and "
        "adjusted for the number of arms (Holm). No answer: train lacks the calculator, which counts as wrong."
    )
    if ORACLE in found:
        caption += (
            " The oracle gives the answer that is right for most of these cases themselves: a bound of what one answer "
            "per calculator can reach, and no fair baseline."
        )
    return Table(caption, [f"{name} cases", *map(arm_name, found)], rows)


def baseline_sentence(figures: Figures, arm: str) -> list[str]:
    """Compares an arm with the best of the baselines that are made for most cases."""
    found = figures.results.baseline_accuracy
    fair = {name: row for name, row in found.items() if name != ORACLE and arm in row.differences}
    if not fair:
        return []
    name = max(fair, key=lambda name: (fair[name].n, fair[name].accuracy))
    row, pair = fair[name], fair[name].differences[arm]
    return [
        f"Without a language model, the baseline “{arm_name(name)}” answers {percent(row.accuracy)} of {row.n:,} cases "
        f"right ({interval(row.ci95)}); {arm_name(arm)} differs from it by {points(pair.difference)} points "
        f"({interval(pair.ci95)}, {p_value(pair.p)})."
    ]
