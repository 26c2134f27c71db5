"""The page of a prediction: every answer with how sure it is, and the thinking with what of it stands in the record.

One file that asks for nothing outside itself, without a script. It holds record text: it lies in the prediction's own folder, mode 0600.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind.report.formatting import ABSENT, number, percent
from ehrmind.report.rendering import render
from ehrmind.runs.predictions import Predictions, read_predictions

MOST_SHOWN = 500
MOST_PATIENTS = 100


def write_prediction_page(folder: Path, most: int = MOST_SHOWN) -> Path:
    """Raises InputError where the predictions are not finished."""
    frame = read_predictions(folder)
    shown = contents(frame.head(most).to_dicts(), frame, Predictions(folder).about("provenance"))
    return Predictions(folder).write_page(render("predictions.html", shown))


def contents(rows: Sequence[Mapping[str, Any]], frame: Any, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template shows."""
    model, counts, settings = provenance["model"], provenance["counts"], provenance["settings"]
    several = settings["samples"] > 1
    return {
        "model": model["name"],
        "data": provenance["data"]["name"],
        "version": provenance["versions"].get("ehrmind"),
        "counts": counts,
        "asked": f"{settings['samples']} answers to each, the commonest counts"
        if several
        else "one answer to each, greedy"
        if settings["decoding"]["temperature"] == 0
        else "one sampled answer to each",
        "threshold": settings["abstain_below"],
        "reasons": [f"{reason}: {count:,}" for reason, count in counts["reasons"].items()],
        "answers": [_answer(row) for row in rows],
        "total": frame.height,
        "patients": _rankings(frame),
        "plots": {},
    }


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    sure = row["probability"] if row["labels"] else row["agreement"]
    unit = f" {row['unit']}" if row["unit"] and row["value"] is not None else ""
    return {
        "id": row["id"],
        "answer": f"{row['answer']}{unit}" if row["answer"] is not None else f"no answer: {row['reason']}",
        "tone": "warn" if row["answer"] is None or row["abstained"] else "",
        "abstained": row["abstained"],
        "sure": ABSENT if sure is None else percent(sure),
        "labels": [
            (label, percent(share))
            for label, share in zip(row["labels"] or (), row["probabilities"] or (), strict=False)
        ],
        "votes": [(said["answer"], said["samples"]) for said in row["votes"] or ()],
        "thinking": pieces(row["thinking"] or "", row["grounding"] or ()),
        "stands": sum(said["stands"] for said in row["grounding"] or ()),
        "absent": sum(not said["stands"] for said in row["grounding"] or ()),
        "text": row["text"] if row["answer"] is None and (row["text"] or "").strip() != row["thinking"] else None,
    }


def pieces(thinking: str, grounding: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The thinking cut into (text, mark): `stands`, `nowhere` or nothing. Together they are the thinking."""
    found, begin = [], 0
    for said in grounding:
        found += [
            (thinking[begin : said["start"]], ""),
            (thinking[said["start"] : said["end"]], "stands" if said["stands"] else "nowhere"),
        ]
        begin = said["end"]
    return [piece for piece in [*found, (thinking[begin:], "")] if piece[0]]


def _rankings(frame: Any) -> list[dict[str, Any]]:
    """Patients with their trials, the best first; none where there are no trials."""
    import polars as pl

    by_patient: dict[str, list[dict[str, str]]] = defaultdict(list)
    ordered = (
        frame.filter(pl.col("rank").is_not_null())
        .select("group", "rank", "trial", "answer", "score")
        .sort("group", "rank")
    )
    for row in ordered.iter_rows(named=True):
        if row["group"] in by_patient or len(by_patient) < MOST_PATIENTS:
            answer = row["answer"] or ABSENT
            by_patient[row["group"]].append(
                {
                    "rank": str(row["rank"]),
                    "trial": row["trial"] or ABSENT,
                    "answer": answer,
                    "score": number(row["score"]),
                }
            )
    return [{"patient": patient, "trials": trials} for patient, trials in by_patient.items()]
