"""Tables of accuracy by part: tasks that train has or lacks, the patient's age and sex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ehrmind.report.formatting import Table
from ehrmind.report.reading import Figures
from ehrmind.report.tables.results import by_arm, shares_by


def seen(figures: Figures) -> Table | None:
    """None where train has every task."""
    shares = seen_shares(figures)
    if not shares:
        return None
    caption = "Held-out cases of tasks (calculators, collections) that train has, and of tasks that it lacks."
    return by_arm(figures, caption, "Task", shares)


def seen_shares(figures: Figures) -> dict[str, dict[str, Mapping[str, Any]]]:
    shares = shares_by(figures, "by_seen")
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
    return by_arm(figures, caption, "Patients", shares)


def subgroup_shares(figures: Figures) -> dict[str, dict[str, Mapping[str, Any]]]:
    shares: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name in ("age", "sex"):
        groups = shares_by(figures, "subgroups", name)
        if groups.keys() - {"unknown"}:
            order = sorted(groups, key=lambda group: (group == "unknown", group != "under 18", group))
            shares |= {f"{name}: {group}": groups[group] for group in order}
    return shares
