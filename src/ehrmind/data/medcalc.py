"""Makes Cases of MedCalc-Bench rows (Khandekar et al. 2024, arXiv 2406.12036).

Reads the v1.0, v1.2 and Verified releases in any table format. Also reads the physicians'
corrections of v1.0, which have only `Unique ID`, `Calculator Name`, question, note, answer and
limits. A calculator's id, category, kind of answer and unit come from our catalogue, by its name.
Every row is kept, left out for a counted reason, or refused with file, row and column. Messages
never quote a note, a question, entities or an explanation.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ehrmind.calculators.catalogue import CATALOGUE, CATEGORY_SPELLINGS, Entry, entry_by_name, unit_asked
from ehrmind.data.answers import ANSWER, LOWER, UPPER, MisfitError, abstention, truth
from ehrmind.data.cases import Counts, FileRead
from ehrmind.data.cells import (
    Column,
    Decimal,
    TypedNumber,
    decimal_of,
    decimal_readings,
    is_null,
    is_null_text,
    is_number,
)
from ehrmind.data.demographics import age_and_sex
from ehrmind.data.files import Table, read_table, stem
from ehrmind.data.headers import there
from ehrmind.data.hub import fetch, is_hub_id
from ehrmind.data.identity import record_key, short_id
from ehrmind.data.map_files import each
from ehrmind.data.splits import note_group
from ehrmind.labels import label_key
from ehrmind.types import Case, InputError, Split

NAME, NOTE, QUESTION = "Calculator Name", "Patient Note", "Question"
ENTITIES, EXPLANATION = "Relevant Entities", "Ground Truth Explanation"
ROW_IDS = ("Row Number", "Unique ID")
REQUIRED = (NAME, NOTE, QUESTION, ANSWER, LOWER, UPPER)
SINGLE = "'"
MAX_ENTITIES = 20_000  # characters; the longest published ones have 1,292
_TRUE, _FALSE = {"true", "1"}, {"false", "0"}
_ODD_NUMBER, _PLAIN_NUMBER = (
    re.compile(r"[0-9](?:_|[xXoObBjJ])"),
    re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
)
_AS_THEY_ARE = {
    "Category": "category",
    "Output Type": "output_type",
    "Note ID": "note_id",
    "Note Type": "note_type",
    "source": "source",
}


@dataclass(frozen=True, slots=True)
class _Located:
    """File to read. `label` is the user's name for it, `name` the one in provenance."""

    path: Path
    label: str
    name: str
    hub: str | None = None
    commit: str | None = None


def read_medcalc(
    files: Sequence[str | Path] | str | Path, *, split: Split, online: bool = False, revision: str | None = None
) -> tuple[list[Case], Counts]:
    """Returns Cases of all rows that have an answer, in the files' order, and counts of all rows.

    An entry of `files` is a path, or a hub data set's id (`owner/name`) if there is no such path;
    its files of this split are read. `online` allows downloads, `revision` pins the data set.
    Raises InputError.
    """
    entries = [files] if isinstance(files, str | Path) else list(files)
    if not entries:
        raise InputError("No file is given; name at least one MedCalc-Bench file.")
    cases: list[Case] = []
    left_out: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    read: dict[str, FileRead] = {}
    all_located = [found for entry in entries for found in _locate(entry, split, online, revision)]
    for located, found in zip(all_located, each(partial(_read, split), all_located), strict=True):
        if found.file.sha256 in read:
            raise InputError(
                f"{located.label} has the same content as {read[found.file.sha256].name}; give each file once."
            )
        read[found.file.sha256] = found.file
        cases += found.cases
        left_out.update(found.left_out)
        notes.update(found.notes)
    by_stratum = dict(sorted(Counter(case.stratum for case in cases).items()))
    return cases, Counts(len(cases), dict(left_out), dict(notes), by_stratum, tuple(read.values()))


def _locate(entry: str | Path, split: Split, online: bool, revision: str | None) -> list[_Located]:
    text = str(entry)
    if not Path(entry).exists() and isinstance(entry, str) and is_hub_id(text):
        found = fetch(text, split=split, online=online, revision=revision)
        return [_Located(file.path, f"{file.hub}:{file.name}", file.name, file.hub, file.commit) for file in found]
    return [_Located(Path(entry), text, Path(entry).name)]


@dataclass(frozen=True, slots=True)
class _Read:
    """Results of reading one file."""

    file: FileRead
    cases: list[Case]
    left_out: Counter[str]
    notes: Counter[str]


def _read(split: Split, located: _Located) -> _Read:
    table = read_table(located.path)
    id_column = _check_columns(table, located.label)
    cases: list[Case] = []
    left_out: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    misfits: list[str] = []
    rows_by_id: dict[str, int] = {}
    decimals = decimal_marks(table, located.label)
    for number, row in enumerate(table.rows, start=1):
        try:
            row_id = _row_id(row, id_column)
            if (key := record_key(row_id)) in rows_by_id:
                raise MisfitError(id_column, f"it is also row {rows_by_id[key]}'s; every row needs its own")
            rows_by_id[key] = number
            reason, case = _case(row, (number, row_id), table, located, split, decimals)
        except MisfitError as misfit:
            where = f"{located.label}, row {number}"
            label = (
                f" ({id_column} {row_id})"
                if misfit.column != id_column and row_id.isdecimal() and len(row_id) < 8
                else ""
            )
            misfits.append(f"{where}{label}, column '{misfit.column}': {misfit.problem}")
            continue
        if case is None:
            left_out[reason] += 1
            continue
        notes.update(_notes(row, case))
        cases.append(case)
    if misfits:
        more = f" ({len(misfits) - 1} more rows of this file do not fit either)" if misfits[1:] else ""
        raise InputError(f"{misfits[0]}; correct the row or take it out of the file{more}.")
    notes.update(
        {
            f"'{column}' is read with a decimal comma": len(table.rows)
            for column in decimals
            if decimals[column] == "comma"
        }
    )
    notes.update(table.notes)
    return _Read(
        FileRead(located.name, table.sha256, len(table.rows), located.hub, located.commit), cases, left_out, notes
    )


def _check_columns(table: Table, label: str) -> str:
    """Finds the column of row ids. Raises InputError if a column of all releases is missing."""
    missing = [f"'{column}'" for column in REQUIRED if column not in table.columns]
    id_columns = [column for column in ROW_IDS if column in table.columns]
    if not id_columns:
        missing.insert(0, "'Row Number' or 'Unique ID'")
    if missing:
        raise InputError(
            f"{label} is not a MedCalc-Bench file: it has no column {', '.join(missing)};"
            f" {there(table.columns, quote=SINGLE)}."
        )
    return id_columns[0]


def decimal_marks(table: Table, label: str) -> dict[str, Decimal]:
    """Decides the decimal marks of answers and limits.

    The mark is the benchmark's point if any text cell of the column reads as a number with a point.
    Otherwise the cells decide. Cells that are no numbers are ignored here: they are answers of
    other kinds, or errors of their rows.
    """
    marks: dict[str, Decimal] = {}
    for column in (ANSWER, LOWER, UPPER):
        cells = [row[column] if is_number(row[column]) else "" for row in table.rows]
        has_point = any(
            "." in cell and "point" in decimal_readings(cell) for cell in cells if not isinstance(cell, TypedNumber)
        )
        asked = Column(label, column, cells, table.semicolons, "write the column with decimal points")
        marks[column] = "point" if has_point else decimal_of(asked)
    return marks


def _case(
    row: Mapping[str, str],
    named: tuple[int, str],
    table: Table,
    located: _Located,
    split: Split,
    decimals: Mapping[str, Decimal],
) -> tuple[str, Case | None]:
    """Checks a row; returns (reason for leaving it out, None) or ("", the Case).

    `named` is the row's number in the file and its id.
    """
    number, row_id = named
    calculator = _calculator(row)
    _category(row)
    for column in (NOTE, QUESTION):
        if is_null_text(row[column]):
            raise MisfitError(column, "it is empty")
    if ENTITIES in row:
        _check_entities(row[ENTITIES])
    # A TypedNumber stays a TypedNumber.
    answer, lower, upper = (type(row[column])(row[column].strip()) for column in (ANSWER, LOWER, UPPER))
    if reason := abstention(answer, lower, upper):
        return reason, None
    provenance: dict[str, Any] = {
        "file": located.name,
        "sha256": table.sha256,
        "row": int(row_id) if row_id.isdecimal() else row_id,
    }
    if located.hub:
        provenance |= {"hub": located.hub, "revision": located.commit}
    provenance["benchmark_answer"] = {"answer": str(answer), "lower": str(lower), "upper": str(upper)}
    provenance["cell"] = {"file": located.name, "row": number, "column": ANSWER, "cell": str(answer)}
    if ENTITIES in row:
        provenance["entities"] = row[ENTITIES]
    if not is_null(row.get("note_in_test", "")):
        provenance["note_in_test"] = _flag(row, "note_in_test")
    provenance |= {
        key: row[column] for column, key in _AS_THEY_ARE.items() if not is_null(row.get(column, ""))
    } | age_and_sex(row[NOTE])
    return "", Case(
        id=f"medcalc-{row_id}-{re.sub(r'[^A-Za-z0-9_.-]', '_', stem(located.name))}-{table.sha256[:6]}",
        family="medcalc",
        task=calculator.slug,
        stratum=f"medcalc/{calculator.category}/{calculator.slug}",
        split=split,
        group=note_group(row[NOTE]),
        fields={"note": row[NOTE], "question": row[QUESTION]},
        truth=truth(calculator, unit_asked(calculator.id, row[QUESTION]), answer, lower, upper, decimals),
        rationale=None if is_null(row.get(EXPLANATION, "")) else row[EXPLANATION].strip(),
        provenance=provenance,
    )


def _row_id(row: Mapping[str, str], column: str) -> str:
    value = short_id(row[column])
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise MisfitError(column, "it is not a number or a short id" if value else "it is empty")
    return value


def _calculator(row: Mapping[str, str]) -> Entry:
    name = row[NAME].strip()
    try:
        calculator = entry_by_name(name)
    except InputError:
        near = difflib.get_close_matches(name[:200], [known.name for known in CATALOGUE.values()], n=1)
        raise MisfitError(
            NAME, "it is none of the 55 calculators" + (f", did you mean '{near[0]}'?" if near else "")
        ) from None
    stated = row.get("Calculator ID", "").strip()
    if not is_null(stated) and record_key(stated) != str(calculator.id):
        raise MisfitError("Calculator ID", f"it is not the id of the {calculator.name}, which is {calculator.id}")
    return calculator


def _category(row: Mapping[str, str]) -> str | None:
    """Returns the row's category in canonical spelling; None without such a column."""
    if "Category" not in row:
        return None
    spelling = row["Category"].strip().casefold()
    if spelling not in CATEGORY_SPELLINGS:
        raise MisfitError("Category", f"it is not a category; known are {', '.join(sorted(CATEGORY_SPELLINGS))}")
    return CATEGORY_SPELLINGS[spelling]


def _check_entities(text: str) -> None:
    if len(text) > MAX_ENTITIES:
        raise MisfitError(ENTITIES, f"{len(text):,} characters; at most {MAX_ENTITIES:,} fit")
    try:
        with warnings.catch_warnings(action="ignore"):  # a warning would quote the text
            entities = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise MisfitError(ENTITIES, "it is not a Python literal") from None
    if not isinstance(entities, dict):
        raise MisfitError(ENTITIES, "it is not a dictionary")
    if _ODD_NUMBER.search(text) and not all(map(_PLAIN_NUMBER.fullmatch, _numbers_of(text.strip()))):
        raise MisfitError(ENTITIES, "a number in it is not in plain digits; write 1000 for 1_000, and 16 for 0x10")


def _numbers_of(literal: str) -> Iterator[str]:
    """Yields the numbers of a Python literal as they are written."""
    for node in ast.walk(ast.parse(literal, mode="eval")):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, complex):
            yield ast.get_source_segment(literal, node) or ""


def _flag(row: Mapping[str, str], column: str) -> bool:
    value = label_key(row[column])
    if value not in _TRUE | _FALSE:
        raise MisfitError(column, "it is neither True nor False")
    return value in _TRUE


def _notes(row: Mapping[str, str], case: Case) -> list[str]:
    """Lists the notes to count for a row that is kept."""
    notes = []
    if case.provenance.get("note_in_test"):
        notes.append("note is also in the benchmark's test split (note_in_test)")
    if _category(row) not in (None, case.stratum.split("/")[1]):
        notes.append("row's category is not the calculator's own; the calculator's is used")
    if case.truth["kind"] == "weeks_days" and not case.provenance["benchmark_answer"]["answer"].startswith("("):
        notes.append("gestational age in days, turned into weeks and days")
    if case.rationale is None:
        notes.append("no explanation, so no worked answer to learn from")
    return notes
