"""Tables of the clinicians' review: agreement with verifier and audit, and verdicts by arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, arm_name, interval, number, percent
from ehrmind.report.reading import Figures
from ehrmind.report.tables.process_audit import share_cell

NAMES = {
    "answer": "The answer is right: clinician and verifier",
    "reasoning": "The reasoning is sound: clinician and audit",
    "answer_between_reviewers": "The answer: between reviewers",
    "reasoning_between_reviewers": "The reasoning: between reviewers",
}


def agreement(figures: Figures) -> Table | None:
    """How far clinicians agree with the verifier, with the audit and with each other."""
    found = figures.review
    if not found:
        return None
    rows: Rows = [[name, *_agreement(found[key])] for key, name in NAMES.items() if found.get(key)]
    readers = "one reviewer" if found["reviewers"] == 1 else f"{found['reviewers']} reviewers"
    caption = (
        f"Read by {readers}, {found['reviewed']:,} verdicts on {found['answers']:,} of {found['sampled']:,} sampled "
        "answers."
    )
    return Table(caption, ["Judgement", "Verdicts", "Agree", "Cohen's κ"], rows)


def _agreement(found: Mapping[str, Any]) -> list[str | Cell]:
    if not found["n"]:
        return [number(0), ABSENT, ABSENT]
    return [number(found["n"]), Cell(percent(found["share"]), interval(found["ci95"])), number(found["kappa"])]


def by_arm(figures: Figures) -> Table | None:
    found = figures.review
    if not found or not found["by_arm"]:
        return None
    rows: Rows = [
        [arm_name(arm), share_cell(row["answer_right"], "yes", "n"), share_cell(row["reasoning_sound"], "yes", "n")]
        for arm, row in found["by_arm"].items()
    ]
    caption = (
        "Clinicians' verdicts by arm. The sample takes every verdict and audit result in turn, so these are not the "
        "shares of all answers."
    )
    return Table(caption, ["Arm", "Answer right", "Reasoning sound"], rows)
