"""Makes Cases of any table with questions and answers.

The recipe names the columns and how an answer is checked; `cells` and `dates` read the cells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ehrmind.characters import plain
from ehrmind.data import cells, headers
from ehrmind.data.cases import Counts, FileRead
from ehrmind.data.cells import CellError, is_null, is_null_text
from ehrmind.data.dates import day, has_time, order_of
from ehrmind.data.files import Table, read_table, stem
from ehrmind.data.identity import group_key
from ehrmind.data.labels import label_truth, labels_by_split
from ehrmind.data.splits import SPLITS, note_group, split_of_groups, split_of_word
from ehrmind.labels import label_key
from ehrmind.types import Case, InputError, Split

if TYPE_CHECKING:
    from ehrmind.config import TableFile

COLUMNS = ("question", "answer", "record", "rationale", "group", "id", "split")


def read_table_cases(file: TableFile) -> tuple[list[Case], Counts]:
    """Makes a Case of each row, and counts.

    Splits come from the `split` column if it is named, otherwise they are drawn by group. A group
    is the `group` column's value, otherwise the record's text, otherwise the question's. Raises
    InputError naming file, row and column; no message quotes a cell.
    """
    table = rows_of(file, COLUMNS)  # one task even on a cluster: one file, whose rows are numbered
    name = file.name or stem(file.path)
    how, notes = _conventions(file, table)
    cases = [_case(file, table, name, number, row, how) for number, row in enumerate(table.rows, start=1)]
    if file.split is None:
        cases = split_of_groups(cases, dict(zip(SPLITS, file.shares, strict=True)), file.seed)
    labelled = labels_by_split(cases) if file.kind == "label" else {}
    counts = Counts(
        kept=len(cases),
        notes={**group_notes(file, table, cases), **notes, **table.notes},
        by_stratum=Counter(case.stratum for case in cases),
        files=(FileRead(file.path.name, table.sha256, len(cases)),),
        by_split=labelled
        or {split: {"cases": n} for split in SPLITS if (n := sum(case.split == split for case in cases))},
    )
    return cases, counts


def rows_of(file: TableFile, names: Iterable[str]) -> Table:
    """Reads the table. `names` are the recipe's keys that hold column names.

    Raises InputError for a column that is missing and for an id that occurs twice.
    """
    table = read_table(file.path, file.sheet, several_sheets="name one with --sheet (in a recipe `sheet`)")
    columns = {name: getattr(file, name) for name in names} | {
        f"the hint {hint}": column for hint, column in file.hints.items()
    }
    for name, column in columns.items():
        if column is not None and column not in table.columns:
            raise InputError(
                f"{table.name} has no column '{column}' for {name}; {headers.there(table.columns, column)}."
            )
    _refuse_repeated_ids(file, table)
    return table


def _refuse_repeated_ids(file: TableFile, table: Table) -> None:
    """Raises InputError if two rows have the same id, even in different spellings."""
    first: dict[str, int] = {}
    for number, row in enumerate(table.rows if file.id else (), start=1):
        key = key_of(table, number, row, file.id or "", "id")
        if first.setdefault(key, number) != number:
            raise InputError(
                f"{table.name}, rows {first[key]} and {number}, column '{file.id}': the id is the same; ids must be"
                " unique."
            )


def key_of(table: Table, number: int, row: dict[str, str], column: str, what: str, namespace: str | None = None) -> str:
    """Computes the key of a row or group. Raises InputError for a cell without one."""
    try:
        key = group_key(row[column], namespace)
    except CellError as problem:
        raise InputError(f"{table.name}, row {number}, column '{column}': {problem}.") from None
    if not key:
        raise InputError(f"{table.name}, row {number}, column '{column}': no {what}.")
    return key


def text_of(row: dict[str, str], column: str | None) -> str:
    """Returns a cell of free text; empty if no column is named or the cell is a text for null."""
    return "" if column is None or is_null_text(row[column]) else row[column].strip()


def question_of(file: TableFile, table: Table, number: int, row: dict[str, str]) -> str:
    question = text_of(row, file.question)
    if not question:
        raise InputError(f"{table.name}, row {number}, column '{file.question}': no question.")
    return question


def named(file: TableFile, table: Table, name: str, number: int, row: dict[str, str]) -> dict[str, str]:
    """Returns `id` and `group` for a row's Case."""
    question, record = question_of(file, table, number, row), text_of(row, file.record)
    if file.id is not None:
        key_of(table, number, row, file.id, "id")
    return {
        "id": f"{name}-{plain(row[file.id]) if file.id is not None else number}",
        "group": (
            key_of(table, number, row, file.group, "group", file.groups_of)
            if file.group
            else note_group(record or question)
        ),
    }


def group_notes(file: TableFile, table: Table, cases: list[Case]) -> dict[str, int]:
    """Counts groups, groups with several spellings, and rows without a record."""
    spellings = (
        {(case.group, plain(row[file.group])) for case, row in zip(cases, table.rows, strict=True)}
        if file.group
        else set()
    )
    groups = Counter(group for group, _ in spellings)
    found = {
        "groups": len({case.group for case in cases}),
        f"groups that column '{file.group}' spells in several ways": sum(times > 1 for times in groups.values()),
        f"rows without a text in column '{file.record}'": (
            sum(not text_of(row, file.record) for row in table.rows) if file.record else 0
        ),
    }
    return {what: times for what, times in found.items() if times or what == "groups"}


def _conventions(file: TableFile, table: Table) -> tuple[dict[str, Any], dict[str, int]]:
    """Decides how answers are read: (decimal mark, date order or first label number; notes)."""
    column = table.column(file.answer)
    if file.kind in ("number", "integer"):
        decimal = cells.decimal_of(column, file.decimal, whole_numbers=file.kind == "integer")
        if decimal == "comma" or file.decimal:
            return {"decimal": decimal}, {f"column '{file.answer}' is read with a decimal {decimal}": len(table.rows)}
        return {}, {}
    if file.kind == "date":
        order = order_of(column, file.dates)
        timed = sum(has_time(cell) for cell in column.cells)
        notes = {f"days of column '{file.answer}' that have a time of day, which is left out": timed} if timed else {}
        return (
            ({"dates": order}, {f"column '{file.answer}' is read {order}": len(table.rows), **notes})
            if order
            else ({}, notes)
        )
    keys = {label_key(word) for word in file.labels}
    numbers = sum(label_key(cell) not in keys and label_key(cell).isdecimal() for cell in column.cells)
    truths = 0 if keys & {"true", "false"} else sum(label_key(cell) in ("true", "false") for cell in column.cells)
    notes = {f"labels of column '{file.answer}' that are true or false, read as yes or no": truths} if truths else {}
    if file.labels_from is None:
        return {}, notes
    return {"labels_from": file.labels_from}, {
        f"labels of column '{file.answer}' that are numbers, counted from {file.labels_from}": numbers,
        **notes,
    }


def _case(file: TableFile, table: Table, name: str, number: int, row: dict[str, str], how: dict[str, Any]) -> Case:
    hints = {hint: text for hint, column in file.hints.items() if (text := text_of(row, column))}
    return Case(
        **named(file, table, name, number, row),
        family="table",
        task=name,
        stratum=f"table/{name}/{file.kind}",
        split=_split(file, table, number, row),
        fields={"question": question_of(file, table, number, row), "record": text_of(row, file.record)},
        truth=_truth(file, row[file.answer], f"{table.name}, row {number}, column '{file.answer}'", how),
        rationale=None if not file.rationale or is_null(row[file.rationale]) else row[file.rationale].strip(),
        provenance={
            "file": file.path.name,
            "row": number,
            "cell": {"file": file.path.name, "row": number, "column": file.answer, "cell": str(row[file.answer])},
        }
        | ({"grouped_by": file.group} if file.group else {})
        | ({"read": how} if how else {})
        | ({"hints": hints} if hints else {}),
    )


def _split(file: TableFile, table: Table, number: int, row: dict[str, str]) -> Split:
    if file.split is None:
        return "train"
    split = split_of_word(row[file.split])
    if split is None:
        where = f"{table.name}, row {number}, column '{file.split}'"
        raise InputError(
            f"{where}: a split is one of {', '.join(SPLITS)}; test is held_out, and validation or dev tuning."
        )
    return split


def _truth(file: TableFile, answer: str, where: str, how: dict[str, Any]) -> dict[str, Any]:
    """Makes the truth that `tasks.table` checks. Nothing in the cell is evaluated."""
    decimal = how.get("decimal", "point")
    value: Any
    try:
        if file.kind == "label":
            value = cells.label(answer, file.labels, file.labels_from)
        elif file.kind == "date":
            value = day(answer, how.get("dates"))
        else:
            value = cells.whole(answer, decimal) if file.kind == "integer" else cells.number(answer, decimal)
    except CellError as problem:
        raise InputError(f"{where}: {problem}.") from None
    if value is None:
        raise InputError(f"{where}: no answer; give one or take the row out.")
    if file.kind == "label":
        return label_truth(value, file.labels)
    if file.kind == "date":
        return {"kind": "date", "value": value.isoformat()}
    if file.kind == "integer":
        return {"kind": "integer", "value": value, "unit": file.unit}
    margin = max(abs(value) * file.tolerance, file.absolute_tolerance)
    if not (math.isfinite(value - margin) and math.isfinite(value + margin)):
        raise InputError(
            f"{where}: its tolerance reaches beyond every number, so that any answer would be right; give a smaller"
            " one."
        )
    return {"kind": "decimal", "value": value, "low": value - margin, "high": value + margin, "unit": file.unit}
