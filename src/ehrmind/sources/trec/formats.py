"""The forms of trial records: ClinicalTrials.gov XML, singly or zipped, and API v2 JSON; parsed JSON lines (TrialGPT's columns); parquet of
a registry table."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrmind.sources.files import MAX_BYTES, read_bytes, read_lines
from ehrmind.sources.trec.criteria import Criteria, split_criteria, statements
from ehrmind.sources.trec.xml import parse_xml, text_of, texts_of
from ehrmind.types import InputError

_NCT = re.compile(r"NCT[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Trial:
    """What a registry says about who may take part. Ages and sex are the registry's own words, "" where it has none."""

    id: str
    title: str
    summary: str
    conditions: tuple[str, ...]
    interventions: tuple[str, ...]
    sex: str
    minimum_age: str
    maximum_age: str
    criteria: Criteria


# A reader yields a Trial for every wanted record and None for each of the others, so that rows can be counted.
Reader = Callable[[Path, Collection[str]], Iterator[Trial | None]]


def reader_of(path: Path) -> Reader:
    plain = path.name.removesuffix(".gz")
    for ending, reader in READERS.items():
        if plain.endswith(ending):
            return reader
    raise InputError(f"{path} has an ending that is not known here: give trial records as {', '.join(READERS)}, or a folder of .xml files.")


def from_files(files: Sequence[Path], wanted: Collection[str]) -> Iterator[Trial | None]:
    for file in files:
        name = _NCT.search(file.name)
        yield from [None] if name and name[0] not in wanted else _from_xml(file, wanted)


def _from_zip(path: Path, wanted: Collection[str]) -> Iterator[Trial | None]:
    """The registry's XML files in one archive, as TREC gives them out; members are read one at a time and never unpacked to disk."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"There is no file at {path}.") from None
    except (zipfile.BadZipFile, OSError):
        raise InputError(f"{path} is not a whole zip archive; fetch it again.") from None
    with archive:
        for member in archive.infolist():
            name = _NCT.search(member.filename)
            if member.is_dir() or not member.filename.endswith(".xml") or name is None:
                continue
            if name[0] not in wanted:
                yield None
                continue
            if member.file_size > MAX_BYTES:
                raise InputError(f"{path}, {name[0]}.xml: larger than {MAX_BYTES >> 20} MiB; no trial record is.")
            try:
                content = archive.read(member)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError):
                raise InputError(f"{path}, {name[0]}.xml: cannot be read from the archive; fetch it again.") from None
            yield _from_element(content, f"{path}, {name[0]}.xml")


def _from_xml(path: Path, wanted: Collection[str]) -> Iterator[Trial | None]:
    del wanted
    yield _from_element(read_bytes(path)[0], str(path))


def _from_element(content: bytes, name: str) -> Trial:
    root = parse_xml(content, name)
    study = root if root.tag == "clinical_study" else root.find(".//clinical_study")
    if study is None:
        raise InputError(f"{name} is no ClinicalTrials.gov record: it has no <clinical_study>.")
    return _trial(
        name,
        text_of(study, "id_info/nct_id"),
        text_of(study, "brief_title") or text_of(study, "official_title"),
        text_of(study, "brief_summary/textblock"),
        texts_of(study, "condition"),
        texts_of(study, "intervention/intervention_name"),
        (text_of(study, "eligibility/gender"), text_of(study, "eligibility/minimum_age"), text_of(study, "eligibility/maximum_age")),
        split_criteria(text_of(study, "eligibility/criteria/textblock")),
    )


def _from_json(path: Path, wanted: Collection[str]) -> Iterator[Trial | None]:
    """API v2: one study, a list of studies, or a page of them."""
    try:
        tree = json.loads(read_bytes(path)[0])
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON.") from None
    studies = tree.get("studies", [tree]) if isinstance(tree, dict) else tree
    if not isinstance(studies, list):
        raise InputError(f"{path} holds no list of studies.")
    for number, study in enumerate(studies, start=1):
        yield _from_row(study, f"{path}, study {number}", wanted)


def _from_jsonl(path: Path, wanted: Collection[str]) -> Iterator[Trial | None]:
    for number, line in enumerate(read_lines(path)[0], start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(f"{path}, row {number}: not valid JSON.") from None
            yield _from_row(row, f"{path}, row {number}", wanted)


def _from_row(row: Any, name: str, wanted: Collection[str]) -> Trial | None:
    if not isinstance(row, dict):
        raise InputError(f"{name}: not a JSON object.")
    return _from_api(row, name) if "protocolSection" in row else _from_columns(row, name, wanted)


def _from_api(study: dict[str, Any], name: str) -> Trial:
    """A study of the registry's API, version 2."""

    def at(*keys: str) -> Any:
        node: Any = study["protocolSection"]
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def texts(values: Any) -> list[str]:
        return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []

    interventions = at("armsInterventionsModule", "interventions")
    named = [item.get("name") for item in interventions if isinstance(item, dict)] if isinstance(interventions, list) else []
    eligibility = ("sex", "minimumAge", "maximumAge")
    return _trial(
        name,
        _text(at("identificationModule", "nctId")),
        _text(at("identificationModule", "briefTitle")) or _text(at("identificationModule", "officialTitle")),
        _text(at("descriptionModule", "briefSummary")),
        texts(at("conditionsModule", "conditions")),
        texts(named),
        tuple(_text(at("eligibilityModule", key)) for key in eligibility),
        split_criteria(_text(at("eligibilityModule", "eligibilityCriteria"))),
    )


def _from_table(path: Path, wanted: Collection[str]) -> Iterator[Trial | None]:
    import polars as pl

    try:
        frame = pl.read_parquet(io.BytesIO(read_bytes(path)[0]))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise InputError(f"{path} is not a parquet file, or a broken one; fetch or write it again.") from None
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        yield _from_columns(row, f"{path}, row {number}", wanted)


def _from_columns(row: dict[str, Any], name: str, wanted: Collection[str]) -> Trial | None:
    """One record under the column names of a registry table or of TrialGPT's parsed corpus."""
    number = _text(row.get("nct_id") or row.get("_id"))
    if not number:
        raise InputError(f"{name}: no NCT number; a record needs 'nct_id', '_id' or 'protocolSection'.")
    if number not in wanted:
        return None
    if "inclusion_criteria" in row or "exclusion_criteria" in row:
        criteria = _already_split(_text(row.get("inclusion_criteria")), _text(row.get("exclusion_criteria")))
    else:
        criteria = split_criteria(_text(row.get("criteria")))
    return _trial(
        name,
        number,
        _text(row.get("brief_title")) or _text(row.get("official_title")),
        _text(row.get("brief_summary")),
        _list(row.get("conditions") or row.get("diseases_list")),
        _list(row.get("interventions") or row.get("drugs_list")),
        (_text(row.get("gender")), _text(row.get("minimum_age")), _text(row.get("maximum_age"))),
        criteria,
    )


def _already_split(inclusion: str, exclusion: str) -> Criteria:
    """What another parser put under two headings. Headings inside its texts are believed over its columns; with nothing under exclusion
    it may have found no heading at all, so then only ours count."""
    if not exclusion:
        found = split_criteria(inclusion)
        return found if found.split else Criteria(other=tuple(statements(inclusion)))
    first, second = split_criteria(inclusion), split_criteria(exclusion)
    return Criteria((*first.other, *first.inclusion, *second.inclusion), (*first.exclusion, *second.other, *second.exclusion))


def _trial(
    name: str,
    number: str,
    title: str,
    summary: str,
    conditions: Sequence[str],
    interventions: Sequence[str],
    limits: Sequence[str],
    criteria: Criteria,
) -> Trial:
    if not _NCT.fullmatch(number):
        raise InputError(f"{name}: the trial's number is not of the form NCT01234567.")
    sex, youngest, oldest = ("" if limit.strip().upper() in ("N/A", "NONE") else limit.strip() for limit in limits)
    return Trial(
        number,
        _line(title),
        _line(summary),
        tuple(map(_line, conditions)),
        tuple(map(_line, interventions)),
        sex,
        youngest,
        oldest,
        criteria,
    )


def _line(text: str) -> str:
    return " ".join(text.replace("~", " ").split())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in re.split(r"[|;]", value) if part.strip()]
    return [item for item in value if isinstance(item, str) and item.strip()] if isinstance(value, list) else []


READERS: dict[str, Reader] = {
    ".xml": _from_xml,
    ".jsonl": _from_jsonl,
    ".json": _from_json,
    ".parquet": _from_table,
    ".zip": _from_zip,
}
