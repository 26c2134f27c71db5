"""Reads text cells strictly: nulls, numbers, whole numbers, labels. `dates` reads days and times.

A cell with exactly one reading is read. A cell with none, or with two that nothing decides, raises
`CellError`, to which the caller adds the place. A decimal mark belongs to a column: `decimal_of`
looks at all of its cells. Nothing is evaluated, and no message quotes a cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ehrmind.characters import plain
from ehrmind.labels import label_key
from ehrmind.types import InputError

Decimal = Literal["point", "comma"]

_SHEET_ERRORS = {
    "#n/a",
    "#value!",
    "#ref!",
    "#div/0!",
    "#name?",
    "#num!",
    "#null!",
}  # spreadsheet errors of failed formulas
NULLS = frozenset(
    {"", "na", "n/a", "#n/a n/a", "<na>", "nan", "-nan", "nat", "null", "none", "nil", "\\n", *_SHEET_ERRORS}
)  # lower case
INFINITIES = frozenset({"inf", "infinity"})  # without their sign
_NULL_TEXTS = NULLS - {"na", "n/a", "none", "nil"}  # these four can be words of a text
LONGEST = 200  # characters of a value; a longer cell is a text
LARGEST_WHOLE = 2**53  # above it, neighbouring whole numbers are the same float


class CellError(ValueError):
    """Problem with a cell. Its message has neither the cell's text nor its place."""


class TypedNumber(str):
    """Cell stored as a number. Its decimal mark is a point, whatever the text cells use."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """Cells of a column, with its name for messages.

    `semicolons` says that semicolons separate the file's columns, as is usual with decimal commas.
    `decide` is advice for the user when a number has two readings.
    """

    file: str
    name: str
    cells: Sequence[str]
    semicolons: bool = False
    decide: str = "say --decimal point or --decimal comma (in a recipe `decimal`)"

    def place(self, row: int) -> str:
        return f"{self.file}, row {row}, column '{self.name}'"

    def error(self, row: int, problem: object) -> InputError:
        return InputError(f"{self.place(row)}: {problem}.")


def is_null(cell: str) -> bool:
    """Tells whether a cell of numbers, days, labels or ids has no value."""
    return _is_one_of(cell, NULLS)


def is_null_text(cell: str) -> bool:
    """Tells whether a free text is empty or a text for null; `NA` and `None` are words there."""
    return _is_one_of(cell, _NULL_TEXTS)


def _is_one_of(cell: str, words: frozenset[str]) -> bool:
    return (len(cell) <= LONGEST or not cell.strip()) and plain(cell).lower() in words


# Numbers

_EXPONENT = r"(?:[eE][+-]?[0-9]{1,3})?"
_POINT = re.compile(rf"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+){_EXPONENT}")
_COMMA = re.compile(rf"[+-]?(?:[0-9]+(?:,[0-9]+)?|,[0-9]+){_EXPONENT}")
_SPACED = r"[1-9][0-9]{0,2}(?:(?: [0-9]{3})+|(?:'[0-9]{3})+)"
_POINT_GROUPED = re.compile(
    rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+|[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}|{_SPACED})(?:\.[0-9]+)?"
)
# Points between thousands, which show that a point is no decimal mark in this column.
_POINTS_GROUP = re.compile(r"[0-9]\.[0-9]{3}(?:[.,]|$)")
_COMMA_GROUPED = re.compile(rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:\.[0-9]{{3}})+|{_SPACED})(?:,[0-9]+)?")


def number(cell: str, decimal: Decimal = "point") -> float | None:
    """Reads a finite number with the column's decimal mark; None for a null or an infinity."""
    text = _number_text(cell, decimal)
    if text is None:
        return None
    value = float(text)
    if abs(value) == float("inf"):
        raise CellError("the number is too large")
    if value == 0 and re.search(r"[1-9]", re.split("[eE]", text)[0]):
        raise CellError("the number is too small to be told from 0")
    if text.lstrip("+-").isdigit() and abs(int(text)) > LARGEST_WHOLE and int(value) != int(text):
        raise CellError(
            "a whole number with more digits than a number can keep; if it names something, it is no answer to compute"
        )
    return value


def whole(cell: str, decimal: Decimal = "point") -> int | None:
    """Reads a whole number, also `3.0` or `3,0`, with this decimal mark; None for a null."""
    value = number(cell, decimal)
    if value is None:
        return None
    if not value.is_integer():
        raise CellError("not a whole number")
    if abs(value) > LARGEST_WHOLE:
        raise CellError("a whole number above 2^53, where neighbours cannot be told apart")
    return int(value)


def decimal_of(column: Column, said: Decimal | None = None, *, whole_numbers: bool = False) -> Decimal:
    """Decides a column's decimal mark: `said` if given, otherwise what the cells agree on.

    Raises InputError for a cell that is no number, for cells that contradict each other, and for a
    cell with two readings that nothing in the column decides.
    """
    rows: dict[str, list[int]] = {"point": [], "comma": [], "both": []}
    for row, cell in enumerate(column.cells, start=1):
        if isinstance(cell, TypedNumber):
            continue
        try:
            readings = decimal_readings(cell)
        except CellError as problem:
            raise column.error(row, problem) from None
        if said is not None and said not in readings:
            raise column.error(row, f"no number with a decimal {said}")
        if len(set(readings.values())) > 1:
            rows["both"].append(row)
        elif len(readings) == 1:
            rows[next(iter(readings))].append(row)
    if said is not None:
        return said
    points, commas, both = rows.values()
    if points and commas:
        rare, common = (commas, points) if len(commas) <= len(points) else (points, commas)
        raise column.error(
            rare[0], f"its decimal mark is not that of row {common[0]}; write the column in one way, or {column.decide}"
        )
    if points or (whole_numbers and not commas and not column.semicolons and _thousands(column, both)):
        return "point"
    # In a column with decimal commas, 1.234 is either a typing error or a thousand. It is a
    # thousand if other cells group thousands by points. Without decimal commas, in a file
    # separated by commas, 1.234 is a number with three decimals, and 1,234 may be either.
    if commas:
        grouped = any(_POINTS_GROUP.search(plain(column.cells[row - 1])) for row in commas)
        undecided = [row for row in both if not grouped and "." in plain(column.cells[row - 1])]
    else:
        undecided = [row for row in both if whole_numbers or column.semicolons or "," in plain(column.cells[row - 1])]
    if undecided:
        raise column.error(
            undecided[0],
            f"two readings, a thousands mark or a decimal mark, and no cell of the column decides; {column.decide}",
        )
    return "comma" if commas else "point"


def decimal_readings(cell: str) -> dict[Decimal, float | None]:
    """Reads a cell with a decimal point and with a decimal comma, and returns the valid readings.

    Raises CellError if there is none.
    """
    found: dict[Decimal, float | None] = {}
    problems: list[CellError] = []
    for decimal in ("point", "comma"):
        try:
            found[decimal] = number(cell, decimal)
        except CellError as problem:
            problems.append(problem)
    if not found:
        # Prefer "too large" and the like, which say more than "not a number".
        raise min(problems, key=lambda problem: str(problem).startswith("not a number"))
    return found


def _thousands(column: Column, both: Sequence[int]) -> bool:
    """Tells whether commas in these cells can only group thousands.

    All cells are whole numbers with a decimal point, and one of them is not with a decimal comma.
    """
    read = [decimal_readings(column.cells[row - 1]) for row in both]
    return all(cell["point"] == int(cell["point"] or 0) for cell in read) and any(
        cell["comma"] != int(cell["comma"] or 0) for cell in read
    )


def is_no_number(cell: str) -> bool:
    """Tells whether a cell of numbers is a null or an infinity."""
    return is_null(cell) or (len(cell) <= LONGEST and plain(cell).lower().lstrip("+-") in INFINITIES)


def is_number(cell: str) -> bool:
    """Tells whether a cell is a number, with a decimal point or a decimal comma."""
    try:
        return not is_no_number(cell) and bool(decimal_readings(cell))
    except CellError:
        return False


def _number_text(cell: str, decimal: Decimal) -> str | None:
    """Rewrites a number for Python's `float`; None for a null. Raises CellError for other cells."""
    if is_no_number(cell):
        return None
    if len(cell) > LONGEST:
        raise CellError("not a number")
    text = plain(cell)
    if decimal == "point" or isinstance(cell, TypedNumber):
        fits = _POINT.fullmatch(text) or _POINT_GROUPED.fullmatch(text)
        text = re.sub("[, ']", "", text)
    else:
        fits = _COMMA.fullmatch(text) or _COMMA_GROUPED.fullmatch(text)
        text = re.sub("[. ']", "", text).replace(",", ".")
    if not fits:
        raise _not_a_number(cell)
    return text


def _not_a_number(cell: str) -> CellError:
    text = plain(cell)
    if text.endswith("%"):
        return CellError("not a number: it ends in a percent sign; write the number alone, as all rows mean it")
    if re.match(r"[<>≤≥~≈]", text):
        return CellError("not a number but a bound")
    if re.match(r"[+-]?[0-9][0-9.,' ]*(?:[eE][+-]?[0-9]+)?\s*[^\W\d_]", text):
        return CellError("not a number alone: something stands behind it; take units out of the cell")
    return CellError("not a number")


# Labels


def label(cell: str, labels: Sequence[str], labels_from: int | None = None) -> int | None:
    """Returns a label's index in `labels`; None for a null, unless a label has that name.

    A number that is no label is an index counted from `labels_from`. Without `labels_from` it
    raises CellError.
    """
    places = {label_key(word): place for place, word in enumerate(labels)}
    key = label_key(cell) if len(cell.strip()) <= 2 * LONGEST else ""
    if key in places:
        return places[key]
    if is_null(cell):
        return None
    if key in ("true", "false") and set(places) == {"yes", "no"}:
        return places["yes" if key == "true" else "no"]
    if re.fullmatch(r"-?[0-9]{1,9}", key):
        if labels_from is None:
            raise CellError(
                "a number where labels are words; if it is a place, say --labels-from 0 or 1 (in a recipe"
                " `labels_from`)"
            )
        if not 0 <= int(key) - labels_from < len(labels):
            raise CellError(f"no place among {len(labels)} labels that are counted from {labels_from}")
        return int(key) - labels_from
    raise CellError(f"none of the labels {', '.join(labels)}, nor the number of one")
