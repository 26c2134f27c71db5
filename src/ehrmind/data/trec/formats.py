"""Reads the formats of trial records.

They are ClinicalTrials.gov's XML and API v2 JSON, JSON lines with TrialGPT's columns, and parquet
of a registry table.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ehrmind.data.bounds import text_batches
from ehrmind.data.trec.criteria import Criteria, is_mixed, split_criteria, statements
from ehrmind.data.trec.keys import trial_key
from ehrmind.data.trec.text import one_line, plain
from ehrmind.data.trec.xml import elements, text_of, texts_of
from ehrmind.documents import json_value
from ehrmind.types import InputError

_NO_LIMIT = re.compile(r"n/?a\b.*|none|null|nan|no limit|not applicable|not specified|-+|\\n", re.IGNORECASE)
_CRITERIA = ("inclusion_criteria", "exclusion_criteria", "criteria", "eligibility_criteria")


@dataclass(frozen=True, slots=True)
class Trial:
    """Registry record of who may take part in a trial.

    Ages and sex are in the registry's words, "" if it has none. `aliases` are former numbers of the
    trial.
    """

    id: str
    title: str
    summary: str
    conditions: tuple[str, ...]
    interventions: tuple[str, ...]
    sex: str
    minimum_age: str
    maximum_age: str
    criteria: Criteria
    aliases: tuple[str, ...] = ()


class NoRecord(NamedTuple):
    """Result of a reader that is no record: an unread file, or a page of the registry's API.

    A page says whether more pages follow.
    """

    what: Literal["unread", "page with a next one", "last page"]
    name: str


class Content(NamedTuple):
    """Decompressed bytes of a file, and its name for messages."""

    name: str
    raw: bytes


# A reader yields a Trial for a wanted record and None for any other, so that rows are counted.
Found = Trial | NoRecord | None
Reader = Callable[[Content, Collection[str]], Iterator[Found]]


def reader_of(name: str) -> Reader | None:
    """Returns the reader for a file's ending, ignoring .gz; None for other files."""
    ending = name.lower().removesuffix(".gz")
    return next((reader for known, reader in READERS.items() if ending.endswith(known)), None)


def _from_xml(file: Content, wanted: Collection[str]) -> Iterator[Found]:
    del wanted
    name = file.name
    found = False
    for study in elements(file.raw, name, "clinical_study"):
        found = True
        yield _trial(
            name,
            text_of(study, "id_info/nct_id"),
            text_of(study, "brief_title") or text_of(study, "official_title"),
            text_of(study, "brief_summary/textblock"),
            texts_of(study, "condition"),
            texts_of(study, "intervention/intervention_name"),
            (
                text_of(study, "eligibility/gender"),
                text_of(study, "eligibility/minimum_age"),
                text_of(study, "eligibility/maximum_age"),
            ),
            split_criteria(text_of(study, "eligibility/criteria/textblock") or text_of(study, "eligibility/criteria")),
            texts_of(study, "id_info/nct_alias"),
        )
    if not found:
        raise InputError(f"{name} is no ClinicalTrials.gov record: it has no <clinical_study>.")


def _from_json(file: Content, wanted: Collection[str]) -> Iterator[Found]:
    """Reads JSON of API version 2: one study, a list of studies, or a page of them."""
    name = file.name
    tree = json_value(file.raw, name)
    if isinstance(tree, dict) and "FullStudiesResponse" in tree:
        raise InputError(f"{name} is of the registry's old API; download the studies as JSON from API version 2.")
    if isinstance(tree, dict) and "studies" not in tree and not {"protocolSection", "nct_id", "_id"} & tree.keys():
        yield NoRecord("unread", name)
        return
    studies = tree.get("studies", [tree]) if isinstance(tree, dict) else tree
    if not isinstance(studies, list):
        raise InputError(f"{name} holds no list of studies.")
    for number, study in enumerate(studies, start=1):
        yield _from_row(study, f"{name}, study {number}", wanted)
    if isinstance(tree, dict) and "studies" in tree:
        yield NoRecord("page with a next one" if tree.get("nextPageToken") else "last page", name)


def _from_jsonl(file: Content, wanted: Collection[str]) -> Iterator[Found]:
    # TextIOWrapper does not end a line at U+2028.
    lines = io.TextIOWrapper(io.BytesIO(file.raw), encoding="utf-8-sig")
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _from_row(json_value(line, f"{file.name}, row {number}"), f"{file.name}, row {number}", wanted)
    except UnicodeDecodeError:
        raise InputError(f"{file.name} is not UTF-8 text{_where(file.raw)}; save it as UTF-8.") from None


def _where(raw: bytes) -> str:
    try:
        raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f" (byte {error.start:,})"
    return ""


def _from_row(row: Any, name: str, wanted: Collection[str]) -> Trial | None:
    if not isinstance(row, dict):
        raise InputError(f"{name}: not a JSON object.")
    return _from_api(row, name) if "protocolSection" in row else _from_columns(row, name, wanted)


def _from_api(study: dict[str, Any], name: str) -> Trial:
    """Reads a study of the registry's API, version 2."""

    def at(*keys: str) -> Any:
        node: Any = study["protocolSection"]
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def text(*keys: str) -> str:
        return _text(at(*keys), f"{name}, '{keys[-1]}'")

    interventions = at("armsInterventionsModule", "interventions")
    named = (
        [item.get("name") for item in interventions if isinstance(item, dict)]
        if isinstance(interventions, list)
        else None
    )
    eligibility = ("sex", "minimumAge", "maximumAge")
    return _trial(
        name,
        text("identificationModule", "nctId"),
        text("identificationModule", "briefTitle") or text("identificationModule", "officialTitle"),
        text("descriptionModule", "briefSummary"),
        _list(at("conditionsModule", "conditions"), f"{name}, 'conditions'"),
        _list(named, f"{name}, 'interventions'"),
        tuple(text("eligibilityModule", key) for key in eligibility),
        split_criteria(text("eligibilityModule", "eligibilityCriteria")),
        _list(at("identificationModule", "nctIdAliases"), f"{name}, 'nctIdAliases'"),
    )


def _from_table(file: Content, wanted: Collection[str]) -> Iterator[Found]:
    number = 0
    for frame in text_batches(file.raw, file.name):
        for row in frame.iter_rows(named=True):
            number += 1
            yield _from_columns(row, f"{file.name}, row {number}", wanted)


def _from_columns(row: dict[str, Any], name: str, wanted: Collection[str]) -> Trial | None:
    """Reads a record with the column names of a registry table or of TrialGPT's parsed corpus."""

    def text(*columns: str) -> str:
        return next(
            (found for column in columns if (found := _text(row.get(column), f"{name}, column '{column}'"))), ""
        )

    number = text("nct_id", "_id")
    if not number:
        raise InputError(f"{name}: no NCT number; a record needs 'nct_id', '_id' or 'protocolSection'.")
    if trial_key(number) not in wanted and trial_key(number):
        return None
    if not set(_CRITERIA) & row.keys():
        raise InputError(
            f"{name}: no column of criteria; a record needs 'criteria', or 'inclusion_criteria' and"
            " 'exclusion_criteria'."
        )
    if "inclusion_criteria" in row or "exclusion_criteria" in row:
        criteria = _already_split(text("inclusion_criteria"), text("exclusion_criteria"))
    else:
        criteria = split_criteria(text("criteria", "eligibility_criteria"))
    return _trial(
        name,
        number,
        text("brief_title", "official_title"),
        text("brief_summary"),
        _list(row.get("conditions") or row.get("diseases_list"), f"{name}, column 'conditions'"),
        _list(row.get("interventions") or row.get("drugs_list"), f"{name}, column 'interventions'"),
        (text("gender", "sex"), text("minimum_age"), text("maximum_age")),
        criteria,
    )


def _already_split(inclusion: str, exclusion: str) -> Criteria:
    """Checks criteria that another parser has split into two columns.

    Headings inside the texts take precedence over the columns. Without any exclusion text the
    parser may have found no headings at all, so only our own split counts.
    """
    first = split_criteria(inclusion)
    if not exclusion:
        return first if first.split or first.mixed else Criteria(other=tuple(statements(plain(inclusion))))
    second = split_criteria(exclusion)
    found = Criteria(
        (*first.other, *first.inclusion, *second.inclusion), (*first.exclusion, *second.other, *second.exclusion)
    )
    if first.mixed or second.mixed or is_mixed(found):
        parts = [("Inclusion criteria:", inclusion), ("Exclusion criteria:", exclusion)]
        whole = tuple(line for heading, text in parts for line in (heading, *statements(plain(text))))
        return Criteria(other=whole, mixed=True)
    return found


def _trial(
    name: str,
    number: str,
    title: str,
    summary: str,
    conditions: Sequence[str],
    interventions: Sequence[str],
    limits: Sequence[str],
    criteria: Criteria,
    aliases: Sequence[str] = (),
) -> Trial:
    if not trial_key(number):
        raise InputError(f"{name}: the trial's number is not of the form NCT01234567.")
    sex, youngest, oldest = ("" if _NO_LIMIT.fullmatch(limit.strip()) else one_line(limit) for limit in limits)
    return Trial(
        trial_key(number),
        one_line(title),
        one_line(summary),
        tuple(map(one_line, conditions)),
        tuple(map(one_line, interventions)),
        sex,
        youngest,
        oldest,
        criteria,
        tuple(filter(None, map(trial_key, aliases))),
    )


def _text(value: Any, where: str) -> str:
    """Returns a text, "" for a missing one.

    Raises InputError for a number: its meaning as an age or title would be a guess.
    """
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise InputError(
            f"{where}: {type(value).__name__} where a text is wanted, such as the registry's '18 Years' for an age."
        )
    return value


def _list(value: Any, where: str) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in re.split(r"[|;]", value) if part.strip()]
    if isinstance(value, list):
        return [text for item in value if (text := _text(item, where)).strip()]
    return [_text(value, where)] if value else []


READERS: dict[str, Reader] = {
    ".xml": _from_xml,
    ".jsonl": _from_jsonl,
    ".ndjson": _from_jsonl,
    ".json": _from_json,
    ".parquet": _from_table,
}
FORMS = (*READERS, ".zip")
