"""A small MEDS data set made on the spot, its truth known: who is readmitted is whoever had a
potassium above 5.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

START = datetime(2020, 1, 1)
SCHEMA = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32, "text_value": pl.String,
          "unit": pl.String, "end": pl.Datetime("us")}  # fmt: skip
NAMES = {
    "LOINC/2823-3": "potassium",
    "SNOMED/195967001": "asthma",
    "Visit/IP": "inpatient visit",
    "RxNorm/161": "acetaminophen",
}
SPLITS = ("train", "train", "train", "tuning", "held_out")


def write_meds(folder: Path, subjects: int = 30) -> Path:
    """Three shards, one label a subject in labels/high_potassium."""
    rows, labels, splits = [], [], []
    for subject in range(1, subjects + 1):
        draw = random.Random(subject)
        born, at = START - timedelta(days=365 * draw.randint(20, 80)), START + timedelta(days=100)
        high = draw.random() < 0.5
        rows += [
            (subject, None, f"GENDER//{draw.choice('FM')}", None, None, None, None),
            (subject, born, "MEDS_BIRTH", None, None, None, None),
            (subject, START, "SNOMED/195967001", None, None, None, None),
            (subject, START + timedelta(days=60), "LOINC/2823-3", 4.1, None, "mmol/L", None),
            (subject, START + timedelta(days=99), "LOINC/2823-3", 5.6 if high else 4.4, None, "mmol/L", None),
            (subject, at, "Visit/IP", None, None, None, at + timedelta(days=9)),
            (subject, at + timedelta(days=1), "RxNorm/161", None, None, None, None),
        ]
        labels.append((subject, at, high))
        splits.append((subject, SPLITS[subject % len(SPLITS)]))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    for shard in range(3):
        (folder / "data" / str(shard)).mkdir(parents=True)
        frame.filter(pl.col("subject_id") % 3 == shard).write_parquet(folder / "data" / str(shard) / "0.parquet")
    (folder / "metadata").mkdir()
    pl.DataFrame({"code": list(NAMES), "description": list(NAMES.values())}).write_parquet(
        folder / "metadata" / "codes.parquet"
    )
    pl.DataFrame(splits, schema=["subject_id", "split"], orient="row").write_parquet(
        folder / "metadata" / "subject_splits.parquet"
    )
    (folder / "labels" / "high_potassium").mkdir(parents=True)
    columns = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
    pl.DataFrame(labels, schema=columns, orient="row").write_parquet(
        folder / "labels" / "high_potassium" / "labels.parquet"
    )
    return folder
