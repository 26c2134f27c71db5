"""Tables of the clinicians' review: agreement with verifier and audit, and verdicts by arm."""

from __future__ import annotations

from ehrmind.report.formatting import ABSENT, Cell, Rows, Table, arm_name, interval, number, percent
from ehrmind.report.reading import Figures
from ehrmind.report.tables.process_audit import share_cell
from ehrmind.runs.records import Agreement, YesShare


def agreement(figures: Figures) -> Table | None:
    """How far clinicians agree with the verifier, with the audit and with each other."""
    found = figures.review
    if not found:
        return None
    judgements = {
        "The answer is right: clinician and verifier": found.answer,
        "The reasoning is sound: clinician and audit": found.reasoning,
        "The answer: between reviewers": found.answer_between_reviewers,
        "The reasoning: between reviewers": found.reasoning_between_reviewers,
    }
    rows: Rows = [[name, *_agreement(one)] for name, one in judgements.items() if one is not None]
    readers = "one reviewer" if found.reviewers == 1 else f"{found.reviewers} reviewers"
    caption = (
        f"Read by {readers}, {found.reviewed:,} verdicts on {found.answers:,} of {found.sampled:,} sampled answers."
    )
    return Table(caption, ["Judgement", "Verdicts", "Agree", "Cohen's κ"], rows)


def _agreement(found: Agreement) -> list[str | Cell]:
    if found.share is None or found.ci95 is None:
        return [number(0), ABSENT, ABSENT]
    return [number(found.n), Cell(percent(found.share), interval(found.ci95)), number(found.kappa)]


def by_arm(figures: Figures) -> Table | None:
    found = figures.review
    if not found or not found.by_arm:
        return None
    rows: Rows = [
        [arm_name(arm), _yes(row.answer_right), _yes(row.reasoning_sound)] for arm, row in found.by_arm.items()
    ]
    caption = (
        "Clinicians' verdicts by arm. The sample takes every verdict and audit result in turn, so these are not the "
        "shares of all answers."
    )
    return Table(caption, ["Arm", "Answer right", "Reasoning sound"], rows)


def _yes(found: YesShare | None) -> Cell:
    return Cell(ABSENT) if found is None else share_cell(found.share, found.ci95, found.yes, found.n)
