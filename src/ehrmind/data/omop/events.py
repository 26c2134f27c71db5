"""Reads what each OMOP table says happened, when, and with which value. Rows become pieces.

A piece is an event whose concepts are still numbers. Its time is the datetime column, otherwise the
date. A time without a time of day is a date, or exactly midnight, which is how a date is written
into a datetime column. It means the beginning of the day. For an end, a death or a note it means
the last second of the day, so that nothing is known too early. A row is dated at its start, so the
outcome of a visit (discharge, cause of death) is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ehrmind.data.omop.tables import TableFile
from ehrmind.data.omop.values import Kind, type_of
from ehrmind.data.timeline import BIRTH, DEATH
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

# Columns of a piece. `fixed` is a code without a concept; `prefix` precedes a source value in it.
PIECE: Mapping[str, Kind] = {
    "subject_id": "whole", "time": "moment", "end": "moment", "omop_table": "text", "fixed": "text", "prefix": "text",
    "concept": "whole", "source_concept": "whole", "source_value": "text", "number": "number", "text": "text", "value_concept": "whole",
    "value_source": "text", "operator": "whole", "unit_concept": "whole", "unit_source": "text", "visit_id": "whole",
    "care_site_id": "whole", "row_id": "text",
}  # fmt: skip
CONCEPTS = ("concept", "source_concept", "value_concept", "operator", "unit_concept")
NO_PERSON, UNKNOWN, UNDATED = "no person_id", "the person is not in PERSON", "no date"
ENDS_EARLY = "an end before the start, left out"
UNLIKE = "a date and a time of different days; the time counts"


@dataclass(frozen=True, slots=True)
class OmopTable:
    """Stems of a table's column names: `start` + `_date`, `of` + `_concept_id`."""

    of: str
    start: str
    end: str = ""
    source: str = ""  # stem of the source value's column, if it is not `of`
    text: str = ""
    fixed: str = ""
    measured: bool = False


# Events at the same time are sorted in this order.
TABLES: Mapping[str, OmopTable] = {
    "visit_occurrence": OmopTable("visit", "visit_start", "visit_end"),
    "visit_detail": OmopTable("visit_detail", "visit_detail_start", "visit_detail_end"),
    "condition_occurrence": OmopTable("condition", "condition_start", "condition_end"),
    "procedure_occurrence": OmopTable("procedure", "procedure", "procedure_end"),
    "drug_exposure": OmopTable("drug", "drug_exposure_start", "drug_exposure_end"),
    "device_exposure": OmopTable("device", "device_exposure_start", "device_exposure_end"),
    "measurement": OmopTable("measurement", "measurement", measured=True),
    "observation": OmopTable("observation", "observation", measured=True, text="value_as_string"),
    "note": OmopTable("note_type", "note", source="note", text="note_text"),
    "death": OmopTable("", "death", fixed=DEATH),
}
VISITS = ("visit_occurrence", "visit_detail")
LATE = ("death", "note")
TRAITS = ("gender", "race", "ethnicity")


def columns_of(name: str, *, row_ids: bool = False) -> dict[str, tuple[str, Kind]]:
    """Lists the columns to read of a table of events, as {name: (column, kind)}.

    `row_ids` adds the row's id.
    """
    table = TABLES[name]
    found: dict[str, tuple[str, Kind]] = {
        "subject_id": ("person_id", "whole"),
        "start_at": (f"{table.start}_datetime", "moment"),
        "start_on": (f"{table.start}_date", "moment"),
        "end_at": (f"{table.end}_datetime", "moment"),
        "end_on": (f"{table.end}_date", "moment"),
        "visit_id": ("visit_occurrence_id", "whole"),
        "care_site_id": ("care_site_id", "whole"),
    }
    if row_ids:
        found |= {"row_id": (f"{name}_id", "text")}
    if not table.fixed:
        found |= {
            "concept": (f"{table.of}_concept_id", "whole"),
            "source_concept": (f"{table.of}_source_concept_id", "whole"),
        }
        found |= {"source_value": (f"{table.source or table.of}_source_value", "said")}
    if table.text:
        found |= {"text": (table.text, "text")}
    if table.measured:
        found |= {
            "number": ("value_as_number", "number"),
            "value_concept": ("value_as_concept_id", "whole"),
            "value_source": ("value_source_value", "text"),
            "operator": ("operator_concept_id", "whole"),
            "unit_concept": ("unit_concept_id", "whole"),
            "unit_source": ("unit_source_value", "word"),
        }
    return found


def as_pieces(rows: pl.DataFrame, table: str, *, day_end: bool) -> tuple[pl.DataFrame, dict[str, int]]:
    """Makes pieces of the rows that `columns_of` describes, and returns (pieces, notes).

    An end before its start is left out. With `day_end`, an event without a time of day is known at
    the end of its day, except visits.
    """
    import polars as pl

    start, end = pl.coalesce("start_at", "start_on"), _last_second(pl.coalesce("end_at", "end_on"))
    late = table in LATE or (day_end and table not in VISITS)
    early = (end < start).fill_null(False)
    unlike = pl.any_horizontal(
        (pl.col(f"{of}_at").dt.date() != pl.col(f"{of}_on").dt.date()).fill_null(False) for of in ("start", "end")
    )
    pieces = rows.with_columns(
        (_last_second(start) if late else start).alias("time"),
        pl.when(~early).then(end).alias("end"),
        pl.lit(table).alias("omop_table"),
        pl.lit(TABLES[table].fixed or None, dtype=pl.String).alias("fixed"),
        pl.lit(table.upper()).alias("prefix"),
    )
    found = rows.select(early.sum().alias(ENDS_EARLY), unlike.sum().alias(UNLIKE)).row(0, named=True)
    return whole_piece(pieces), {f"{table}: {what}": int(n) for what, n in found.items()}


def whole_piece(rows: pl.DataFrame) -> pl.DataFrame:
    """Selects all columns of a piece, null if missing, and `part` and `row` if present."""
    import polars as pl

    types = type_of()
    place = [name for name in ("part", "row") if name in rows.columns]
    pieces = (
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(types[kind]).alias(name)
        for name, kind in PIECE.items()
    )
    return rows.select(*pieces, *place)


def _last_second(moment: pl.Expr) -> pl.Expr:
    import polars as pl

    day = moment.dt.truncate("1d")
    return pl.when(moment == day).then(day + pl.duration(hours=23, minutes=59, seconds=59)).otherwise(moment)


@dataclass(frozen=True, slots=True)
class People:
    """Contents of PERSON. `subjects` has every subject_id in order, and when they were `born`.

    `pieces` has births, known genders, races and ethnicities, and deaths if PERSON has them.
    `notes` counts missing values and remarks for the user.
    """

    subjects: pl.DataFrame
    pieces: pl.DataFrame
    notes: dict[str, int]


def read_people(file: TableFile, *, deaths: bool) -> People:
    """Reads PERSON. `deaths` reads `death_datetime` too, which CDM 6 has in place of DEATH.

    A birth without a day is set to the first of the month, without a month to the first of January,
    so that it does not come after an event. Raises InputError with row and column for a person
    without an id or given twice, and for an impossible date.
    """
    import polars as pl

    file.need("person_id")
    file.need("year_of_birth", "birth_datetime")
    people = file.read(
        {
            "subject_id": ("person_id", "whole"),
            "care_site_id": ("care_site_id", "whole"),
            "birth": ("birth_datetime", "moment"),
            "death": ("death_datetime", "moment"),
            **{name: (f"{name}_of_birth", "whole") for name in ("year", "month", "day")},
            **{f"{trait}_concept": (f"{trait}_concept_id", "whole") for trait in TRAITS},
            **{f"{trait}_source_concept": (f"{trait}_source_concept_id", "whole") for trait in TRAITS},
            **{f"{trait}_source_value": (f"{trait}_source_value", "word") for trait in TRAITS},
        }
    )
    if not people.height:
        raise InputError(f"{file.name} has no rows; a person at least is wanted.")
    if people["subject_id"].null_count():
        raise file.refused(
            people.filter(pl.col("subject_id").is_null()), "person_id", "no value; every person needs a number"
        )
    if not people["subject_id"].is_unique().all():
        twice = people.filter(~pl.col("subject_id").is_first_distinct())
        raise file.refused(twice, "person_id", "this person has a row already; leave one")
    dated, notes = _births(people, file)
    born = dated.filter(pl.col("birth").is_not_null())
    moments = [born.with_columns(pl.col("birth").alias("time"), pl.lit(BIRTH).alias("fixed"))]
    dead = people.filter(pl.col("death").is_not_null())
    if deaths:
        moments.append(dead.with_columns(_last_second(pl.col("death")).alias("time"), pl.lit(DEATH).alias("fixed")))
    elif dead.height:
        notes["persons with a death in PERSON as well; DEATH counts"] = dead.height
    traits = {trait: _trait(people, trait) for trait in TRAITS}
    lacking = {f"persons without {trait}": people.height - part.height for trait, part in traits.items()}
    lacking |= {"persons without a birth date": people.height - born.height}
    parts = [*(part.with_columns(pl.lit("person").alias("omop_table")) for part in moments), *traits.values()]
    pieces = pl.concat([whole_piece(part.drop("part", "row")) for part in parts])
    return People(dated.select("subject_id", pl.col("birth").alias("born")).sort("subject_id"), pieces, lacking | notes)


def _births(people: pl.DataFrame, file: TableFile) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fills `birth` from year, month and day, and returns (people, notes).

    0 means that a year, month or day is missing, and so does the year 9999.
    """
    import polars as pl

    no_year = pl.col("year").is_in([0, 9999])
    day = pl.format(
        "{}-{}-{}", *(pl.col(name).cast(pl.String).str.zfill(n) for name, n in (("year", 4), ("m", 2), ("d", 2)))
    )
    composed = people.with_columns(
        pl.when(~no_year).then("year").alias("year"), *(_null_if_zero(name) for name in ("month", "day"))
    )
    whole = composed.with_columns(m=pl.col("month").fill_null(1), d=pl.col("day").fill_null(1)).with_columns(
        day.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False).alias("composed")
    )
    short = whole.filter(pl.col("year").abs() < 1000)
    if short.height:
        raise file.refused(short, "year_of_birth", "a year of four digits is wanted")
    wrong = whole.filter(pl.col("birth").is_null() & pl.col("composed").is_null() & pl.col("year").is_not_null())
    if wrong.height:
        raise file.refused(wrong, "year_of_birth", "with month_of_birth and day_of_birth it is no day")
    # A birth_datetime of 1900-01-01 is a placeholder if the year differs.
    none = pl.col("birth").is_in([datetime(1900, 1, 1)]) & (pl.col("year") != pl.col("birth").dt.year())
    dated = whole.with_columns(pl.coalesce(pl.when(~none.fill_null(False)).then("birth"), "composed").alias("birth"))
    unlike = pl.col("birth").dt.year() != pl.col("year")
    counted = dated.select(
        unlike.fill_null(False).sum().alias("persons whose birth_datetime is not in year_of_birth; it counts"),
        (pl.col("birth") == datetime(1900, 1, 1))
        .fill_null(False)
        .sum()
        .alias("persons born on 1900-01-01, which may stand for unknown"),
    ).row(0, named=True)
    unknown = people.select(
        no_year.fill_null(False).sum().alias("persons with year_of_birth 0 or 9999, read as none")
    ).row(0, named=True)
    return dated, {what: int(n) for what, n in (counted | unknown).items()}


def _null_if_zero(name: str) -> pl.Expr:
    import polars as pl

    return pl.when(pl.col(name) != 0).then(name).alias(name)


def _trait(people: pl.DataFrame, trait: str) -> pl.DataFrame:
    import polars as pl

    own = ("concept", "source_concept", "source_value")
    known = (
        (pl.col("concept").fill_null(0) != 0)
        | (pl.col("source_concept").fill_null(0) != 0)
        | pl.col("source_value").is_not_null()
    )
    rows = people.select(
        "subject_id", "care_site_id", "part", "row", *(pl.col(f"{trait}_{name}").alias(name) for name in own)
    )
    return rows.filter(known).with_columns(pl.lit("person").alias("omop_table"), pl.lit(trait.upper()).alias("prefix"))
