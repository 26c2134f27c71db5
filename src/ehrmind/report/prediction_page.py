"""The page of a prediction: every answer with its probability, and its thinking with marked values.

The page is one file without a script and loads nothing from outside. It holds record text, so it
lies in the prediction's own folder, mode 0600.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from ehrmind.config import parse_section
from ehrmind.config.predict import Predict
from ehrmind.report.formatting import ABSENT, number, percent
from ehrmind.report.rendering import render
from ehrmind.runs.predictions import Predictions, read_predictions
from ehrmind.runs.records import PredictionCounts, PredictionProvenance

if TYPE_CHECKING:
    import polars as pl

MOST_SHOWN = 500
MOST_PATIENTS = 100


class Grounding(TypedDict):
    """A value of the thinking, and whether it stands in the record or the question."""

    start: int
    end: int
    stands: bool


class Vote(TypedDict):
    answer: str
    samples: int


class PredictedRow(TypedDict):
    """The columns of the predictions that the page shows."""

    id: str
    answer: str | None
    value: float | None
    unit: str | None
    reason: str | None
    abstained: bool
    probability: float | None
    agreement: float | None
    labels: Sequence[str] | None
    probabilities: Sequence[float] | None
    votes: Sequence[Vote] | None
    thinking: str | None
    grounding: Sequence[Grounding] | None
    text: str | None


@dataclass(frozen=True)
class ShownAnswer:
    """One answer on the page; `thinking` is split into (text, mark)."""

    id: str
    answer: str
    tone: str
    abstained: bool
    sure: str
    labels: list[tuple[str, str]]
    votes: list[tuple[str, int]]
    thinking: list[tuple[str, str]]
    stands: int
    absent: int
    text: str | None


@dataclass(frozen=True)
class ShownTrial:
    rank: str
    trial: str
    answer: str
    score: str


@dataclass(frozen=True)
class ShownPatient:
    """A patient with trials, best first."""

    patient: str
    trials: list[ShownTrial]


@dataclass(frozen=True)
class PredictionPage:
    """Everything that the template shows of a prediction; `total` counts all answers."""

    model: str
    data: str
    version: str | None
    counts: PredictionCounts
    asked: str
    threshold: float | None
    reasons: list[str]
    answers: list[ShownAnswer]
    total: int
    patients: list[ShownPatient]
    plots: Mapping[str, str] = field(default_factory=dict)


def write_prediction_page(folder: Path, most: int = MOST_SHOWN) -> Path:
    """Writes the page and returns its path.

    Raises InputError where the predictions are not finished.
    """
    frame, predictions = read_predictions(folder), Predictions(folder)
    return predictions.write_page(render("predictions.html", contents(frame, predictions.provenance(), most)))


def contents(frame: pl.DataFrame, provenance: PredictionProvenance, most: int) -> PredictionPage:
    settings = parse_section(Predict, provenance.settings, "the settings of the prediction")
    asked = "one answer to each, greedy" if settings.decoding.temperature == 0 else "one sampled answer to each"
    if settings.samples > 1:
        asked = f"{settings.samples} answers to each, the most common one counts"
    return PredictionPage(
        model=provenance.model.name,
        data=provenance.data.name,
        version=provenance.versions.get("ehrmind"),
        counts=provenance.counts,
        asked=asked,
        threshold=settings.abstain_below,
        reasons=[f"{reason}: {count:,}" for reason, count in provenance.counts.reasons.items()],
        answers=[_answer(cast(PredictedRow, row)) for row in frame.head(most).to_dicts()],
        total=frame.height,
        patients=_rankings(frame),
    )


def _answer(row: PredictedRow) -> ShownAnswer:
    sure = row["probability"] if row["labels"] else row["agreement"]
    unit = f" {row['unit']}" if row["unit"] and row["value"] is not None else ""
    grounding = row["grounding"] or ()
    shares = zip(row["labels"] or (), row["probabilities"] or (), strict=False)
    return ShownAnswer(
        id=row["id"],
        answer=f"{row['answer']}{unit}" if row["answer"] is not None else f"no answer: {row['reason']}",
        tone="warn" if row["answer"] is None or row["abstained"] else "",
        abstained=row["abstained"],
        sure=ABSENT if sure is None else percent(sure),
        labels=[(label, percent(share)) for label, share in shares],
        votes=[(vote["answer"], vote["samples"]) for vote in row["votes"] or ()],
        thinking=pieces(row["thinking"] or "", grounding),
        stands=sum(value["stands"] for value in grounding),
        absent=sum(not value["stands"] for value in grounding),
        text=row["text"] if row["answer"] is None and (row["text"] or "").strip() != row["thinking"] else None,
    )


def pieces(thinking: str, grounding: Sequence[Grounding]) -> list[tuple[str, str]]:
    """The thinking split into (text, mark); the mark is `stands`, `nowhere` or empty."""
    found, begin = [], 0
    for value in grounding:
        found += [
            (thinking[begin : value["start"]], ""),
            (thinking[value["start"] : value["end"]], "stands" if value["stands"] else "nowhere"),
        ]
        begin = value["end"]
    return [piece for piece in [*found, (thinking[begin:], "")] if piece[0]]


def _rankings(frame: pl.DataFrame) -> list[ShownPatient]:
    """Patients with their trials; empty where there are no trials."""
    import polars as pl

    by_patient: dict[str, list[ShownTrial]] = defaultdict(list)
    ranked = frame.filter(pl.col("rank").is_not_null()).sort("group", "rank")
    for group, rank, trial, answer, score in ranked.select("group", "rank", "trial", "answer", "score").iter_rows():
        if group in by_patient or len(by_patient) < MOST_PATIENTS:
            by_patient[group].append(ShownTrial(str(rank), trial or ABSENT, answer or ABSENT, number(score)))
    return [ShownPatient(patient, trials) for patient, trials in by_patient.items()]
