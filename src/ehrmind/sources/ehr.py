"""A MEDS data set and labels (a file, or made by an ACES task file), or EHRSHOT's files -> Cases that are references.

A reference is data set, subject, prediction time and label; events stay in their shards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ehrmind.sources.aces import read_aces_labels
from ehrmind.sources.cases import Counts, FileRead
from ehrmind.sources.each import each
from ehrmind.sources.ehr_splits import split_histories
from ehrmind.sources.ehrshot import Ehrshot, is_ehrshot, open_ehrshot, read_ehrshot_labels
from ehrmind.sources.files import ahead, sha256_of
from ehrmind.sources.labels import balanced, label_form, label_truth, labels_by_split
from ehrmind.sources.meds import Meds, open_meds, read_labels, read_shard, refuse_seen
from ehrmind.sources.timeline import Timeline
from ehrmind.types import Case, InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ehrmind.config import EhrFiles

YEAR, NO_BIRTH = 365.25 * 86_400_000_000, -(2**63)  # microseconds; NO_BIRTH stands for one that is not known
YES_NO, GRADES = ("no", "yes"), ("normal", "mild", "moderate", "severe")
UNKNOWN, UNBORN, TWICE = "the subject has no events", "the prediction time is before birth", "the same subject and time twice"


def read_ehr(files: EhrFiles) -> tuple[list[Case], Counts]:
    """Cases in the order of the label file, and counts. Splits are the data set's own where it has them, else by subject, or as the recipe
    asks by time or site. A label of an unknown subject or before birth is refused with its row, or counted where the recipe allows it."""
    data, path, labels, task, notes = _opened(files)
    kept, left_out = usable(data, labels, path, files.unusable)
    cases = references(data, kept, task, files.question, _words(labels))
    if not cases:
        raise InputError(f"No label of {path} can be used with {data.folder}; give the labels of that data set.")
    cases, not_split, placed = split_histories(cases, data, files)
    left_out += not_split
    if files.balance is not None:
        cases, left_out["train: more than balance allows"] = balanced(cases, files.balance, files.seed)
    counts = Counts(
        kept=len(cases),
        left_out={reason: count for reason, count in left_out.items() if count},
        notes={"subjects": len({case.group for case in cases}), **notes, **placed},
        by_stratum=Counter(case.stratum for case in cases),
        files=tuple(_read(file, labels) for file in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])),
        by_split=labels_by_split(cases),
    )
    return cases, counts


def references(data: Meds | Ehrshot, rows: pl.DataFrame, task: str, question: str | None, words: Sequence[str]) -> list[Case]:
    """A case a row of what `usable` gives; one whose `value` is null has no answer."""
    stratum, folder = f"ehr/{_slug(data.name)}/{_slug(task)}", str(data.folder.resolve())
    return [
        Case(
            id=f"{_slug(data.name)}-{_slug(task)}-{subject}-{at:%Y%m%dT%H%M%S}",
            family="ehr",
            task=task,
            stratum=stratum,
            split=data.splits.get(subject, "train"),
            group=f"{_slug(data.name)}-{subject}",
            fields={"question": question} if question else {},
            truth=label_form(words) if value is None else label_truth(value, words),
            provenance={
                "dataset": data.name,
                "digest": data.digest,
                "folder": folder,
                "subject": subject,
                "as_of": at.isoformat(),
                **({} if age is None else {"age": round(age, 2)}),
                **({} if sex is None else {"sex": sex}),
            },
        )
        for subject, at, value, age, sex in rows.select("subject_id", "prediction_time", "value", "age", "sex").iter_rows()
    ]


def open_data_set(folder: Path) -> Meds | Ehrshot:
    """A MEDS data set, or the files of the EHRSHOT release."""
    return open_ehrshot(folder) if not (folder / "data").is_dir() and is_ehrshot(folder) else open_meds(folder)


def _opened(files: EhrFiles) -> tuple[Meds | Ehrshot, Path, pl.DataFrame, str, dict[str, int]]:
    """(data set, file of the labels, labels, the task's name, notes on the labels)"""
    if files.ehrshot is not None:
        assert files.task is not None
        return open_ehrshot(files.ehrshot), *read_ehrshot_labels(files.ehrshot, files.task), files.task, {}
    assert files.meds is not None
    data = open_meds(files.meds)
    if files.aces is not None:
        labels, notes = read_aces_labels(data, files.aces)
        return data, files.aces, labels, files.task or files.aces.stem, notes
    assert files.labels is not None
    return data, files.labels, read_labels(files.labels), files.task or task_name(files.labels), {}


def usable(data: Meds | Ehrshot, labels: pl.DataFrame, path: Path, unusable: str) -> tuple[pl.DataFrame, Counter[str]]:
    """The labels whose subject has events and was born, each subject and time once, with `age` in years and `sex` where the data set says
    them; and how many were left out and why."""
    import numpy as np
    import polars as pl

    subjects, times = labels["subject_id"].to_numpy(), labels["prediction_time"].cast(int).to_numpy()
    known = np.zeros(len(subjects), dtype=bool)
    born, sexes = np.full(len(subjects), NO_BIRTH), np.full(len(subjects), None, dtype=object)
    for here in ahead(_people(data, subjects)):
        known[here.places], born[here.places], sexes[here.places] = True, here.born, here.sexes
    unborn = times < born
    twice = (~labels.select(pl.struct("subject_id", "prediction_time").is_first_distinct()).to_series()).to_numpy()
    for reason, wrong in ((UNKNOWN, ~known), (UNBORN, unborn), (TWICE, twice)):
        if unusable == "refuse" and wrong.any():
            remedy = "leave it out with unusable=leave_out, or mend the labels"
            raise InputError(f"{path}, row {int(wrong.argmax()) + 1}: {reason} ({int(wrong.sum())} such); {remedy}.")
    left_out = Counter({UNKNOWN: int((~known).sum()), UNBORN: int((known & unborn).sum()), TWICE: int((known & ~unborn & twice).sum())})
    ages = [None if at == NO_BIRTH else (time - at) / YEAR for time, at in zip(times.tolist(), born.tolist(), strict=True)]
    about = labels.with_columns(pl.Series("age", ages, pl.Float64), pl.Series("sex", sexes.tolist(), pl.String))
    return about.filter(pl.Series(known & ~unborn & ~twice)), left_out


class People(NamedTuple):
    """Of the labelled subjects those who are in one shard: their places among the labels, births and sexes; and all who are in it."""

    everybody: np.ndarray
    places: np.ndarray
    born: np.ndarray
    sexes: list[str | None]


def _people(data: Meds | Ehrshot, labelled: np.ndarray) -> Iterator[People]:
    """Shard by shard of a MEDS data set. EHRSHOT's events are one file, where a patient may begin anywhere: one task."""
    if isinstance(data, Ehrshot):
        yield from (_who(labelled, timeline) for _, timeline in data.timelines())
        return
    seen: set[int] = set()
    for shard, people in zip(data.shards, each(partial(_people_in, labelled), data.shards), strict=True):
        refuse_seen(shard, people.everybody, seen)
        yield people


def _people_in(labelled: np.ndarray, shard: Path) -> People:
    return _who(labelled, Timeline(read_shard(shard)))


def _who(labelled: np.ndarray, timeline: Timeline) -> People:
    import numpy as np

    places = np.flatnonzero(timeline.has(labelled))
    subjects = labelled[places]
    return People(timeline.subjects, places, timeline.born(subjects), timeline.sexes(subjects))


def _read(file: Path, labels: pl.DataFrame) -> FileRead:
    """A label file, or the ACES task file that gave all the labels."""
    import polars as pl

    if file.suffix == ".yaml":
        return FileRead(file.name, sha256_of(file), labels.height)
    scan = pl.scan_parquet(file) if file.suffix == ".parquet" else pl.scan_csv(file, infer_schema=False)
    return FileRead(file.name, sha256_of(file), int(scan.select(pl.len()).collect().item()))


def _words(labels: pl.DataFrame) -> tuple[str, ...]:
    """yes and no, a laboratory task's grades, or the numbers themselves."""
    if labels["kind"][0] == "boolean":
        return YES_NO
    highest, lowest = int(labels["value"].max() or 0), int(labels["value"].min() or 0)  # type: ignore[arg-type]
    if lowest < 0 or highest > 9:
        raise InputError(f"Integer labels run from {lowest} to {highest}; classes are numbered from 0 and are at most ten.")
    return GRADES if highest < len(GRADES) else tuple(map(str, range(highest + 1)))


def task_name(labels: Path) -> str:
    name = labels.name if labels.is_dir() else labels.parent.name if labels.stem == "labels" else labels.stem
    return name or "task"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-") or "data"
