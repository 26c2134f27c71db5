"""Recognises facts that need no time: sex, race, ethnicity, and codes that the metadata call
static.

Histories leave out all other events without a time. Otherwise a death, diagnosis or outcome without
a date would be known from the first day. A code is recognised by its vocabulary (`GENDER//F`,
`Sex/M`, `Race/5`, `us-core-ethnicity|…`), or as an OMOP, SNOMED CT or LOINC concept. Birth and
death need a time, whatever the metadata say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PERSON = "person"  # the OMOP table that has only birth, sex, race and ethnicity
HEADS = {
    **dict.fromkeys(
        ("sex", "gender", "birth sex", "birthsex", "sex at birth", "sex assigned at birth", "assigned sex", "biological sex", "legal sex",
         "administrative gender", "administrativegender", "administrative sex", "patient sex", "patient gender", "us core birthsex"),
        "sex",
    ),
    **dict.fromkeys(("race", "detailed race", "patient race", "us core race", "race ethnicity", "race or ethnicity"), "race"),
    **dict.fromkeys(("ethnicity", "ethnic group", "ethnic origin", "patient ethnicity", "us core ethnicity"), "ethnicity"),
}  # fmt: skip
WRAPPERS = frozenset(
    {"demographic", "demographics", "patient", "patients", "person", "static", "subject", "omop concept"}
)
SEXES = {
    **dict.fromkeys(("f", "female", "8532", "248152002"), "female"),
    **dict.fromkeys(("m", "male", "8507", "248153007"), "male"),
}
VOCABULARIES = {
    **dict.fromkeys(("omop", "omop concept", "concept"), "omop"),
    **dict.fromkeys(("snomed", "snomedct", "snomed ct", "snomedct us", "sct"), "snomed"),
    **dict.fromkeys(("loinc", "ln", "lnc"), "loinc"),
}
CONCEPTS = {
    "omop": {
        **dict.fromkeys(("8507", "8532", "8551", "8521", "8570"), "sex"),
        **dict.fromkeys(("8515", "8516", "8522", "8527", "8552", "8557", "8657"), "race"),
        **dict.fromkeys(("38003563", "38003564"), "ethnicity"),
    },
    "snomed": {
        **dict.fromkeys(("734000001", "429019009", "263495000", "248152002", "248153007"), "sex"),
        **dict.fromkeys(("103579009", "415229000"), "race"),
        **dict.fromkeys(("364699009", "186034007"), "ethnicity"),
    },
    "loinc": {
        **dict.fromkeys(("46098-0", "21840-4", "76689-9", "72143-1", "76691-5"), "sex"),
        **dict.fromkeys(("32624-9", "46463-6", "72826-1"), "race"),
        **dict.fromkeys(("69490-1", "80977-2", "69490-1"), "ethnicity"),
    },
}
_DATED = re.compile(r"meds_(?:birth|death)\b|death\b|deceased\b|died\b|expired\b", re.IGNORECASE)
_COLUMN = re.compile(r"(?: source)?(?: concept)?(?: value| id| code| name)?$")  # GENDER_CONCEPT_ID, race_source_value


def fact_of(code: str) -> str | None:
    """Returns `sex`, `race` or `ethnicity`; None for any other code."""
    head, _ = _parts(code)
    return head


def sex_of(code: str, text: str | None = None) -> str | None:
    """Reads `female` or `male` from the code, or from `text` if the code only says "sex".

    Returns None for all else.
    """
    head, value = _parts(code)
    if head != "sex":
        return None
    return SEXES.get(value) or SEXES.get((text or "").strip().lower())


def is_static(code: str, declared: Iterable[str] = ()) -> bool:
    """Tells whether a code needs no time, by itself or as `declared` by the metadata."""
    return not is_dated(code) and (fact_of(code) is not None or code in declared)


def is_dated(code: str) -> bool:
    """Tells whether a code is a birth or death, which is meaningless without a time."""
    return _DATED.match(code) is not None


def _parts(code: str) -> tuple[str | None, str]:
    """Splits a code into (fact or None, value in lower case)."""
    parts = [" ".join(re.split(r"[_\-\s]+", part)).strip() for part in re.split(r"[/|:=^]+", code.lower())]
    while len(parts) > 1 and parts[0] in WRAPPERS and parts[1] not in CONCEPTS["omop"]:
        parts = parts[1:]
    head, value = _COLUMN.sub("", parts[0]), parts[-1] if len(parts) > 1 else ""
    if head in HEADS:
        return HEADS[head], value
    before, _, last = head.rpartition(" ")
    if before in HEADS and HEADS[before] == "sex" and last in SEXES and len(parts) == 1:  # GENDER_F
        return HEADS[before], last
    number = re.split(r"[/|:=^]+", code.lower())[-1].strip()
    vocabularies = (
        [VOCABULARIES[parts[0]]]
        if parts[0] in VOCABULARIES and len(parts) > 1
        else [*CONCEPTS]
        if len(parts) == 1
        else []
    )
    fact = next((CONCEPTS[name][number] for name in vocabularies if number in CONCEPTS[name]), None)
    return fact, number
