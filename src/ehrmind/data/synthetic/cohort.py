"""Makes a synthetic MEDS data set of any size, with correlated events and three label tasks.

Every subject has an age, a sex and a hidden burden. Diabetes, hypertension, kidney disease and
heart failure get more likely with age and burden. They shift the tests that they shift in people,
and bring their drugs. Visits come in clusters; some are inpatient stays with an end. A shard is a
pure function of (seed, shard), whatever the number of later shards, and its subjects are numbered
by position. It is built as columns, a few million events per second. No record of any person was
used.

Labels: `next_creatinine_high` (the next creatinine is above 1.5 mg/dL, predicted one minute before
it), `readmission_30d` (another stay begins within 30 days, predicted at 23:59 of the day of
discharge) and `next_hemoglobin_low` (the next hemoglobin is below 13 g/dL, predicted one minute
before it). Kidney disease all but decides the first, so its code alone tells. Hemoglobin differs
between subjects without any code, so that earlier values tell most about the next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ehrmind.data.splits import SPLITS
from ehrmind.data.timeline import BIRTH

DAY, MINUTE = 86_400_000_000, 60_000_000  # microseconds
NEVER = np.iinfo(np.int64).min  # the time of a static event
MEASURED = 0.8  # probability of each test at a visit
EPOCH = 14_600 * DAY  # 2009-12-22: the first visits
SUBJECTS_A_SHARD = 500
HIGH_CREATININE, LOW_HEMOGLOBIN = 1.5, 13.0
TASKS = ("next_creatinine_high", "readmission_30d", "next_hemoglobin_low")
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
# Log-odds of each disease: constant, per year of age, per unit of burden.
ODDS = (
    (-4.2, 0.035, 1.0),
    (-3.6, 0.05, 0.6),
    (-5.4, 0.045, 1.1),
    (-6.2, 0.06, 1.0),
)
COMPLAINTS = {
    "SNOMED/267036007": "shortness of breath",
    "SNOMED/25064002": "headache",
    "SNOMED/49727002": "cough",
    "SNOMED/161891005": "back pain",
    "SNOMED/386661006": "fever",
    "SNOMED/84229001": "fatigue",
}
VISITS = {"Visit/OP": "outpatient visit", "Visit/IP": "inpatient stay"}
VOCABULARY = (
    BIRTH,
    "Gender/F",
    "Gender/M",
    *VISITS,
    *DISEASES,
    *(drug for _, drug, _ in DISEASES.values()),
    *COMPLAINTS,
    *TESTS,
)
PLACE = {code: place for place, code in enumerate(VOCABULARY)}
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]  # subject (by row), time, value
Tables = dict[str, pl.DataFrame]


def write_cohort(
    folder: Path, subjects: int, *, seed: int = 0, events_per_subject: int = 400, labels_per_subject: int = 10
) -> dict[str, Any]:
    """Writes a MEDS 0.4 data set with labels into a new folder, and returns counts.

    `events_per_subject` is approximate and an average.
    """
    for name in ("data", "metadata", *(f"labels/{task}" for task in TASKS)):
        (folder / name).mkdir(parents=True, exist_ok=name != "data")
    counts: dict[str, Any] = {
        "subjects": subjects,
        "events": 0,
        "labels": dict.fromkeys(TASKS, 0),
    }
    labels: dict[str, list[pl.DataFrame]] = {task: [] for task in counts["labels"]}
    for shard, first in enumerate(range(0, subjects, SUBJECTS_A_SHARD)):
        events, found = _shard(
            first + 1, min(SUBJECTS_A_SHARD, subjects - first), shard, seed, events_per_subject, labels_per_subject
        )
        events.write_parquet(folder / "data" / f"{shard:04}.parquet")
        counts["events"] += events.height
        for task, rows in found.items():
            labels[task].append(rows)
            counts["labels"][task] += rows.height
    for task, parts in labels.items():
        pl.concat(parts).write_parquet(folder / "labels" / task / "labels.parquet")
    names = {**VISITS, **COMPLAINTS, **{code: test[0] for code, test in TESTS.items()}}
    names |= {code: name for code, (name, _, _) in DISEASES.items()} | {
        drug: name for _, drug, name in DISEASES.values()
    }
    codes = pl.DataFrame({"code": list(names), "description": list(names.values()), "parent_codes": [[]] * len(names)})
    codes.cast({"parent_codes": pl.List(pl.String)}).write_parquet(folder / "metadata" / "codes.parquet")
    numbers = range(1, subjects + 1)
    shares = [SPLITS[0 if place % 10 < 7 else 1 if place % 10 == 7 else 2] for place in numbers]
    pl.DataFrame({"subject_id": pl.Series(numbers, dtype=pl.Int64), "split": shares}).write_parquet(
        folder / "metadata" / "subject_splits.parquet"
    )
    about = {
        "dataset_name": "made-up-cohort",
        "meds_version": "0.4.1",
        "etl_name": "ehrmind",
        "dataset_version": f"seed {seed}",
    }
    (folder / "metadata" / "dataset.json").write_text(json.dumps(about))
    return counts


@dataclass(frozen=True, slots=True)
class People:
    """Subjects of a shard, by row; `diseased` is [n, 4]."""

    age: np.ndarray
    burden: np.ndarray
    female: np.ndarray
    diseased: np.ndarray


@dataclass(frozen=True, slots=True)
class Visits:
    """Visits of a shard by subject and time. `stay` marks inpatient stays.

    `who` is the subject's row, `at` and `until` are start and end. `sick` marks the diseases that
    are known by then, [visits, 4].
    """

    who: np.ndarray
    at: np.ndarray
    until: np.ndarray
    stay: np.ndarray
    sick: np.ndarray
    first: np.ndarray  # the row of each subject's first visit
    of: np.ndarray  # how many visits each subject has


class Rows:
    """Columns of events, to which blocks are added. `code` is an index in `VOCABULARY`."""

    def __init__(self) -> None:
        self.columns: dict[str, list[np.ndarray]] = {
            name: [] for name in ("who", "time", "rank", "code", "value", "end")
        }

    def add(self, who: np.ndarray, time: np.ndarray, rank: int, code: Any, value: Any = np.nan, end: Any = 0) -> None:
        """Adds a block of events. `rank` orders events of the same time."""
        block: tuple[Any, ...] = (
            who,
            time,
            np.int8(rank),
            np.asarray(code, dtype=np.int16),
            np.asarray(value, dtype=np.float32),
            np.asarray(end, dtype=np.int64),
        )
        for column, values in zip(self.columns.values(), block, strict=True):
            column.append(np.broadcast_to(values, len(who)))

    def frame(self, first: int) -> pl.DataFrame:
        """Makes a sorted MEDS shard, in which the first subject has the number `first`."""
        row = {name: np.concatenate(blocks) for name, blocks in self.columns.items()}
        order = np.lexsort((row["rank"], row["time"], row["who"]))
        row = {name: values[order] for name, values in row.items()}
        code = row["code"].astype(np.uint32)
        return pl.DataFrame(
            {
                "subject_id": row["who"].astype(np.int64) + first,
                "time": pl.Series(row["time"]).replace(NEVER, None).cast(pl.Datetime("us")),
                "code": pl.Series(VOCABULARY).gather(code),
                "numeric_value": pl.Series(row["value"]).fill_nan(None),
                "unit": pl.Series(
                    [TESTS[name][1] if name in TESTS else None for name in VOCABULARY], dtype=pl.String
                ).gather(code),
                "end": pl.Series(row["end"]).replace(0, None).cast(pl.Datetime("us")),
            }
        )


def _shard(
    first: int, n: int, shard: int, seed: int, events_per_subject: int, labels_per_subject: int
) -> tuple[pl.DataFrame, Tables]:
    """Returns (events, labels by task) of n subjects."""
    draw = np.random.default_rng([seed, shard])
    people = _people(n, draw)
    visits = _visits(people, events_per_subject, draw)
    rows = Rows()
    born = EPOCH - (people.age * 365.2425).astype(np.int64) * DAY
    rows.add(np.arange(n), born, 0, PLACE[BIRTH])
    rows.add(np.arange(n), np.full(n, NEVER), 0, np.where(people.female, PLACE["Gender/F"], PLACE["Gender/M"]))
    rows.add(visits.who, visits.at, 1, np.where(visits.stay, PLACE["Visit/IP"], PLACE["Visit/OP"]), end=visits.until)
    rows.add(
        visits.who, visits.at, 2, PLACE[next(iter(COMPLAINTS))] + draw.integers(len(COMPLAINTS), size=len(visits.who))
    )
    for number, (disease, (_, drug, _)) in enumerate(DISEASES.items()):
        known = visits.sick[:, number]
        new = known & ~np.r_[False, known[:-1] & (visits.who[1:] == visits.who[:-1])]
        rows.add(visits.who[new], visits.at[new], 3, PLACE[disease])
        taken = known & (draw.random(len(known)) < 0.5)
        rows.add(visits.who[taken], visits.at[taken], 4, PLACE[drug])
    found = _results(rows, n, visits, draw)
    labels = _labels(first, found["LOINC/2160-0"], visits, labels_per_subject, draw)
    subjects, times, values = _next_results(found["LOINC/718-7"])
    another = np.random.default_rng([seed, shard, 1])  # the labels above keep the draws that they have had
    low = _drawn(subjects, times, values < LOW_HEMOGLOBIN, labels_per_subject, another)
    return rows.frame(first), labels | {"next_hemoglobin_low": _frame(first, *low)}


def _people(n: int, draw: np.random.Generator) -> People:
    age, burden, female = draw.uniform(20, 85, n), draw.normal(size=n), draw.random(n) < 0.52
    logits = np.stack([constant + by_age * age + by_burden * burden for constant, by_age, by_burden in ODDS], axis=1)
    return People(age, burden, female, draw.random((n, 4)) < 1 / (1 + np.exp(-logits)))


def _visits(people: People, events_per_subject: int, draw: np.random.Generator) -> Visits:
    """Draws ten years of visits in clusters; a higher burden brings more visits.

    A disease is known from a random time in the first five years on.
    """
    n = len(people.age)
    a_visit = 3 + len(TESTS) * MEASURED + 0.3
    of = np.maximum(2, draw.poisson(events_per_subject / a_visit * np.exp(0.35 * people.burden - 0.06)))
    who, first = np.repeat(np.arange(n), of), np.r_[0, np.cumsum(of)[:-1]]
    gaps = draw.exponential(1.0, len(who)) ** 1.6
    within = np.cumsum(gaps) - np.repeat((np.cumsum(gaps) - gaps)[first], of)
    years = within / np.repeat(within[np.cumsum(of) - 1], of)
    # Visits are at least an hour apart.
    at = EPOCH + (years * 3650 * DAY).astype(np.int64) + (np.arange(len(who)) - np.repeat(first, of)) * (DAY // 24)
    stay = draw.random(len(who)) < 1 / (1 + np.exp(2.8 - 0.6 * people.burden[who] - 0.8 * people.diseased[who, 3]))
    until = at + (np.where(stay, draw.gamma(2.0, 2.2, len(who)) + 0.5, 0.02) * DAY).astype(np.int64)
    onset = EPOCH + draw.random((n, 4)) * 0.5 * 3650 * DAY
    return Visits(who, at, until, stay, people.diseased[who] & (at[:, None] >= onset[who]), first, of)


def _results(rows: Rows, n: int, visits: Visits, draw: np.random.Generator) -> dict[str, Columns]:
    """Adds the tests of all visits, and returns the values (subject, time, value) by code."""
    drift = np.cumsum(draw.normal(0, 0.02, len(visits.who)))
    drift -= np.repeat(drift[visits.first], visits.of)
    found: dict[str, Columns] = {}
    for rank, (code, (_, _, mean, between, noise, shifts)) in enumerate(TESTS.items(), start=5):
        done = draw.random(len(visits.who)) < MEASURED
        level = mean + between * draw.normal(size=n)[visits.who] + visits.sick @ np.array(shifts) * (1 + drift)
        values = np.maximum(np.round(level + noise * draw.normal(size=len(visits.who)), 1), 0.1)
        found[code] = visits.who[done], visits.at[done] + (5 + rank) * MINUTE, values[done]
        rows.add(found[code][0], found[code][1], rank, PLACE[code], value=values[done])
    return found


def _next_results(tests: Columns) -> Columns:
    """Returns a test's results with the minute before each, but for a subject's first, which has no
    history."""
    tested, times, values = tests
    later = np.r_[False, tested[1:] == tested[:-1]]
    return tested[later], times[later] - MINUTE, values[later]


def _labels(first: int, creatinine: Columns, visits: Visits, most: int, draw: np.random.Generator) -> Tables:
    """Draws at most `most` labels per subject of high creatinine and of readmission."""
    tested, times, values = _next_results(creatinine)
    high = _drawn(tested, times, values > HIGH_CREATININE, most, draw)
    stays = np.flatnonzero(visits.stay)
    left = visits.until[stays] // DAY * DAY + DAY - MINUTE
    following = np.r_[stays[1:], stays[-1:]]
    same = np.r_[visits.who[stays[1:]] == visits.who[stays[:-1]], False] if len(stays) else np.zeros(0, dtype=bool)
    # If the next stay has begun by then, it is no readmission, and there is no label.
    over = ~(same & (visits.at[following] <= left))
    again = same & (visits.at[following] - visits.until[stays] <= 30 * DAY)
    back = _drawn(visits.who[stays][over], left[over], again[over], most, draw)
    return {"next_creatinine_high": _frame(first, *high), "readmission_30d": _frame(first, *back)}


def _drawn(who: np.ndarray, at: np.ndarray, value: np.ndarray, most: int, draw: np.random.Generator) -> Columns:
    order = np.lexsort((draw.random(len(who)), who))
    rank = np.arange(len(who)) - np.searchsorted(who[order], who[order])
    chosen = np.sort(order[rank < most])
    return who[chosen], at[chosen], value[chosen]


def _frame(first: int, who: np.ndarray, at: np.ndarray, value: np.ndarray) -> pl.DataFrame:
    columns = {
        "subject_id": who.astype(np.int64) + first,
        "prediction_time": pl.Series(at).cast(pl.Datetime("us")),
        "boolean_value": value,
    }
    return pl.DataFrame(columns).unique(["subject_id", "prediction_time"], maintain_order=True)
