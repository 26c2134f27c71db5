"""Any table of question, answer and how to check it becomes Cases: CSV, CSV.gz, parquet or JSON lines, the columns named by the recipe."""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehrmind.sources.cases import Counts, FileRead
from ehrmind.sources.files import Table, read_lines, read_table, stem
from ehrmind.sources.labels import label_truth, labels_by_split
from ehrmind.sources.splits import SPLITS, note_group, split_of_groups
from ehrmind.types import Case, InputError

if TYPE_CHECKING:
    from ehrmind.config import TableFile


def read_table_cases(file: TableFile) -> tuple[list[Case], Counts]:
    """A Case a row, and counts. Splits are the `split` column's where it is named, else by group: the `group` column, else the record's
    text, else the question's. Raises InputError naming file, row and column; no message quotes a cell."""
    table = read_rows(file.path)  # in one task, on a cluster too: it is one file, of rows that are numbered
    columns = {name: getattr(file, name) for name in ("question", "answer", "record", "rationale", "group", "id", "split")}
    columns |= {f"the aid {aid}": column for aid, column in file.aids.items()}
    for name, column in columns.items():
        if column is not None and column not in table.columns:
            raise InputError(f"{table.name} has no column '{column}' for {name}; it has {', '.join(table.columns)}.")
    name = file.name or stem(file.path)
    cases = [_case(file, table, name, number, row) for number, row in enumerate(table.rows, start=1)]
    ids = Counter(case.id for case in cases)
    if twice := next((case.id for case in cases if ids[case.id] > 1), None):
        raise InputError(f"{table.name}: the id of {ids[twice]} rows is the same; ids must be unique.")
    if file.split is None:
        cases = split_of_groups(cases, dict(zip(SPLITS, file.shares, strict=True)), file.seed)
    labelled = labels_by_split(cases) if file.kind == "label" else {}
    counts = Counts(
        kept=len(cases),
        notes={"groups": len({case.group for case in cases})},
        by_stratum=Counter(case.stratum for case in cases),
        files=(FileRead(file.path.name, table.sha256, len(cases)),),
        by_split=labelled or {split: {"cases": n} for split in SPLITS if (n := sum(case.split == split for case in cases))},
    )
    return cases, counts


def read_rows(path: Path) -> Table:
    """CSV, CSV.gz, parquet or JSON lines, by the ending."""
    return _json_lines(path) if path.name.removesuffix(".gz").endswith(".jsonl") else read_table(path)


def _case(file: TableFile, table: Table, name: str, number: int, row: dict[str, str]) -> Case:
    def cell(column: str | None, what: str) -> str:
        text = row[column].strip() if column is not None else ""
        if column is not None and not text:
            raise InputError(f"{table.name}, row {number}, column '{column}': no {what}.")
        return text

    question, record = cell(file.question, "question"), row[file.record].strip() if file.record else ""
    split = cell(file.split, "split") if file.split else "train"
    if split not in SPLITS:
        raise InputError(f"{table.name}, row {number}, column '{file.split}': a split is one of {', '.join(SPLITS)}.")
    return Case(
        id=f"{name}-{cell(file.id, 'id') or number}",
        family="table",
        task=name,
        stratum=f"table/{name}/{file.kind}",
        split=split,
        group=f"{name}-{cell(file.group, 'group')}" if file.group else note_group(record or question),
        fields={"question": question, "record": record},
        truth=_truth(file, cell(file.answer, "answer"), f"{table.name}, row {number}, column '{file.answer}'"),
        rationale=(row[file.rationale].strip() or None) if file.rationale else None,
        provenance={"file": file.path.name, "row": number}
        | ({"aids": {aid: row[column].strip() for aid, column in file.aids.items() if row[column].strip()}} if file.aids else {}),
    )


def _truth(file: TableFile, answer: str, where: str) -> dict[str, Any]:
    """A truth that `tasks.table` checks. Nothing in the cell is evaluated."""
    if file.kind == "label":
        words = {word.lower(): place for place, word in enumerate(file.labels)}
        place = words.get(answer.lower(), int(answer) if answer.isdigit() and int(answer) < len(words) else None)
        if place is None:
            raise InputError(f"{where}: none of the labels {', '.join(file.labels)}, nor the number of one.")
        return label_truth(place, file.labels)
    if file.kind == "date":
        try:
            return {"kind": "date", "value": datetime.date.fromisoformat(answer[:10]).isoformat()}
        except ValueError:
            raise InputError(f"{where}: not a date as 2026-01-31.") from None
    try:
        value = float(answer.replace(",", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: not a number.")
    if file.kind == "integer":
        if value != int(value):
            raise InputError(f"{where}: not a whole number.")
        return {"kind": "integer", "value": int(value), "unit": file.unit}
    margin = max(abs(value) * file.tolerance, file.absolute_tolerance)
    return {"kind": "decimal", "value": value, "low": value - margin, "high": value + margin, "unit": file.unit}


def _json_lines(path: Path) -> Table:
    """JSON objects, a line each, as rows of text; every row has the columns of all."""
    lines, sha256 = read_lines(path)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise InputError(f"{path}, row {number}: not a JSON object.")
            rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no row.")
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return Table(str(path), sha256, columns, [{column: _text(row.get(column)) for column in columns} for row in rows])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
