"""Tables of accuracy by part: tasks that train has or lacks, the patient's age and sex."""

from __future__ import annotations

from collections.abc import Mapping

from ehrmind.report.formatting import Table
from ehrmind.report.reading import Figures
from ehrmind.report.tables.results import Shares, accuracy_table, shares_by
from ehrmind.runs.records import Accuracy


def seen(figures: Figures) -> Table | None:
    """None where train has every task."""
    shares = seen_shares(figures)
    if not shares:
        return None
    caption = "Held-out cases of tasks (calculators, collections) that train has, and of tasks that it lacks."
    return accuracy_table(caption, "Task", shares, figures.arms)


def seen_shares(figures: Figures) -> Shares:
    shares = shares_by(figures, lambda arm: arm.by_seen)
    return shares if "unseen" in shares else {}


def subgroups(figures: Figures) -> Table | None:
    """None where the age and sex of every patient are unknown."""
    shares = subgroup_shares(figures)
    if not shares:
        return None
    caption = (
        "Held-out cases by the patient's age and sex, as far as the data say them. Groups may differ because their "
        "questions differ."
    )
    return accuracy_table(caption, "Patients", shares, figures.arms)


def subgroup_shares(figures: Figures) -> Shares:
    shares: dict[str, Mapping[str, Accuracy | None]] = {}
    for name in ("age", "sex"):
        groups = shares_by(figures, lambda arm, name=name: arm.subgroups.get(name, {}))  # type: ignore[misc]
        if groups.keys() - {"unknown"}:
            order = sorted(groups, key=lambda group: (group == "unknown", group != "under 18", group))
            shares |= {f"{name}: {group}": groups[group] for group in order}
    return shares
