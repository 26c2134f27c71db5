"""What each OMOP table says happened, when, and with which value: rows become pieces, which know concepts by number.

When: the datetime column, else the date. A moment without a time of day (a date, or exactly midnight, which is how a date is written into a
datetime column) begins its day; as an end, or as the moment of a death or of a note, it is the last second of its day, so that nothing is
known before it was. What a visit came to (discharge, cause of death) is not read: a row stands at its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ehrmind.sources.omop.tables import Kind, TableFile, type_of
from ehrmind.sources.timeline import BIRTH, DEATH
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

# The columns of a piece. `fixed` is a code that needs no concept, `prefix` what stands before a source value in a code.
PIECE: Mapping[str, Kind] = {
    "subject_id": "whole", "time": "moment", "end": "moment", "omop_table": "text", "fixed": "text", "prefix": "text",
    "concept": "whole", "source_concept": "whole", "source_value": "text", "number": "number", "text": "text", "value_concept": "whole",
    "value_source": "text", "operator": "whole", "unit_concept": "whole", "unit_source": "text", "visit_id": "whole",
    "care_site_id": "whole",
}  # fmt: skip
CONCEPTS = ("concept", "source_concept", "value_concept", "operator", "unit_concept")
NO_PERSON, UNKNOWN, UNDATED = "no person_id", "the person is not in PERSON", "no date"
ENDS_EARLY = "an end before the start, left out"


@dataclass(frozen=True, slots=True)
class OmopTable:
    """The stems of a table's columns: `start` + `_date`, `of` + `_concept_id`."""

    of: str
    start: str
    end: str = ""
    source: str = ""  # where it is not `of`
    text: str = ""
    fixed: str = ""
    measured: bool = False


# In the order in which events of one moment stand.
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


def columns_of(table: OmopTable) -> dict[str, tuple[str, Kind]]:
    """{name: (column, kind)} to read of a table of events."""
    found: dict[str, tuple[str, Kind]] = {
        "subject_id": ("person_id", "whole"),
        "start_at": (f"{table.start}_datetime", "moment"),
        "start_on": (f"{table.start}_date", "moment"),
        "end_at": (f"{table.end}_datetime", "moment"),
        "end_on": (f"{table.end}_date", "moment"),
        "visit_id": ("visit_occurrence_id", "whole"),
        "care_site_id": ("care_site_id", "whole"),
    }
    if not table.fixed:
        found |= {"concept": (f"{table.of}_concept_id", "whole"), "source_concept": (f"{table.of}_source_concept_id", "whole")}
        found |= {"source_value": (f"{table.source or table.of}_source_value", "text")}
    if table.text:
        found |= {"text": (table.text, "text")}
    if table.measured:
        found |= {
            "number": ("value_as_number", "number"),
            "value_concept": ("value_as_concept_id", "whole"),
            "value_source": ("value_source_value", "text"),
            "operator": ("operator_concept_id", "whole"),
            "unit_concept": ("unit_concept_id", "whole"),
            "unit_source": ("unit_source_value", "text"),
        }
    return found


def as_pieces(rows: pl.DataFrame, table: str, *, day_end: bool) -> tuple[pl.DataFrame, int]:
    """(rows as `columns_of` reads them -> pieces, how many ends were before their start and are left out). With `day_end`, what has no time
    of day is known at the end of its day, but for visits."""
    import polars as pl

    start, end = pl.coalesce("start_at", "start_on"), _last_second(pl.coalesce("end_at", "end_on"))
    late = table in LATE or (day_end and table not in VISITS)
    early = (end < start).fill_null(False)
    pieces = rows.with_columns(
        (_last_second(start) if late else start).alias("time"),
        pl.when(~early).then(end).alias("end"),
        pl.lit(table).alias("omop_table"),
        pl.lit(TABLES[table].fixed or None, dtype=pl.String).alias("fixed"),
        pl.lit(table.upper()).alias("prefix"),
    )
    return whole_piece(pieces), int(rows.select(early.sum()).item())


def whole_piece(rows: pl.DataFrame) -> pl.DataFrame:
    """All columns of a piece, null where the rows have none."""
    import polars as pl

    types = type_of()
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(types[kind]).alias(name) for name, kind in PIECE.items()
    )


def _last_second(moment: pl.Expr) -> pl.Expr:
    import polars as pl

    day = moment.dt.truncate("1d")
    return pl.when(moment == day).then(day + pl.duration(hours=23, minutes=59, seconds=59)).otherwise(moment)


def read_people(file: TableFile) -> tuple[pl.Series, pl.DataFrame, dict[str, int]]:
    """(the subjects in order; a piece for every birth and every known gender, race and ethnicity; how many persons lack each). Raises
    InputError with row and column for a person without number or given twice, and for a day that is none.

    A birth without its day is put at the first of the month, without its month at the first of January: never after an event.
    """
    import polars as pl

    file.need("person_id")
    file.need("year_of_birth", "birth_datetime")
    people = file.read(
        {
            "subject_id": ("person_id", "whole"),
            "care_site_id": ("care_site_id", "whole"),
            "birth": ("birth_datetime", "moment"),
            **{name: (f"{name}_of_birth", "whole") for name in ("year", "month", "day")},
            **{f"{trait}_concept": (f"{trait}_concept_id", "whole") for trait in TRAITS},
            **{f"{trait}_source_concept": (f"{trait}_source_concept_id", "whole") for trait in TRAITS},
            **{f"{trait}_source_value": (f"{trait}_source_value", "text") for trait in TRAITS},
        }
    )
    if people["subject_id"].null_count():
        raise file.refused(people["subject_id"].is_null(), "person_id", "no value; every person needs a number")
    if not people["subject_id"].is_unique().all():
        raise file.refused(~people["subject_id"].is_first_distinct(), "person_id", "this person has a row already; leave one")
    if not people.height:
        raise InputError(f"{file.name} has no rows; a person at least is wanted.")
    day = pl.format("{}-{}-{}", *(pl.col(name).cast(pl.String).str.zfill(n) for name, n in (("year", 4), ("m", 2), ("d", 2))))
    dated = people.with_columns(m=pl.col("month").fill_null(1), d=pl.col("day").fill_null(1)).with_columns(
        pl.col("birth").fill_null(day.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False))
    )
    if (wrong := dated["birth"].is_null() & dated["year"].is_not_null()).any():
        raise file.refused(wrong, "year_of_birth", "with month_of_birth and day_of_birth it is no day")
    births = dated.filter(pl.col("birth").is_not_null()).with_columns(
        pl.col("birth").alias("time"), pl.lit(BIRTH).alias("fixed"), pl.lit("person").alias("omop_table")
    )
    traits = {trait: _trait(people, trait) for trait in TRAITS}
    lacking = {f"persons without {trait}": people.height - part.height for trait, part in traits.items()}
    lacking |= {"persons without a birth date": people.height - births.height}
    pieces = pl.concat([whole_piece(part) for part in (births, *traits.values())])
    return people["subject_id"].sort(), pieces, lacking


def _trait(people: pl.DataFrame, trait: str) -> pl.DataFrame:
    import polars as pl

    own = ("concept", "source_concept", "source_value")
    known = (pl.col("concept").fill_null(0) != 0) | (pl.col("source_concept").fill_null(0) != 0) | pl.col("source_value").is_not_null()
    rows = people.select("subject_id", "care_site_id", *(pl.col(f"{trait}_{name}").alias(name) for name in own))
    return rows.filter(known).with_columns(pl.lit("person").alias("omop_table"), pl.lit(trait.upper()).alias("prefix"))
