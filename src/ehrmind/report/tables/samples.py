"""Tables of repeated samples: pass@k, majority@k, calibration, coverage."""

from __future__ import annotations

from collections.abc import Sequence

from ehrmind.report.formatting import Cell, Rows, Table, arm_name, interval, number, percent
from ehrmind.report.reading import Figures
from ehrmind.runs.records import CoveragePoint, CurvePoint, RepeatedSamples


def repeated(figures: Figures) -> dict[str, RepeatedSamples]:
    """The arms whose held-out questions were sampled several times."""
    return {arm: row.repeated for arm, row in figures.results.arms.items() if row.repeated is not None}


def curves(found: RepeatedSamples) -> dict[str, Sequence[CurvePoint]]:
    """The curves over k by title."""
    return {"any right (pass@k)": found.pass_at, "majority right": found.majority}


def samples(figures: Figures) -> Table | None:
    found = repeated(figures)
    if not found:
        return None
    first = next(iter(found.values()))
    rows: Rows = [
        [
            f"{arm_name(arm)}: {title}",
            *(Cell(percent(point.value), interval(point.ci95)) for point in points),
        ]
        for arm, row in found.items()
        for title, points in curves(row).items()
    ]
    caption = (
        f"{first.samples} samples of every held-out question at the recipe's temperature: how often any of k is "
        "right, and how often the most common answer of k is, over all choices of k. Malformed samples cast no vote, "
        "a tie is drawn at random; intervals over patients."
    )
    return Table(caption, ["Arm", *(f"k = {point.k}" for point in first.pass_at)], rows)


def agreement(figures: Figures) -> Table | None:
    found = repeated(figures)
    if not found:
        return None
    rows: Rows = []
    for arm, row in found.items():
        calibration = row.calibration
        measured = [number(calibration.brier), number(calibration.ece), number(row.coverage.aurc)]
        malformed = percent(row.unparsed / max(1, row.questions * row.samples))
        answered = [_at(row.coverage.points, share) for share in (1.0, 0.8, 0.5)]
        rows.append([arm_name(arm), *measured, *answered, malformed])
    caption = (
        "Whether agreement among samples can be trusted: confidence is the share of a question's samples that give "
        "its most common answer. Answered: only the questions with the most agreement, down to the lowest threshold "
        "that keeps this share of them."
    )
    titles = ["Brier score", "Calibration error", "Area under risk and coverage"]
    titles += ["Right, all answered", "Right, 80 % answered", "Right, half answered"]
    return Table(caption, ["Arm", *titles, "Malformed samples"], rows)


def _at(points: Sequence[CoveragePoint], share: float) -> Cell:
    """The accuracy at the first threshold that answers at least this share."""
    point = next(point for point in points if point.coverage >= share - 1e-9)
    return Cell(percent(point.accuracy), f"of {percent(point.coverage)}")


def bins(figures: Figures) -> Table | None:
    rows: Rows = [
        [arm_name(arm), percent(one.confidence), percent(one.right), number(one.n)]
        for arm, row in repeated(figures).items()
        for one in row.calibration.bins
    ]
    columns = ["Arm", "Agreement", "Right", "Questions"]
    return Table("Calibration by tenths of agreement.", columns, rows) if rows else None


def coverage(figures: Figures) -> Table | None:
    rows: Rows = [
        [arm_name(arm), percent(point.threshold), percent(point.coverage), percent(point.accuracy)]
        for arm, row in repeated(figures).items()
        for point in row.coverage.points
    ]
    caption = "Accuracy against coverage: the questions answered where at least this share of samples must agree."
    return Table(caption, ["Arm", "Agreement of at least", "Answered", "Right among them"], rows) if rows else None
