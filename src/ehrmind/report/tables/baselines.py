"""Table and sentence of the baselines, which use no language model."""

from __future__ import annotations

from ehrmind.report.formatting import Rows, Table, accuracy, arm_name, interval, number, p_value, percent, points
from ehrmind.report.reading import Figures
from ehrmind.report.tables.results import difference

ORACLE = "commonest_label_oracle"


def baselines(figures: Figures) -> Table | None:
    """Every baseline's accuracy and each arm's difference to it, on the held-out cases and on the
    transfer sets; None where there are no baselines."""
    sets = {"": figures.results.baseline_accuracy}
    sets |= {f", on {name}": found.baseline_accuracy for name, found in figures.results.transfer.items()}
    rows: Rows = [
        [
            f"{arm_name(name)}{where}",
            number(row.n),
            accuracy(row),
            number(row.unanswered),
            *(difference(row.differences.get(arm)) for arm in figures.arms),
        ]
        for where, of in sets.items()
        for name, row in of.items()
    ]
    if not rows:
        return None
    caption = (
        "Baselines without a language model, on the cases that each is made for: share answered right, then the "
        f"differences of the arms to it in points on the same cases, {figures.results.decoding} decoding, with 95 % "
        "intervals over patients and p as in the paired tests, adjusted for the number of arms (Holm). No answer: "
        "train lacks the calculator, which counts as wrong."
    )
    if any(ORACLE in of for of in sets.values()):
        caption += (
            " The oracle gives the answer that is right for most of these cases themselves: a bound of what one answer "
            "per calculator can reach, and no fair baseline."
        )
    titles = ["Baseline", "Cases", "Right", "No answer", *(f"{arm_name(arm)} − baseline" for arm in figures.arms)]
    return Table(caption, titles, rows)


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
