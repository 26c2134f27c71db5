"""Maps codes to kinds of events and to names, by the vocabularies that MEDS, EHRSHOT and OMOP
exports use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ehrmind.data.static_facts import sex_of
from ehrmind.prompts.reference_ranges import is_unread, limits

if TYPE_CHECKING:
    import polars as pl

KINDS = ("diagnoses", "procedures", "labs", "drugs", "visits", "vitals", "demographics", "notes", "other")
# The start of a code, in lower case, up to its first separator. A vocabulary that mixes kinds is
# listed where most of its codes belong.
VOCABULARIES = {
    "diagnoses": ("snomed", "icd10cm", "icd9cm", "icd10", "icd9", "diagnosis", "condition", "conditions", "drg"),
    "procedures": ("icd10pcs", "icd9proc", "cpt4", "cpt", "hcpcs", "procedure", "procedures", "device"),
    "labs": ("loinc", "lab", "labs", "measurement", "microbiology"),
    "drugs": (
        "rxnorm", "rxnorm extension", "ndc", "atc", "cvx", "medication", "drug", "infusion_start", "infusion_end",
        "immunization",
    ),
    "visits": (
        "visit", "encounter", "hospital_admission", "hospital_discharge", "icu_admission", "icu_discharge",
        "ed_registration", "ed_out", "transfer_to", "admission", "discharge", "cms place of service",
    ),
    "vitals": (
        "vital", "vitals", "blood pressure", "weight", "height", "bmi", "heart rate", "temperature",
        "subject_weight_at_infusion", "subject_fluid_output",
    ),
    "demographics": (
        "gender", "race", "ethnicity", "meds_birth", "meds_death", "sex", "language", "marital_status", "insurance",
    ),
    "notes": ("note", "notes", "stanford_note", "document"),
}  # fmt: skip
_KIND = {vocabulary: kind for kind, vocabularies in VOCABULARIES.items() for vocabulary in vocabularies}
TABLES = {
    "condition_occurrence": "diagnoses",
    "procedure_occurrence": "procedures",
    "device_exposure": "procedures",
    "measurement": "labs",
    "drug_exposure": "drugs",
    "visit_occurrence": "visits",
    "visit_detail": "visits",
    "observation": "other",
    "person": "demographics",
    "death": "other",
    "note": "notes",
}
SPOKEN = {
    "GENDER//F": "female",
    "GENDER//M": "male",
    "Gender/F": "female",
    "Gender/M": "male",
    "MEDS_DEATH": "death",
    "MEDS_BIRTH": "birth",
}


def describe(whats: pl.DataFrame, names: Mapping[str, str], parents: Mapping[str, str]) -> pl.DataFrame:
    """Describes every row of `Timeline.whats`.

    Columns: kind, name, unit, the limits of common values (low, high), and whether there are limits
    but none in this unit (unread). The name is the data set's own, or else the code's own words.
    `parents` maps codes that are not LOINC to LOINC codes.
    """
    import polars as pl

    rows = [
        (
            kind_of(code, table),
            SPOKEN.get(code) or names.get(code) or sex_of(code) or _words(code),
            unit,
            *limits(code, unit, parents),
            is_unread(code, unit, parents),
        )
        for code, table, unit in whats.select("code", "table", "unit").iter_rows()
    ]
    schema = {
        "kind": pl.String,
        "name": pl.String,
        "unit": pl.String,
        "low": pl.Float32,
        "high": pl.Float32,
        "unread": pl.Boolean,
    }
    return pl.DataFrame(rows, schema, orient="row")


def kind_of(code: str, table: str | None = None) -> str:
    """Returns the kind by the OMOP table if it is known, or else by the code's vocabulary."""
    if table is not None and table in TABLES:
        return TABLES[table]
    vocabulary = re.split(r"/|//", code.lower(), maxsplit=1)[0].strip()
    return _KIND.get(vocabulary) or next(
        (kind for name, kind in _KIND.items() if vocabulary.startswith(f"{name} ")), "other"
    )


def _words(code: str) -> str:
    """Writes `HOSPITAL_ADMISSION//URGENT//TRANSFER` as `hospital admission urgent transfer`. A code
    like `LOINC/718-7` stays as it is."""
    return " ".join(part.replace("_", " ").lower() for part in code.split("//") if part) if "//" in code else code
