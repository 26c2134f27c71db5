"""Reads the files of the EHRSHOT release (arXiv 2307.02028) as MEDS: events, labels and splits.

`ehrshot.csv` has 41.7 million rows and is read in batches of whole patients. The rows of its table
`person` (gender, race, ethnicity) are dated at birth in the release and static here. Its codes for
birth and death become those of MEDS.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ehrmind.data.bounds import csv_batches
from ehrmind.data.ehr_labels import DAYS, csv_table, whole_labels
from ehrmind.data.files import sha256_of
from ehrmind.data.headers import there
from ehrmind.data.sentinels import finite_or_null, is_null_spelling, without_null_texts
from ehrmind.data.splits import split_of_subjects
from ehrmind.data.subject_columns import FORMATS, moments, place, subject_numbers
from ehrmind.data.timeline import BIRTH, COLUMNS, DEATH, Timeline
from ehrmind.system import refuse_no_file, why
from ehrmind.types import InputError, Split

if TYPE_CHECKING:
    import polars as pl

EVENTS = ("ehrshot.csv", "ehrshot.csv.gz")
EVENTS_IN = re.compile(r"[.](?:csv|tsv|txt|parquet)\b", re.IGNORECASE)
BIRTH_CODE, DEATH_CODE = "SNOMED/3950001", "Condition Type/OMOP4822053"
ROWS_AT_ONCE = 4_000_000
KINDS = ("boolean", "categorical")  # of labels
# The release packs 14 findings into one number, the first in the highest bit. Each is a task here.
CHEXPERT = (
    "no_finding", "enlarged_cardiomediastinum", "cardiomegaly", "lung_lesion", "lung_opacity", "edema", "consolidation", "pneumonia",
    "atelectasis", "pneumothorax", "pleural_effusion", "pleural_other", "fracture", "support_devices",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ehrshot:
    """An opened release, with the methods of `data.meds.Meds`. The release has no code names."""

    folder: Path
    events: Path
    name: str = "EHRSHOT"
    splits: Mapping[int, Split] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    static: frozenset[str] = frozenset()
    digest: str = ""

    def notes(self, used: str | None = None) -> dict[str, int]:
        """Returns no notes: all columns of the release are known."""
        del used
        return {}

    def timelines(self, *, checked: bool = False) -> Iterator[tuple[Path, Timeline]]:
        """Yields timelines of whole patients, batch by batch and always checked.

        Raises InputError naming the file, also for a patient whose rows are scattered.
        """
        import polars as pl

        del checked
        seen: set[int] = set()
        rest: pl.DataFrame | None = None
        for batch in _batches(self.events):
            rows = batch if rest is None else pl.concat([rest, batch])
            last = rows["patient_id"][-1]
            rest, whole = rows.filter(pl.col("patient_id") == last), rows.filter(pl.col("patient_id") != last)
            if whole.height:
                yield self.events, self._timeline(whole, seen)
        if rest is not None:
            yield self.events, self._timeline(rest, seen)

    def _timeline(self, rows: pl.DataFrame, seen: set[int]) -> Timeline:
        patients = set(rows["patient_id"].unique().to_list())
        if twice := seen & patients:
            raise InputError(
                f"{self.events}: the rows of {len(twice):,} patient(s) are not together; sort the file by patient_id."
            )
        seen |= patients
        return Timeline(_as_meds(rows))


def open_ehrshot(folder: Path) -> Ehrshot:
    """Opens a release.

    Raises InputError if ehrshot.csv is missing or person_id_map.csv is wrong.
    """
    events = _find(folder, EVENTS)
    if events is None:
        raise InputError(f"{folder} is no EHRSHOT release: there is no ehrshot.csv under it.")
    _refuse_several_files(events)
    return Ehrshot(folder, events, splits=_splits(folder), digest=sha256_of(events))


def is_ehrshot(folder: Path) -> bool:
    return _find(folder, EVENTS) is not None


def read_ehrshot_labels(folder: Path, task: str) -> tuple[Path, pl.DataFrame, dict[str, int]]:
    """Returns the label file, its rows in the form of `ehr_labels.read_labels`, and notes.

    `task` is a folder under benchmark/, or `chexpert_FINDING`.
    """
    import polars as pl

    finding = task.removeprefix("chexpert_") if task.startswith("chexpert_") else None
    if finding is not None and finding not in CHEXPERT:
        raise InputError(f"'{finding}' is no finding of chexpert; there are {', '.join(CHEXPERT)}.")
    if task == "chexpert":
        raise InputError(f"chexpert is 14 tasks; name one of {', '.join(f'chexpert_{name}' for name in CHEXPERT)}.")
    under = "chexpert" if finding is not None else task
    path = _find(folder, (f"{under}/labeled_patients.csv", f"benchmark/{under}/labeled_patients.csv"))
    if path is None:
        others = sorted(file.parent.name for file in folder.rglob("labeled_patients.csv"))
        raise InputError(f"{folder} has no labels for '{task}'; it has {', '.join(others) or 'none'}.")
    rows = _csv(path, ("patient_id", "prediction_time", "label_type", "value"))
    if not rows.height:
        raise InputError(f"{path} is empty: it has a header but no labels.")
    kinds = rows["label_type"].unique(maintain_order=True).to_list()
    if len(kinds) != 1 or kinds[0] not in KINDS:
        wrong = rows["label_type"] != (kinds[0] if kinds[0] in KINDS else KINDS[0])
        where = place(path, wrong.fill_null(True), "label_type")
        raise InputError(f"{where}: boolean or categorical is wanted, and one of them throughout.")
    values, read = whole_labels(rows["value"], path, boolean=kinds[0] == "boolean")
    if kinds[0] == "categorical" and read == "boolean":
        raise InputError(f"{path}, column 'value': yes and no, where label_type says categorical.")
    if values.null_count() == rows.height:
        raise InputError(f"{path}, column 'value': no row has a label.")
    times, days = moments(rows["prediction_time"], path)
    labels = pl.select(
        subject_id=subject_numbers(rows["patient_id"], path),
        prediction_time=times,
        value=values,
        kind=pl.lit("boolean" if kinds[0] == "boolean" or finding else "integer"),
        file=pl.lit(0, dtype=pl.UInt32),
        row=pl.int_range(1, rows.height + 1, dtype=pl.Int64),
        column=pl.lit("value"),
        cell=rows["value"].cast(pl.String),
    )
    if finding is not None:
        _refuse_invalid_sets(labels["value"], path)
        bit = len(CHEXPERT) - 1 - CHEXPERT.index(finding)
        labels = labels.with_columns(((pl.col("value") // 2**bit) % 2).alias("value"))
    return path, labels, {DAYS: days} if days else {}


def _refuse_invalid_sets(values: pl.Series, path: Path) -> None:
    """Raises InputError for a number that does not encode a set of findings."""
    if (wrong := ~values.is_between(0, 2 ** len(CHEXPERT) - 1).fill_null(True)).any():
        raise InputError(
            f"{place(path, wrong, 'value')}: not a set of the {len(CHEXPERT)} findings, which are bits of one number."
        )


def _as_meds(rows: pl.DataFrame) -> pl.DataFrame:
    """Converts the release's columns to `COLUMNS`: static rows first, then by time."""
    import polars as pl

    person = (pl.col("omop_table") == "person") & (pl.col("code") != BIRTH_CODE)
    rows = rows.with_columns(pl.col("value").cast(pl.Float32, strict=False).alias("number")).with_columns(
        pl.when(pl.col("number").is_null()).then(pl.col("value")).alias("value")
    )
    rows = rows.with_columns(
        finite_or_null("number"), without_null_texts(rows["value"], free_text=True), without_null_texts(rows["unit"])
    )
    events = rows.select(
        pl.col("patient_id").alias("subject_id"),
        pl.when(~person.fill_null(False)).then(pl.col("start")).alias("time"),
        pl.col("code").replace({BIRTH_CODE: BIRTH, DEATH_CODE: DEATH}).alias("code"),
        pl.col("number").alias("numeric_value"),
        pl.col("value").alias("text_value"),
        pl.col("unit"),
        pl.col("end"),
        pl.col("omop_table").alias("table"),
    )
    return events.select(COLUMNS).sort("subject_id", "time", nulls_last=False, maintain_order=True)


def _batches(path: Path) -> Iterator[pl.DataFrame]:
    """Yields the events, typed and checked, `ROWS_AT_ONCE` at a time."""
    import polars as pl

    name = str(path)
    wanted = ("patient_id", "start", "end", "code", "value", "unit", "omop_table")
    rows_before = 0
    try:
        for read in csv_batches(path, ROWS_AT_ONCE):
            if missing := [column for column in wanted if column not in read.columns]:
                raise InputError(
                    f"{name} has no column '{missing[0]}', which the EHRSHOT release has;"
                    f" {there(read.columns, missing[0])}."
                )
            if not read.height:
                continue
            raw = read.select(wanted)
            batch = raw.with_columns(
                subject_numbers(raw["patient_id"], name, rows_before),
                _moment("start").alias("start"),
                _moment("end").alias("end_read"),
            )
            unread_end = batch["end_read"].is_null() & batch["end"].is_not_null()
            unread_end &= unread_end.any() and ~is_null_spelling(batch["end"])
            for column, wrong, problem in (
                ("start", batch["start"].is_null(), "no time without a zone, such as 2026-01-31 23:59:00"),
                (
                    "code",
                    batch["code"].is_null() | (batch["code"].str.strip_chars() == ""),
                    "no value; every event needs one",
                ),
                ("end", unread_end, "no time without a zone, such as 2026-01-31 23:59:00"),
            ):
                if wrong.any():
                    raise InputError(
                        f"{name}, row {rows_before + int(wrong.arg_max() or 0) + 1}, column '{column}': {problem}."
                    )
            rows_before += batch.height
            yield batch.with_columns(pl.col("end_read").alias("end")).drop("end_read")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{name} cannot be read as CSV: {why(error)}.") from None
    if not rows_before:
        raise InputError(f"{name} has a header but no rows.")


def _moment(column: str) -> pl.Expr:
    """Parses a time in the release's format or a similar one. A day becomes 00:00 of that day."""
    import polars as pl

    times = [pl.col(column).str.to_datetime(form, time_unit="us", strict=False) for form in FORMATS]
    return pl.coalesce(*times, pl.col(column).str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))


def _splits(folder: Path) -> dict[int, Split]:
    path = _find(folder, ("person_id_map.csv",))
    if path is None:
        return {}
    rows = _csv(path, ("split", "omop_person_id"))
    return split_of_subjects(subject_numbers(rows["omop_person_id"], path), rows["split"], path)


def _csv(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    frame = csv_table(path)
    for column in columns:
        if column not in frame.columns:
            raise InputError(
                f"{path} has no column '{column}', which the EHRSHOT release has; {there(frame.columns, column)}."
            )
    return frame


def _find(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Finds the file with one of these names anywhere under the folder.

    Of identical files the shallowest is returned. Raises InputError if two files differ.
    """
    found = {
        path for name in names for path in folder.rglob(Path(name).name) if f"/{path.as_posix()}".endswith(f"/{name}")
    }
    ordered = sorted(found, key=lambda path: (len(path.parts), str(path)))
    for path in ordered:
        refuse_no_file(path)
    for other in ordered[1:]:
        if ordered[0].suffix != other.suffix or not filecmp.cmp(ordered[0], other, shallow=False):
            raise InputError(f"{ordered[0]} and {other} are both there; leave one.")
    return ordered[0] if ordered else None


def _refuse_several_files(events: Path) -> None:
    """Raises InputError if the folder has more than one file of events."""
    others = sorted(
        path.name for path in events.parent.glob("ehrshot*") if path != events and EVENTS_IN.search(path.name)
    )
    if others:
        raise InputError(
            f"{events} is the one file of events that is read, and {others[0]} lies next to it; join them, or move it"
            " away."
        )
