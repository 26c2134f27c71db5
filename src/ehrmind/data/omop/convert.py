"""Converts OMOP CDM 5.3 and 5.4 tables into a MEDS data set, in two passes.

The first pass reads each table once and writes its rows, as pieces, to the shard of their subject.
The second pass makes sorted events of each shard's pieces. Memory holds a batch of rows or a shard,
never a whole table. The output folder gets its name when it is complete. It holds record text, so
only its owner may read it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind import __version__
from ehrmind.data.cells import Decimal
from ehrmind.data.dates import DayOrder
from ehrmind.data.omop.codes import WAYS, Concepts, as_events, code_rows, concepts_of, read_concepts
from ehrmind.data.omop.counts import OmopCounts, TableCounts
from ehrmind.data.omop.events import (
    NO_PERSON,
    TABLES,
    UNDATED,
    UNKNOWN,
    as_pieces,
    columns_of,
    read_people,
)
from ehrmind.data.omop.tables import TableFile, find_tables
from ehrmind.data.omop.values import Kind
from ehrmind.data.timeline import BIRTH, DEATH
from ehrmind.files import clear_leftovers, written_whole
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

SUBJECTS_A_SHARD, SHARDS = 1_000, 200  # shards get larger if there would be more than `SHARDS`
VOCABULARIES = ("concept", "concept_relationship", "cdm_source")
REPEATED, DIED_BEFORE = "the same as its visit", "the same death again"
BEFORE_BIRTH, AFTER_DEATH = "rows before the day of the birth", "rows after the day of the death"
FEW = 10  # with fewer rows, it is no error if no row's person is in PERSON: it may be a sample


def convert_omop(
    source: Path,
    out: Path,
    *,
    name: str | None = None,
    day_end: bool = False,
    decimal: Decimal | None = None,
    dates: DayOrder | None = None,
    ignore_zones: bool = False,
) -> OmopCounts:
    """Writes a new MEDS data set to `out` and returns counts.

    For `day_end` see `events.as_pieces`. `decimal` and `dates` are the conventions of text columns
    that do not show them. With `ignore_zones`, the zone of a time is dropped and its clock time
    kept. Raises InputError, and then writes nothing.
    """
    clear_leftovers(out.parent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; name a new folder.")
    counts = OmopCounts()
    with written_whole(out.resolve(), private=True) as partial:
        for part in ("scratch", "data", "metadata"):
            (partial / part).mkdir()
        scratch = partial / "scratch"
        wanted = {"person", *TABLES, *VOCABULARIES}
        tables, counts.unread = find_tables(
            source, scratch, wanted, decimal=decimal, dates=dates, ignore_zones=ignore_zones
        )
        _refuse_too_few(source, tables, counts.unread)
        concepts = read_concepts(_scatter(tables, scratch, counts, day_end), tables)
        readings: dict[str, str] = {"times with a zone": "by their clock"} if ignore_zones else {}
        for file in tables.values():
            counts.notes.update(file.notes)
            readings |= {f"{file.table}.{column}": said for column, said in file.decided.items() if said}
        counts.notes.update({f"{column} read as {said}": 1 for column, said in readings.items()})
        codes = _gather(scratch, partial / "data", concepts, counts, tables)
        _write_metadata(
            partial / "metadata",
            code_rows(codes, concepts),
            _about(tables.get("cdm_source"), name, source) | ({"readings": readings} if readings else {}),
        )
        shutil.rmtree(scratch)
    return counts


def _refuse_too_few(source: Path, tables: Mapping[str, TableFile], unread: Sequence[str]) -> None:
    """Raises InputError if PERSON is missing, or if there is no table of events."""
    others = f"; it holds {', '.join(unread[:10])}" if unread else ""
    if "person" not in tables:
        raise InputError(
            f"{source} has no table PERSON (person.csv, .csv.gz or .parquet, or a folder person of part files); OMOP"
            f" tables are wanted{others}."
        )
    if not set(tables) & set(TABLES):
        raise InputError(
            f"{source} has PERSON and no table of events ({', '.join(TABLES)}); give them together{others}."
        )


def _scatter(tables: Mapping[str, TableFile], scratch: Path, counts: OmopCounts, day_end: bool) -> pl.Series:
    """Writes each row's piece to its subject's shard, PERSON first; returns all concepts in use."""
    import polars as pl

    people = read_people(tables["person"], deaths="death" not in tables)
    counts.notes.update(people.notes)
    each = max(SUBJECTS_A_SHARD, -(-people.subjects.height // SHARDS))
    shards = people.subjects.select("subject_id").with_row_index("shard").with_columns(pl.col("shard") // each)
    counts.tables["person"] = TableCounts(rows=people.subjects.height, files=len(tables["person"].parts))
    _write_pieces(people.pieces, shards, scratch, "00")
    used = concepts_of(people.pieces)
    for place, (table, about) in enumerate(TABLES.items(), start=1):
        if (file := tables.get(table)) is None:
            continue
        file.need("person_id")
        file.need(f"{about.start}_date", f"{about.start}_datetime")
        if about.of:
            file.need(f"{about.of}_concept_id")
        here = counts.tables[table] = TableCounts(files=len(file.parts))
        died = []
        for number, rows in enumerate(
            file.batches(columns_of(table, row_ids=len(file.parts) > 1), placed=table == "death")
        ):
            pieces, notes = as_pieces(rows, table, day_end=day_end)
            counts.notes.update(notes)
            kept = _keep_known(pieces, people.subjects, here, counts, table)
            if table == "death":
                died.append(kept.select("subject_id", "time", "part", "row"))
                kept = kept.drop("part", "row")
            _write_pieces(kept, shards, scratch, f"{place:02}-{number:06}")
            used = pl.concat([used, concepts_of(kept)]).unique()
        _refuse_strangers(file, here)
        if died:
            _refuse_two_deaths(file, pl.concat(died))
    every = sum(of.rows for name, of in counts.tables.items() if name != "person")
    if every and every == sum(_strangers(of) for of in counts.tables.values()):
        raise InputError(
            f"None of {every:,} rows is of a person in {tables['person'].name}; give tables of one database."
        )
    return used


def _keep_known(
    pieces: pl.DataFrame, subjects: pl.DataFrame, here: TableCounts, counts: OmopCounts, table: str
) -> pl.DataFrame:
    """Keeps the pieces that have a known person and a date; the others are counted."""
    import polars as pl

    known = pieces.join(subjects, on="subject_id", how="inner", maintain_order="left")
    kept = known.filter(pl.col("time").is_not_null())
    here.rows += pieces.height
    here.left_out[NO_PERSON] += pieces["subject_id"].null_count()
    here.left_out[UNKNOWN] += pieces.height - known.height - pieces["subject_id"].null_count()
    here.left_out[UNDATED] += known.height - kept.height
    counts.notes[f"{table}: {BEFORE_BIRTH}"] += int(
        kept.select((pl.col("time").dt.date() < pl.col("born").dt.date()).sum()).item()
    )
    return kept.drop("born")


def _refuse_strangers(file: TableFile, here: TableCounts) -> None:
    """Raises InputError if no row's person is in PERSON.

    Then the ids are written in another way, or the table is of another database.
    """
    if here.rows >= FEW and _strangers(here) == here.rows:
        raise InputError(
            f"{file.name}, column 'person_id': none of {here.rows:,} rows is of a person in PERSON; give tables of one"
            " database."
        )


def _strangers(here: TableCounts) -> int:
    return here.left_out[NO_PERSON] + here.left_out[UNKNOWN]


def _refuse_two_deaths(file: TableFile, died: pl.DataFrame) -> None:
    import polars as pl

    first = pl.col("time").dt.date().first().over("subject_id")
    again = died.filter(pl.col("time").dt.date() != first)
    if again.height:
        raise file.refused(again, "person_id", "this person has died on another day already; leave one row")


def _write_pieces(pieces: pl.DataFrame, shards: pl.DataFrame, scratch: Path, name: str) -> None:
    placed = pieces.join(shards, on="subject_id", maintain_order="left")
    for (shard,), part in placed.partition_by("shard", as_dict=True, include_key=False).items():
        folder = scratch / f"shard-{shard:04}"
        folder.mkdir(exist_ok=True)
        part.write_parquet(folder / f"{name}.parquet")


def _gather(
    scratch: Path, data: Path, concepts: Concepts, counts: OmopCounts, tables: Mapping[str, TableFile]
) -> pl.DataFrame:
    """Writes each shard's sorted events and returns the distinct (code, named)."""
    import polars as pl
    import pyarrow.parquet as pq
    from meds.schema import DataSchema

    codes = []
    for folder in sorted(scratch.glob("shard-*")):
        pieces = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
        _refuse_rows_twice(pieces, tables)
        events = as_events(_with_care_sites(pieces), concepts)
        once = _one_death(events)
        counts.tables.get("death", TableCounts()).left_out[DIED_BEFORE] += events.height - once.height
        kept = _without_repeats(once)
        counts.tables.get("visit_detail", TableCounts()).left_out[REPEATED] += once.height - kept.height
        counts.notes[AFTER_DEATH] += _after_death(kept)
        kept = kept.sort("subject_id", "time", nulls_last=False, maintain_order=True)
        codes.append(kept.select("code", "named").unique())
        counts.shards += 1
        counts.subjects += kept["subject_id"].n_unique()
        counts.events += kept.height
        for table, n in kept["omop_table"].value_counts().iter_rows():
            counts.tables[table].events += n
        counts.codes.update({WAYS[way]: n for way, n in kept["way"].drop_nulls().value_counts().iter_rows()})
        pq.write_table(
            DataSchema.align(kept.drop("way", "named").to_arrow()),
            data / f"{folder.name.removeprefix('shard-')}.parquet",
        )
        shutil.rmtree(folder)
    if not codes:
        raise InputError(
            "The tables hold no event: no person has a birth date, a trait or a dated row; give the tables of one"
            " database."
        )
    return pl.concat(codes)


def _refuse_rows_twice(pieces: pl.DataFrame, tables: Mapping[str, TableFile]) -> None:
    """Raises InputError if part files share a row, as two exports of one table do."""
    import polars as pl

    numbered = pieces.filter(pl.col("row_id").is_not_null()).select("omop_table", "row_id")
    again = numbered.filter(~pl.struct("omop_table", "row_id").is_first_distinct())
    if again.height:
        table = again["omop_table"][0]
        raise InputError(
            f"{tables[table].name}: two rows have one {table}_id, as where two exports lie side by side; give one of"
            " them."
        )


def _with_care_sites(pieces: pl.DataFrame) -> pl.DataFrame:
    """Gives each row its care site, or that of its visit if it has none."""
    import polars as pl

    key = ["subject_id", "visit_id"]
    visits = pieces.filter((pl.col("omop_table") == "visit_occurrence") & pl.col("care_site_id").is_not_null())
    sites = visits.select(*key, pl.col("care_site_id").alias("visits_site")).unique(
        key, keep="first", maintain_order=True
    )
    found = pieces.join(sites, on=key, how="left", maintain_order="left")
    return found.with_columns(pl.coalesce("care_site_id", "visits_site").alias("care_site_id")).drop("visits_site")


def _without_repeats(events: pl.DataFrame) -> pl.DataFrame:
    """Drops visit details that repeat their visit: some databases write each visit twice."""
    import polars as pl

    key = ["subject_id", "visit_id", "code", "time", "end"]
    visits, details = (
        events.filter(pl.col("omop_table") == table).select(key) for table in ("visit_occurrence", "visit_detail")
    )
    again = (
        details.join(visits, on=key, how="semi", nulls_equal=True)
        .unique()
        .with_columns(omop_table=pl.lit("visit_detail"))
    )
    return events.join(again, on=[*key, "omop_table"], how="anti", nulls_equal=True, maintain_order="left")


def _one_death(events: pl.DataFrame) -> pl.DataFrame:
    """Keeps the last of several deaths on one day, so that a death is not known too early."""
    import polars as pl

    dead = pl.col("code") == DEATH
    deaths = events.filter(dead).sort("time", maintain_order=True)
    return pl.concat([events.filter(~dead), deaths.unique("subject_id", keep="last", maintain_order=True)])


def _after_death(events: pl.DataFrame) -> int:
    """Counts the rows after the day of their subject's death."""
    import polars as pl

    died = (
        events.filter(pl.col("code") == DEATH).group_by("subject_id").agg(pl.col("time").dt.date().max().alias("died"))
    )
    rows = events.filter(pl.col("code") != BIRTH).join(died, on="subject_id")
    return int(rows.select((pl.col("time").dt.date() > pl.col("died")).sum()).item())


def _about(file: TableFile | None, name: str | None, source: Path) -> dict[str, Any]:
    """Makes dataset.json: name and release from CDM_SOURCE, otherwise the name of folder or zip."""
    from importlib.metadata import version

    wanted: dict[str, tuple[str, Kind]] = {"name": ("cdm_source_name", "text"), "release": ("cdm_release_date", "text")}
    rows = [] if file is None else file.read(wanted).rows(named=True)
    own = rows[0] if rows else {"name": None, "release": None}
    return {
        "dataset_name": name or own["name"] or source.resolve().stem,
        **({"dataset_version": own["release"]} if own["release"] else {}),
        "etl_name": "ehrmind",
        "etl_version": __version__,
        "meds_version": version("meds"),
        "raw_source_id_columns": ["visit_id"],
        "code_modifier_columns": ["unit"],
        "site_id_columns": ["care_site_id"],
        "other_extension_columns": ["end", "omop_table"],
    }


def _write_metadata(folder: Path, codes: pl.DataFrame, about: Mapping[str, Any]) -> None:
    import pyarrow.parquet as pq
    from meds.schema import CodeMetadataSchema, DatasetMetadataSchema

    pq.write_table(CodeMetadataSchema.align(codes.to_arrow()), folder / "codes.parquet")
    DatasetMetadataSchema.validate(about)
    (folder / "dataset.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
