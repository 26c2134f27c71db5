"""A made-up MEDS data set of any size: correlated diseases, laboratory values, drugs and visits, and two label tasks over them.

Every subject has an age, a sex and a burden that nobody sees; diabetes, hypertension, kidney disease and heart failure are likelier with
both, move the tests that they move in people, and bring their drugs. Visits come in clusters, some of them stays with an end. A shard is
a function of (seed, shard), its subjects numbered by place, whatever the number of shards after it; it is made as columns, a few million
events a second. No record of any person went into it.

Labels: `next_creatinine_high` (the next creatinine is above 1.5 mg/dL, seen from a minute before it) and `readmission_30d` (another stay
begins within 30 days, seen from 23:59 of the day a stay ends).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind.sources.meds import BIRTH, SPLITS

if TYPE_CHECKING:
    import numpy as np

DAY = 86_400_000_000  # microseconds
EPOCH = 14_600 * DAY  # 2009-12-22: the first visits
SUBJECTS_A_SHARD = 500
HIGH_CREATININE = 1.5
# code: name, unit, mean, sd between subjects, sd within, shift for each of the four diseases
TESTS: dict[str, tuple[str, str, float, float, float, tuple[float, float, float, float]]] = {
    "LOINC/2160-0": ("creatinine", "mg/dL", 0.9, 0.12, 0.1, (0.0, 0.05, 1.1, 0.15)),
    "LOINC/2823-3": ("potassium", "mmol/L", 4.2, 0.15, 0.3, (0.0, 0.0, 0.5, 0.1)),
    "LOINC/2951-2": ("sodium", "mmol/L", 140.0, 1.0, 2.0, (0.0, 0.0, -1.0, -3.0)),
    "LOINC/718-7": ("hemoglobin", "g/dL", 14.0, 0.9, 0.6, (0.0, 0.0, -2.5, -0.8)),
    "LOINC/2345-7": ("glucose", "mg/dL", 95.0, 6.0, 12.0, (60.0, 0.0, 5.0, 5.0)),
    "LOINC/4548-4": ("HbA1c", "%", 5.4, 0.2, 0.2, (2.0, 0.0, 0.0, 0.0)),
    "LOINC/8480-6": ("systolic blood pressure", "mm Hg", 122.0, 6.0, 9.0, (2.0, 24.0, 8.0, -6.0)),
    "LOINC/8867-4": ("heart rate", "bpm", 74.0, 5.0, 8.0, (0.0, 0.0, 0.0, 12.0)),
}
DISEASES = {
    "SNOMED/44054006": ("type 2 diabetes", "RxNorm/6809", "metformin"),
    "SNOMED/59621000": ("hypertension", "RxNorm/17767", "amlodipine"),
    "SNOMED/709044004": ("chronic kidney disease", "RxNorm/4603", "furosemide"),
    "SNOMED/84114007": ("heart failure", "RxNorm/20352", "carvedilol"),
}
ODDS = (
    (-4.2, 0.035, 1.0),
    (-3.6, 0.05, 0.6),
    (-5.4, 0.045, 1.1),
    (-6.2, 0.06, 1.0),
)  # of each disease: constant, by year of age, by burden
COMPLAINTS = ("SNOMED/267036007", "SNOMED/25064002", "SNOMED/49727002", "SNOMED/161891005", "SNOMED/386661006", "SNOMED/84229001")
COMPLAINT_NAMES = ("shortness of breath", "headache", "cough", "back pain", "fever", "fatigue")
VISITS = {"Visit/OP": "outpatient visit", "Visit/IP": "inpatient stay"}


def write_cohort(
    folder: Path, subjects: int, *, seed: int = 0, events_per_subject: int = 400, labels_per_subject: int = 10
) -> dict[str, Any]:
    """Write a MEDS 0.4 data set with labels into a new folder; returns counts. About `events_per_subject` events each, on average."""
    import polars as pl

    for name in ("data", "metadata", *(f"labels/{task}" for task in ("next_creatinine_high", "readmission_30d"))):
        (folder / name).mkdir(parents=True, exist_ok=name != "data")
    counts: dict[str, Any] = {"subjects": subjects, "events": 0, "labels": {"next_creatinine_high": 0, "readmission_30d": 0}}
    labels: dict[str, list[pl.DataFrame]] = {task: [] for task in counts["labels"]}
    for shard, first in enumerate(range(0, subjects, SUBJECTS_A_SHARD)):
        events, found = _shard(first + 1, min(SUBJECTS_A_SHARD, subjects - first), shard, seed, events_per_subject, labels_per_subject)
        events.write_parquet(folder / "data" / f"{shard:04}.parquet")
        counts["events"] += events.height
        for task, rows in found.items():
            labels[task].append(rows)
            counts["labels"][task] += rows.height
    for task, parts in labels.items():
        pl.concat(parts).write_parquet(folder / "labels" / task / "labels.parquet")
    names = {**VISITS, **dict(zip(COMPLAINTS, COMPLAINT_NAMES, strict=True)), **{code: test[0] for code, test in TESTS.items()}}
    names |= {code: name for code, (name, _, _) in DISEASES.items()} | {drug: name for _, drug, name in DISEASES.values()}
    codes = pl.DataFrame({"code": list(names), "description": list(names.values()), "parent_codes": [[]] * len(names)})
    codes.cast({"parent_codes": pl.List(pl.String)}).write_parquet(folder / "metadata" / "codes.parquet")
    numbers = range(1, subjects + 1)
    shares = [SPLITS[0 if place % 10 < 7 else 1 if place % 10 == 7 else 2] for place in numbers]
    pl.DataFrame({"subject_id": pl.Series(numbers, dtype=pl.Int64), "split": shares}).write_parquet(
        folder / "metadata" / "subject_splits.parquet"
    )
    about = {"dataset_name": "made-up-cohort", "meds_version": "0.4.1", "etl_name": "ehrmind", "dataset_version": f"seed {seed}"}
    (folder / "metadata" / "dataset.json").write_text(json.dumps(about))
    return counts


def _shard(first: int, n: int, shard: int, seed: int, events_per_subject: int, labels_per_subject: int) -> tuple[Any, dict[str, Any]]:
    """(events, labels by task) of n subjects."""
    import numpy as np
    import polars as pl

    draw = np.random.default_rng([seed, shard])
    age, burden, female = draw.uniform(20, 85, n), draw.normal(size=n), draw.random(n) < 0.52
    logits = np.stack([constant + by_age * age + by_burden * burden for constant, by_age, by_burden in ODDS], axis=1)
    diseased = draw.random((n, 4)) < 1 / (1 + np.exp(-logits))
    # visits: how many, when (clustered), which are stays
    a_visit = 3 + len(TESTS) * 0.8 + 0.3
    visits_of = np.maximum(2, draw.poisson(events_per_subject / a_visit * np.exp(0.35 * burden - 0.06)))
    who = np.repeat(np.arange(n), visits_of)
    gaps = draw.exponential(1.0, len(who)) ** 1.6
    starts = np.r_[0, np.cumsum(visits_of)[:-1]]
    within = np.cumsum(gaps) - np.repeat((np.cumsum(gaps) - gaps)[starts], visits_of)
    spread = 3650.0 / np.repeat(within[np.cumsum(visits_of) - 1], visits_of)
    at = EPOCH + (within * spread * DAY).astype(np.int64)
    stay = draw.random(len(who)) < 1 / (1 + np.exp(2.8 - 0.6 * burden[who] - 0.8 * diseased[who, 3]))
    until = at + np.where(stay, draw.gamma(2.0, 2.2, len(who)) + 0.5, 0.02) * DAY
    onset = draw.random((n, 4)) * 0.5  # share of the ten years before a disease is diagnosed
    sick = diseased[who] & ((at - EPOCH)[:, None] >= (onset[who] * 3650 * DAY))

    columns: dict[str, list[Any]] = {name: [] for name in ("who", "time", "rank", "code", "value", "end")}

    def add(rows: np.ndarray, times: np.ndarray, rank: int, codes: Any, values: Any = None, ends: Any = None) -> None:
        columns["who"].append(rows)
        columns["time"].append(times)
        columns["rank"].append(np.full(len(rows), rank, dtype=np.int8))
        columns["code"].append(np.broadcast_to(np.asarray(codes, dtype=np.int16), len(rows)))
        columns["value"].append(np.full(len(rows), np.nan, dtype=np.float32) if values is None else values.astype(np.float32))
        columns["end"].append(np.zeros(len(rows), dtype=np.int64) if ends is None else ends.astype(np.int64))

    vocabulary = [BIRTH, "Gender/F", "Gender/M", *VISITS, *DISEASES, *(drug for _, drug, _ in DISEASES.values()), *COMPLAINTS, *TESTS]
    place = {code: number for number, code in enumerate(vocabulary)}
    units = np.array([TESTS[code][1] if code in TESTS else None for code in vocabulary], dtype=object)
    everyone = np.arange(n)
    born = EPOCH - (age * 365.2425).astype(np.int64) * DAY
    add(everyone, born, 0, place[BIRTH])
    add(everyone, np.full(n, np.iinfo(np.int64).min), 0, np.where(female, place["Gender/F"], place["Gender/M"]))
    add(who, at, 1, np.where(stay, place["Visit/IP"], place["Visit/OP"]), ends=until)
    complaint = draw.integers(len(COMPLAINTS), size=len(who))
    add(who, at, 2, complaint + place[COMPLAINTS[0]])
    for number, (disease, (_, drug, _)) in enumerate(DISEASES.items()):
        new = sick[:, number] & ~np.r_[False, sick[:-1, number] & (who[1:] == who[:-1])]
        add(who[new], at[new], 3, place[disease])
        taken = sick[:, number] & (draw.random(len(who)) < 0.5)
        add(who[taken], at[taken], 4, place[drug])
    drift = np.cumsum(draw.normal(0, 0.02, len(who)))
    drift -= np.repeat(drift[starts], visits_of)
    creatinine: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for rank, (code, (_, _, mean, between, noise, shifts)) in enumerate(TESTS.items(), start=5):
        done = draw.random(len(who)) < 0.8
        level = mean + between * draw.normal(size=n)[who] + sick @ np.array(shifts) * (1 + drift) + noise * draw.normal(size=len(who))
        values = np.maximum(np.round(level, 1), 0.1)
        times = at + (5 + rank) * 60_000_000
        add(who[done], times[done], rank, place[code], values[done])
        if code == "LOINC/2160-0":
            creatinine = who[done], times[done], values[done]
    row = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.lexsort((row["rank"], row["time"], row["who"]))
    row = {name: values[order] for name, values in row.items()}
    least = np.iinfo(np.int64).min
    words = pl.Series(vocabulary)
    events = pl.DataFrame(
        {
            "subject_id": row["who"].astype(np.int64) + first,
            "time": pl.Series(row["time"]).replace(least, None).cast(pl.Datetime("us")),
            "code": words.gather(row["code"].astype(np.uint32)),
            "numeric_value": pl.Series(row["value"]).fill_nan(None),
            "unit": pl.Series(units.tolist(), dtype=pl.String).gather(row["code"].astype(np.uint32)),
            "end": pl.Series(row["end"]).replace(0, None).cast(pl.Datetime("us")),
        }
    )
    assert creatinine is not None
    return events, _labels(first, creatinine, who, at, until, stay, labels_per_subject, draw)


def _labels(
    first: int,
    creatinine: tuple[np.ndarray, np.ndarray, np.ndarray],
    who: np.ndarray,
    at: np.ndarray,
    until: np.ndarray,
    stay: np.ndarray,
    most: int,
    draw: np.random.Generator,
) -> dict[str, Any]:
    """At most `most` labels a subject and task, drawn among those that there are."""
    import numpy as np

    tested, times, values = creatinine
    later = np.r_[False, tested[1:] == tested[:-1]]  # not the first one: there is something to see
    high = _drawn(tested[later], times[later] - 60_000_000, values[later] > HIGH_CREATININE, most, draw)
    in_stay = np.flatnonzero(stay)
    left = until[in_stay] // DAY * DAY + DAY - 60_000_000
    following = np.r_[in_stay[1:], -1] if len(in_stay) else in_stay
    same = (following >= 0) & (who[following] == who[in_stay])
    gap = at[following] - until[in_stay]
    overlapping = same & (at[following] <= left)
    again = same & (gap <= 30 * DAY)
    kept = ~overlapping
    back = _drawn(who[in_stay][kept], left[kept], again[kept], most, draw)
    return {"next_creatinine_high": _frame(first, *high), "readmission_30d": _frame(first, *back)}


def _drawn(
    who: np.ndarray, at: np.ndarray, value: np.ndarray, most: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import numpy as np

    order = np.lexsort((draw.random(len(who)), who))
    rank = np.arange(len(who)) - np.searchsorted(who[order], who[order])
    chosen = np.sort(order[rank < most])
    return who[chosen], at[chosen], value[chosen]


def _frame(first: int, who: np.ndarray, at: np.ndarray, value: np.ndarray) -> Any:
    import polars as pl

    columns = {"subject_id": who + first, "prediction_time": pl.Series(at).cast(pl.Datetime("us")), "boolean_value": value}
    return pl.DataFrame(columns).cast({"subject_id": pl.Int64}).unique(["subject_id", "prediction_time"], maintain_order=True)
