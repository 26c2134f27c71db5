"""Makes Cases of a MEDS data set and its labels, or of the EHRSHOT release.

Labels come from a label file or from an ACES task file. A Case is a reference: data set, subject,
prediction time and label. The events stay in their shards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ehrmind.ages import NO_BIRTH, ages, shown
from ehrmind.data.aces import read_aces_labels
from ehrmind.data.cases import Counts, FileRead
from ehrmind.data.ehr_labels import all_alike, label_words, read_labels
from ehrmind.data.ehr_splits import split_histories
from ehrmind.data.ehrshot import Ehrshot, is_ehrshot, open_ehrshot, read_ehrshot_labels
from ehrmind.data.files import prefetched, sha256_of
from ehrmind.data.label_files import label_files
from ehrmind.data.labels import balanced, label_form, label_truth, labels_by_split
from ehrmind.data.map_files import each
from ehrmind.data.meds import Meds, open_meds, read_shard, refuse_seen
from ehrmind.data.timeline import Timeline
from ehrmind.types import Case, InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from ehrmind.config import EhrFiles

UNKNOWN, UNBORN, TWICE = (
    "the subject has no events",
    "the prediction time is before birth",
    "the same subject and time twice",
)
UNLABELLED = "there is no label"
UNDATED = "events without a time, which is known of sex, race and ethnicity only, left out (of {:,} different codes)"
REMEDY = "mend the labels, or leave it out with --leave-out-unusable (in a recipe `unusable: leave_out`)"
# Years. An older birth is a placeholder, such as 1800-01-01, or was shifted to hide an age above
# 89, as in MIMIC-III.
OLDEST = 120
TOO_OLD = "labels of people who would be older than {} years: a birth that may stand for an unknown or a hidden one"
FEW_KNOWN = 0.1  # least share of labelled subjects with events; below it labels and data set do not match


class Labels(NamedTuple):
    """Labels of a task, as `ehr_labels.read_labels` returns them, with their files and notes."""

    rows: pl.DataFrame
    files: Sequence[Path]
    task: str
    notes: dict[str, int]


class Usable(NamedTuple):
    """Usable labels with `age` in years and `sex`, counts of the others by reason, and notes."""

    rows: pl.DataFrame
    left_out: Counter[str]
    notes: dict[str, int]


def read_ehr(files: EhrFiles) -> tuple[list[Case], Counts]:
    """Returns the cases in the order of the label file, and counts.

    Splits are by subject (the data set's own if it has some), or by time or site if the recipe says
    so. Raises InputError with the row of a label of an unknown subject or before birth. If the
    recipe allows it, such labels are left out and counted instead.
    """
    data, labels = _opened(files)
    found = usable(data, labels.rows, labels.files, files.unusable)
    words = label_words(labels.rows, labels.task, files.labels_from, labels.notes)
    rows = _with_cells(found.rows.with_columns(found.rows["value"] - words.first), labels.files)
    cases = references(data, rows, labels.task, files.question, words.words)
    if not cases:
        raise InputError(
            f"No label of {_at(labels.files)} can be used with {data.folder}; give the labels of that data set."
        )
    cases, not_split, placed = split_histories(cases, data, files)
    left_out = found.left_out + not_split
    if files.balance is not None:
        cases, left_out["train: more than balance allows"] = balanced(cases, files.balance, files.seed)
    notes = {**data.notes(files.site_column), **found.notes, **labels.notes, **all_alike(found.rows, words), **placed}
    counts = Counts(
        kept=len(cases),
        left_out={reason: count for reason, count in left_out.items() if count},
        notes={"subjects": len({case.group for case in cases}), **notes},
        by_stratum=Counter(case.stratum for case in cases),
        files=_read(labels),
        by_split=labels_by_split(cases),
    )
    return cases, counts


def references(
    data: Meds | Ehrshot, rows: pl.DataFrame, task: str, question: str | None, words: Sequence[str]
) -> list[Case]:
    """Makes a case of each row of `usable`.

    A row with a null `value` has no answer. `cell` is the place of the label.
    """
    import polars as pl

    rows = rows if "cell" in rows.columns else rows.with_columns(cell=pl.lit(None))
    stratum, folder = f"ehr/{_slug(data.name)}/{_slug(task)}", str(data.folder.resolve())
    within_a_second = pl.struct("subject_id", pl.col("prediction_time").dt.truncate("1s")).is_duplicated()
    rows = rows.with_columns(within_a_second.alias("crowded"))
    return [
        Case(
            id=f"{_slug(data.name)}-{_slug(task)}-{subject}-{_moment(at, crowded)}",
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
                **({} if age is None else {"age": shown(age)}),
                **({} if sex is None else {"sex": sex}),
                **({} if cell is None else {"cell": cell}),
            },
        )
        for subject, at, value, age, sex, crowded, cell in rows.select(
            "subject_id", "prediction_time", "value", "age", "sex", "crowded", "cell"
        ).iter_rows()
    ]


def _with_cells(rows: pl.DataFrame, files: Sequence[Path]) -> pl.DataFrame:
    """Adds `cell`: the file, row, column and text of a label. Labels from ACES have none."""
    import polars as pl

    if "cell" not in rows.columns:
        return rows
    names = dict(enumerate(file.name for file in files))
    file = pl.col("file").replace_strict(names, return_dtype=pl.String)
    return rows.with_columns(cell=pl.struct(file.alias("file"), "row", "column", "cell"))


def open_data_set(folder: Path) -> Meds | Ehrshot:
    """Opens a MEDS data set, or the files of the EHRSHOT release."""
    return open_ehrshot(folder) if not (folder / "data").is_dir() and is_ehrshot(folder) else open_meds(folder)


def _opened(files: EhrFiles) -> tuple[Meds | Ehrshot, Labels]:
    if files.ehrshot is not None:
        assert files.task is not None
        path, rows, notes = read_ehrshot_labels(files.ehrshot, files.task)
        return open_ehrshot(files.ehrshot), Labels(rows, [path], files.task, notes)
    assert files.meds is not None
    data = open_meds(files.meds)
    if files.aces is not None:
        rows, notes = read_aces_labels(data, files.aces)
        return data, Labels(rows, [files.aces], files.task or files.aces.stem, notes)
    assert files.labels is not None
    found = label_files(files.labels, files.task)
    rows, notes = read_labels(found.paths, found.task, files.label_column)
    if found.unread:
        notes[f"files next to the labels in another format, which are not read: {', '.join(found.unread[:3])}"] = len(
            found.unread
        )
    return data, Labels(rows, found.paths, found.task, notes)


def usable(data: Meds | Ehrshot, labels: pl.DataFrame, files: Sequence[Path], unusable: str) -> Usable:
    """Selects labels whose subject has events and is born, one per subject and time.

    If `unusable` is "refuse", raises InputError naming file and row of any other label; otherwise
    they are counted. Also raises InputError if few of the labelled subjects are in the data set.
    """
    import numpy as np
    import polars as pl

    subjects, times = labels["subject_id"].to_numpy(), labels["prediction_time"].cast(int).to_numpy()
    known = np.zeros(len(subjects), dtype=bool)
    born, sexes = np.full(len(subjects), NO_BIRTH), np.full(len(subjects), None, dtype=object)
    undated = Counter[str]()
    for here in prefetched(_people_by_shard(data, subjects)):
        known[here.places], born[here.places], sexes[here.places] = True, here.born, here.sexes
        undated += here.undated
    _refuse_strangers(data, subjects, known, files)
    unborn = times < born
    twice = (~labels.select(pl.struct("subject_id", "prediction_time").is_first_distinct()).to_series()).to_numpy()
    unlabelled = labels["value"].is_null().to_numpy()
    unlabelled &= not unlabelled.all()  # if no row has a label, the rows are there to be predicted
    left_out, kept = Counter[str](), np.ones(len(subjects), dtype=bool)
    for reason, wrong in ((UNKNOWN, ~known), (UNBORN, unborn), (UNLABELLED, unlabelled), (TWICE, twice)):
        if unusable == "refuse" and wrong.any():
            raise InputError(
                f"{_row(labels, files, int(wrong.argmax()))}: {reason} ({int(wrong.sum())} such); {REMEDY}."
            )
        left_out[reason] = int((kept & wrong).sum())
        kept &= ~wrong
    about = labels.with_columns(
        pl.Series("age", ages(born, times), pl.Float64).fill_nan(None), pl.Series("sex", sexes.tolist(), pl.String)
    )
    notes = {UNDATED.format(len(undated)): undated.total()} if undated else {}
    about = about.filter(pl.Series(kept))
    if too_old := int((about["age"] > OLDEST).sum()):
        notes[TOO_OLD.format(OLDEST)] = too_old
    return Usable(about, left_out, notes)


def _refuse_strangers(data: Meds | Ehrshot, subjects: np.ndarray, known: np.ndarray, files: Sequence[Path]) -> None:
    """Raises InputError if labels and data set share so few subjects that they do not match."""
    import numpy as np

    everybody, here = len(np.unique(subjects)), len(np.unique(subjects[known]))
    if here < FEW_KNOWN * everybody:
        raise InputError(
            f"{_at(files)}: {here:,} of its {everybody:,} subjects have events in {data.folder}; give the labels of"
            " that data set, with its own numbers of subjects."
        )


class People(NamedTuple):
    """Labelled subjects of one shard: their `places` among the labels, births and sexes.

    `everybody` has all subjects of the shard. `undated` counts by code the events that are left out
    because they have no time.
    """

    everybody: np.ndarray
    places: np.ndarray
    born: np.ndarray
    sexes: list[str | None]
    undated: Counter[str]


def _people_by_shard(data: Meds | Ehrshot, labelled: np.ndarray) -> Iterator[People]:
    """Yields the labelled people shard by shard. MEDS shards can be read in parallel.

    EHRSHOT is read in one task: its events are one file, and a patient may begin anywhere in it.
    """
    if isinstance(data, Ehrshot):
        yield from (_people_of(labelled, timeline) for _, timeline in data.timelines())
        return
    seen: set[int] = set()
    for shard, people in zip(
        data.shards, each(partial(_people_in_shard, labelled, data.static), data.shards), strict=True
    ):
        refuse_seen(shard, people.everybody, seen)
        yield people


def _people_in_shard(labelled: np.ndarray, static: frozenset[str], shard: Path) -> People:
    return _people_of(labelled, Timeline(read_shard(shard), static))


def _people_of(labelled: np.ndarray, timeline: Timeline) -> People:
    import numpy as np

    places = np.flatnonzero(timeline.has(labelled))
    subjects = labelled[places]
    return People(timeline.subjects, places, timeline.born(subjects), timeline.sexes(subjects), timeline.undated)


def _read(labels: Labels) -> tuple[FileRead, ...]:
    """Lists the label files with digest and rows, or the ACES task file that made all labels."""
    rows = Counter(labels.rows["file"].to_list()) if "file" in labels.rows.columns else {0: labels.rows.height}
    return tuple(FileRead(file.name, sha256_of(file), rows.get(place, 0)) for place, file in enumerate(labels.files))


def _at(files: Sequence[Path]) -> str:
    return str(files[0] if len(files) == 1 else files[0].parent)


def _row(labels: pl.DataFrame, files: Sequence[Path], place: int) -> str:
    """Names a label's place, such as `FILE, row 3`. Labels from ACES are numbered instead."""
    if "row" not in labels.columns:
        made = _at(files).endswith((".yaml", ".yml"))
        return f"{_at(files)}, label {place + 1} of those that it makes" if made else f"{_at(files)}, row {place + 1}"
    row = labels.row(place, named=True)
    return f"{files[row['file']]}, row {row['row']}"


def _moment(at: datetime, crowded: bool) -> str:
    """Formats a time for an id, with microseconds if another label is in the same second."""
    return f"{at:%Y%m%dT%H%M%S}" + (f"{at.microsecond:06d}" if crowded and at.microsecond else "")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-") or "data"
