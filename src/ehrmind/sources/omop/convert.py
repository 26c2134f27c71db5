"""OMOP CDM 5.3 and 5.4 tables -> a MEDS data set, in two passes that hold a batch of rows or a shard of subjects, never a whole table.

First each table is read once and its rows are laid beside those of the same subjects, as pieces; then each shard's pieces become events,
sorted. The folder takes its name when it is whole; it holds record text and is its owner's alone.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind import __version__
from ehrmind.files import written_whole
from ehrmind.sources.omop.codes import WAYS, Concepts, as_events, code_rows, concepts_of, read_concepts
from ehrmind.sources.omop.events import (
    ENDS_EARLY,
    NO_PERSON,
    TABLES,
    UNDATED,
    UNKNOWN,
    as_pieces,
    columns_of,
    read_people,
)
from ehrmind.sources.omop.tables import Kind, TableFile, find_tables
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

SUBJECTS_A_SHARD, SHARDS = 1_000, 200  # a shard has more subjects where there would be more shards than these
VOCABULARIES = ("concept", "concept_relationship", "cdm_source")
REPEATED = "the same as its visit"


@dataclass(slots=True)
class TableCounts:
    """Of one table: `rows` is the sum of `events` and `left_out`, but in PERSON, where a person is several events."""

    rows: int = 0
    events: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class OmopCounts:
    """What became of every row. `codes` counts events by how their code was found, `unread` names tables that are not looked at."""

    subjects: int = 0
    events: int = 0
    shards: int = 0
    tables: dict[str, TableCounts] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(WAYS, 0)))
    notes: Counter[str] = field(default_factory=Counter)
    unread: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        tables = {name: {"rows": of.rows, "events": of.events, "left_out": dict(+of.left_out)} for name, of in self.tables.items()}
        plain = {"subjects": self.subjects, "events": self.events, "shards": self.shards, "tables": tables}
        return {**plain, "codes": dict(+self.codes), "notes": dict(+self.notes), "unread": self.unread}

    def lines(self) -> list[str]:
        found = [f"{self.subjects:,} subjects with {self.events:,} events in {self.shards:,} shard(s)"]
        for name, of in self.tables.items():
            left_out = "".join(f"; left out {n:,}: {reason}" for reason, n in (+of.left_out).items())
            found.append(f"{name}: {of.rows:,} rows, {of.events:,} events{left_out}")
        found += [f"codes {way}: {n:,} events" for way, n in (+self.codes).items()]
        found += [f"note {n:,}: {what}" for what, n in (+self.notes).items()]
        return [*found, *([f"not looked at: {', '.join(self.unread)}"] if self.unread else [])]


def convert_omop(source: Path, out: Path, *, name: str | None = None, day_end: bool = False) -> OmopCounts:
    """Write a new MEDS data set to `out`; returns counts. `day_end`: see `events.as_pieces`. Raises InputError, and then writes nothing."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; name a new folder.")
    counts = OmopCounts()
    with written_whole(out.resolve()) as partial:
        partial.chmod(0o700)
        for part in ("scratch", "data", "metadata"):
            (partial / part).mkdir()
        scratch = partial / "scratch"
        tables, counts.unread = find_tables(source, scratch, {"person", *TABLES, *VOCABULARIES})
        if "person" not in tables:
            raise InputError(f"{source} has no table PERSON (person.csv, .csv.gz or .parquet); OMOP tables are wanted, one file each.")
        concepts = read_concepts(_scatter(tables, scratch, counts, day_end), tables)
        codes = _gather(scratch, partial / "data", concepts, counts)
        _write_metadata(partial / "metadata", code_rows(codes, concepts), _about(tables.get("cdm_source"), name, source))
        shutil.rmtree(scratch)
        for path in partial.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
    return counts


def _scatter(tables: Mapping[str, TableFile], scratch: Path, counts: OmopCounts, day_end: bool) -> pl.Series:
    """Every row's piece into the folder of its subject's shard, the persons' first; returns all concepts that are named."""
    import polars as pl

    subjects, people, lacking = read_people(tables["person"])
    counts.notes.update(lacking)
    each = max(SUBJECTS_A_SHARD, -(-len(subjects) // SHARDS))
    shards = subjects.to_frame().with_row_index("shard").with_columns(pl.col("shard") // each)
    counts.tables["person"] = TableCounts(rows=len(subjects))
    _lay(people, shards, scratch, "00")
    used = concepts_of(people)
    for place, (table, about) in enumerate(TABLES.items(), start=1):
        if (file := tables.get(table)) is None:
            continue
        file.need("person_id")
        file.need(f"{about.start}_date", f"{about.start}_datetime")
        if about.of:
            file.need(f"{about.of}_concept_id")
        here = counts.tables[table] = TableCounts()
        for number, rows in enumerate(file.batches(columns_of(about))):
            pieces, early = as_pieces(rows, table, day_end=day_end)
            here.rows += rows.height
            counts.notes[f"{table}: {ENDS_EARLY}"] += early
            known = pieces.join(subjects.to_frame(), on="subject_id", how="semi", maintain_order="left")
            kept = known.filter(pl.col("time").is_not_null())
            here.left_out[NO_PERSON] += pieces["subject_id"].null_count()
            here.left_out[UNKNOWN] += pieces.height - known.height - pieces["subject_id"].null_count()
            here.left_out[UNDATED] += known.height - kept.height
            _lay(kept, shards, scratch, f"{place:02}-{number:06}")
            used = pl.concat([used, concepts_of(kept)]).unique()
    return used


def _lay(pieces: pl.DataFrame, shards: pl.DataFrame, scratch: Path, name: str) -> None:
    placed = pieces.join(shards, on="subject_id", maintain_order="left")
    for (shard,), part in placed.partition_by("shard", as_dict=True, include_key=False).items():
        folder = scratch / f"shard-{shard:04}"
        folder.mkdir(exist_ok=True)
        part.write_parquet(folder / f"{name}.parquet")


def _gather(scratch: Path, data: Path, concepts: Concepts, counts: OmopCounts) -> pl.DataFrame:
    """Every shard's events, sorted; returns the different (code, named)."""
    import polars as pl
    import pyarrow.parquet as pq
    from meds.schema import DataSchema

    codes = []
    for folder in sorted(scratch.glob("shard-*")):
        pieces = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))])
        events = as_events(_at_their_sites(pieces), concepts)
        kept = _without_repeats(events)
        counts.tables.get("visit_detail", TableCounts()).left_out[REPEATED] += events.height - kept.height
        kept = kept.sort("subject_id", "time", nulls_last=False, maintain_order=True)
        codes.append(kept.select("code", "named").unique())
        counts.shards += 1
        counts.subjects += kept["subject_id"].n_unique()
        counts.events += kept.height
        for table, n in kept["omop_table"].value_counts().iter_rows():
            counts.tables[table].events += n
        counts.codes.update({WAYS[way]: n for way, n in kept["way"].drop_nulls().value_counts().iter_rows()})
        pq.write_table(DataSchema.align(kept.drop("way", "named").to_arrow()), data / f"{folder.name.removeprefix('shard-')}.parquet")
        shutil.rmtree(folder)
    if not codes:
        raise InputError("The tables hold no event: no person has a birth date, a trait or a dated row; give the tables of one database.")
    return pl.concat(codes)


def _at_their_sites(pieces: pl.DataFrame) -> pl.DataFrame:
    """A row's own care site, else its visit's."""
    import polars as pl

    key = ["subject_id", "visit_id"]
    visits = pieces.filter((pl.col("omop_table") == "visit_occurrence") & pl.col("care_site_id").is_not_null())
    sites = visits.select(*key, pl.col("care_site_id").alias("visits_site")).unique(key, keep="first", maintain_order=True)
    found = pieces.join(sites, on=key, how="left", maintain_order="left")
    return found.with_columns(pl.coalesce("care_site_id", "visits_site").alias("care_site_id")).drop("visits_site")


def _without_repeats(events: pl.DataFrame) -> pl.DataFrame:
    """Some write every visit once more as its only detail; that is one event."""
    import polars as pl

    key = ["subject_id", "visit_id", "code", "time", "end"]
    visits, details = (events.filter(pl.col("omop_table") == table).select(key) for table in ("visit_occurrence", "visit_detail"))
    again = details.join(visits, on=key, how="semi", nulls_equal=True).unique().with_columns(omop_table=pl.lit("visit_detail"))
    return events.join(again, on=[*key, "omop_table"], how="anti", nulls_equal=True, maintain_order="left")


def _about(file: TableFile | None, name: str | None, source: Path) -> dict[str, Any]:
    """dataset.json: name and release as CDM_SOURCE has them, else the name of the folder or zip."""
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
