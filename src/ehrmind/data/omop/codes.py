"""Maps OMOP concepts to MEDS codes, `VOCABULARY/concept code`.

A code comes from the standard concept, otherwise from the source concept, otherwise from the source
value. Only the vocabulary entries that the records use are kept, so a full vocabulary download
costs time but no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ehrmind.data.omop.events import CONCEPTS
from ehrmind.data.omop.tables import TableFile
from ehrmind.data.omop.values import Kind
from ehrmind.data.timeline import BIRTH, DEATH
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

# Concepts that any OMOP database may use, in case its CONCEPT lacks them: vocabulary, code, name.
COMMON: Mapping[int, tuple[str, str, str]] = {
    8507: ("Gender", "M", "MALE"),
    8532: ("Gender", "F", "FEMALE"),
    8657: ("Race", "1", "American Indian or Alaska Native"),
    8515: ("Race", "2", "Asian"),
    8516: ("Race", "3", "Black or African American"),
    8557: ("Race", "4", "Native Hawaiian or Other Pacific Islander"),
    8527: ("Race", "5", "White"),
    38003563: ("Ethnicity", "Hispanic", "Hispanic or Latino"),
    38003564: ("Ethnicity", "Not Hispanic", "Not Hispanic or Latino"),
    9201: ("Visit", "IP", "Inpatient Visit"),
    9202: ("Visit", "OP", "Outpatient Visit"),
    9203: ("Visit", "ER", "Emergency Room Visit"),
    262: ("Visit", "ERIP", "Emergency Room and Inpatient Visit"),
}
OPERATORS = {4171756: "<", 4171754: "<=", 4172703: "=", 4171755: ">=", 4172704: ">"}
WAYS = ("by their concept", "by their source concept", "by their source value", "by a number only")


@dataclass(frozen=True, slots=True)
class Concepts:
    """Concepts in use: `known` by id, with code and name, and the codes of their `parents`."""

    known: pl.DataFrame
    parents: pl.DataFrame


def read_concepts(used: pl.Series, tables: Mapping[str, TableFile]) -> Concepts:
    """Reads the `used` concepts and their parents, one step up: `Maps to`, otherwise `Is a`.

    Raises InputError, also if CONCEPT has none of them.
    """
    import polars as pl

    links = pl.DataFrame(schema={"concept_id": pl.Int64, "parent": pl.Int64, "relation": pl.String})
    if file := tables.get("concept_relationship"):
        file.need("relationship_id")
        wanted: dict[str, tuple[str, Kind]] = {
            "concept_id": ("concept_id_1", "whole"),
            "parent": ("concept_id_2", "whole"),
            "relation": ("relationship_id", "text"),
        }
        valid = (
            pl.col("relation").is_in(["Maps to", "Is a"])
            & pl.col("invalid").is_null()
            & (pl.col("concept_id") != pl.col("parent"))
        )
        ours = used.alias("concept_id").to_frame()
        for batch in file.batches({**wanted, "invalid": ("invalid_reason", "word")}):
            links = pl.concat([links, batch.filter(valid).join(ours, on="concept_id", how="semi").drop("invalid")])
    rows = [(number, vocabulary, code, name) for number, (vocabulary, code, name) in COMMON.items()]
    found = [
        pl.DataFrame(
            schema={"concept_id": pl.Int64, "vocabulary": pl.String, "concept_code": pl.String, "name": pl.String}
        )
    ]
    if file := tables.get("concept"):
        for column in ("concept_id", "concept_name", "vocabulary_id", "concept_code"):
            file.need(column)
        ours = pl.concat([used, links["parent"]]).unique().alias("concept_id").to_frame()
        texts: dict[str, tuple[str, Kind]] = {
            "vocabulary": ("vocabulary_id", "text"),
            "concept_code": ("concept_code", "code"),
            "name": ("concept_name", "text"),
        }
        for batch in file.batches({"concept_id": ("concept_id", "whole"), **texts}):
            found.append(batch.join(ours, on="concept_id", how="semi"))
        named = used.filter((used != 0) & ~used.is_in(list(COMMON)))
        if len(named) and not sum(batch.height for batch in found):
            raise InputError(
                f"{file.name} has none of the {len(named):,} concepts that the tables name, so its concept_id is"
                " written otherwise or it is of another vocabulary; give this database's, or leave it out."
            )
    known = pl.concat([*found, pl.DataFrame(rows, found[0].schema, orient="row")])
    known = known.filter(
        (pl.col("concept_id") != 0) & pl.col("vocabulary").is_not_null() & pl.col("concept_code").is_not_null()
    )
    known = known.unique("concept_id", keep="first", maintain_order=True)
    known = known.select(
        "concept_id", pl.format("{}/{}", "vocabulary", "concept_code").alias("code"), "concept_code", "name"
    )
    return Concepts(known, _parents(links, known))


def _parents(links: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    mapped = (pl.col("relation") == "Maps to").any().over("concept_id")
    codes = known.select(pl.col("concept_id").alias("parent"), pl.col("code").alias("parent_codes"))
    kept = links.join(codes, on="parent").filter((pl.col("relation") == "Maps to") == mapped)
    return kept.group_by("concept_id").agg(pl.col("parent_codes").unique().sort())


def as_events(pieces: pl.DataFrame, concepts: Concepts) -> pl.DataFrame:
    """Makes events with MEDS's columns and ours, and with `way` and `named`.

    `way` is the index in `WAYS` of how the code was found. `named` is the column of the concept
    that names the code. Both are null for MEDS's own codes.
    """
    import polars as pl

    number, code, concept_code, name = (
        concepts.known[column] for column in ("concept_id", "code", "concept_code", "name")
    )

    def known(column: str, values: pl.Series) -> pl.Expr:
        return pl.col(column).replace_strict(number, values, default=None, return_dtype=pl.String)

    def or_number(column: str) -> pl.Expr:
        return pl.when(pl.col(column).fill_null(0) != 0).then(pl.format("OMOP_CONCEPT/{}", column))

    sign = pl.col("operator").replace_strict(OPERATORS, default=None, return_dtype=pl.String)
    sign = pl.coalesce(sign, known("operator", name), or_number("operator"))
    compared = pl.format("{} {}", sign, pl.col("number").cast(pl.String).str.strip_suffix(".0"))
    written = pl.coalesce("text", known("value_concept", name), "value_source", or_number("value_concept"))
    text = pl.when(pl.col("number").is_null()).then(written).when(sign != "=").then(compared)
    unit = pl.coalesce(known("unit_concept", concept_code), "unit_source", or_number("unit_concept"))
    by_source_value = pl.format("{}/{}", "prefix", "source_value")
    ways = (
        known("concept", code),
        known("source_concept", code),
        by_source_value,
        pl.format("OMOP_CONCEPT/{}", pl.col("concept").fill_null(0)),
    )
    way = pl.coalesce([pl.when(found.is_not_null()).then(pl.lit(place)) for place, found in enumerate(ways)])
    coded = pieces.with_columns(
        pl.coalesce(
            pl.when(pl.col("omop_table") == "note").then(pl.format("NOTE/{}", known("concept", concept_code))), *ways
        ).alias("code"),
        pl.when(pl.col("fixed").is_null()).then(way).alias("way"),
    )
    return coded.select(
        "subject_id",
        "time",
        pl.coalesce("fixed", "code").alias("code"),
        pl.col("number").cast(pl.Float32).alias("numeric_value"),
        text.alias("text_value"),
        pl.when(pl.col("number").is_not_null() | text.is_not_null()).then(unit).alias("unit"),
        "end",
        "omop_table",
        "visit_id",
        "care_site_id",
        "way",
        pl.when(pl.col("way") == 0).then("concept").when(pl.col("way") == 1).then("source_concept").alias("named"),
    )


def code_rows(codes: pl.DataFrame, concepts: Concepts) -> pl.DataFrame:
    """Makes the rows of MEDS's codes.parquet: each code once, with name and parents."""
    import polars as pl

    own = {BIRTH: "birth", DEATH: "death"}
    return (
        codes.sort("code", "named", nulls_last=True)
        .unique("code", keep="first", maintain_order=True)
        .join(
            concepts.known.select(pl.col("concept_id").alias("named"), "name"),
            on="named",
            how="left",
            maintain_order="left",
        )
        .join(concepts.parents.rename({"concept_id": "named"}), on="named", how="left", maintain_order="left")
        .select(
            "code",
            pl.coalesce("name", pl.col("code").replace_strict(own, default=None, return_dtype=pl.String)).alias(
                "description"
            ),
            pl.col("parent_codes").fill_null([]),
        )
    )


def concepts_of(pieces: pl.DataFrame) -> pl.Series:
    """Lists the ids of all concepts in the pieces, each once."""
    import polars as pl

    return pl.concat([pieces[column].unique() for column in CONCEPTS]).unique().drop_nulls()
