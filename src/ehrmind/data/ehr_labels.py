"""Reads MEDS label files, parquet or CSV: a subject, a prediction time and one label per row.

MEDS has four label columns, of which one is filled. Several filled columns are one label if they
agree, or if one has grades and the other says whether a grade is above the lowest. In any other
case the user must name the column. A label that can be read in two ways is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ehrmind.data.bounds import parquet_file
from ehrmind.data.cells import LARGEST_WHOLE
from ehrmind.data.files import read_bytes
from ehrmind.data.headers import at, kind_of, there
from ehrmind.data.sentinels import without_null_texts
from ehrmind.data.subject_columns import moments, place, subject_numbers
from ehrmind.data.text_tables import check_size
from ehrmind.system import refuse_no_file, unread
from ehrmind.types import InputError

if TYPE_CHECKING:
    import polars as pl

VALUES = ("boolean_value", "integer_value", "float_value", "categorical_value")
INDEXES = frozenset({"", "unnamed: 0", "__index_level_0__", "index", "column_0"})  # index columns that pandas writes
OLD = {"patient_id": "subject_id"}  # the names of MEDS before 0.3
YES_NO, GRADES = ("no", "yes"), ("normal", "mild", "moderate", "severe")
GRADED = "lab_"  # prefix of EHRSHOT's laboratory tasks, whose labels are grades
MOST_CLASSES = 10
TRUE, FALSE = frozenset({"true", "t", "yes", "y", "1", "1.0"}), frozenset({"false", "f", "no", "n", "0", "0.0"})
DAYS = "prediction times that are days: read as 00:00, before everything of that day"
ALSO_IN = "labels that {} has too: the label is {}"
WHOLE = "labels from float_value, which holds whole numbers"
NUMBERED = "labels that are numbers from {} to {}: answered by their numbers, whose meaning the question must tell"


@dataclass(frozen=True, slots=True)
class Words:
    """A task's answers, lowest first. The label `value` has the word at index `value - first`."""

    words: tuple[str, ...]
    first: int = 0


def read_labels(paths: Sequence[Path], task: str, column: str | None = None) -> tuple[pl.DataFrame, dict[str, int]]:
    """Returns the labels and notes. Raises InputError naming file, row and column.

    Columns: subject_id, prediction_time, value (integer or null), kind, and file, row, column and
    text of the label's cell. Empty columns are ignored: ACES writes all four, three of them empty.
    """
    import polars as pl

    notes: dict[str, int] = {}
    parts = [_part(path, place, column, notes) for place, path in enumerate(paths)]
    frames = [part for part in parts if part.height]
    if not frames:
        raise InputError(f"{_named(paths)} is empty: it has columns but no labels.")
    labels = pl.concat(frames, how="diagonal")
    names = [
        name
        for name in labels.columns
        if name not in ("subject_id", "prediction_time", "file", "row") and not name.startswith(("said ", "cell "))
    ]
    filled = [name for name in names if labels[name].null_count() < labels.height]
    if not filled:
        there = f"its {' and '.join(names)} are null throughout" if names else "labels of other kinds are not read"
        raise InputError(f"{_named(paths)} has no boolean_value or integer_value with a label; {there}.")
    name = column or _one(labels, filled, paths, task, notes)
    kinds = labels.filter(pl.col(name).is_not_null())[f"said {name}"].unique().to_list()
    if len(kinds) > 1:
        raise InputError(
            f"{_named(paths)}: column '{name}' holds yes and no in one file and numbers in another; write them alike."
        )
    if name == "float_value" and kinds == ["integer"]:
        notes[WHOLE] = labels.height
    read = {"value": pl.col(name), "kind": pl.lit(kinds[0]), "column": pl.lit(name), "cell": pl.col(f"cell {name}")}
    return labels.select("subject_id", "prediction_time", "file", "row", **read), notes


def label_words(labels: pl.DataFrame, task: str, labels_from: int | None, notes: dict[str, int]) -> Words:
    """Returns the answers: yes and no, a laboratory task's grades, or the numbers themselves.

    Raises InputError for numbers that are no classes, and for grades that may start at 0 or at 1.
    """
    known = labels["value"].drop_nulls()
    if labels["kind"][0] == "boolean":
        return Words(YES_NO)
    lowest, highest = int(known.min()), int(known.max())  # type: ignore[arg-type]
    first = lowest if labels_from is None else labels_from
    if lowest < 0 or highest - min(first, lowest) >= MOST_CLASSES:
        raise InputError(
            f"Integer labels run from {lowest} to {highest}; classes are numbered from 0 and are at most ten."
        )
    if task.startswith(GRADED):
        if labels_from is None and lowest > 0:
            raise InputError(
                f"The grades of {task} run from {lowest} to {highest} and never are 0: say --labels-from 1 (recipe:"
                " labels_from) if 1 is normal, --labels-from 0 if nobody is normal."
            )
        if lowest < first or highest - first >= len(GRADES):
            raise InputError(
                f"The grades of {task} run from {lowest} to {highest}; there are four, from {first}:"
                f" {', '.join(GRADES)}."
            )
        return Words(GRADES, first)
    if labels_from is not None and lowest < labels_from:
        raise InputError(f"Integer labels run from {lowest} to {highest}, which is below --labels-from {labels_from}.")
    notes[NUMBERED.format(lowest, highest)] = len(known)
    return Words(tuple(map(str, range(first, highest + 1))), first)


def whole_labels(values: pl.Series, path: object, *, boolean: bool = False) -> tuple[pl.Series, str]:
    """Reads a label column of any type: (integers or null, "boolean" or "integer").

    With `boolean`, the numbers 0 and 1 mean no and yes. Raises InputError naming file, row and
    column of a cell that is neither yes, no nor a whole number.
    """
    import polars as pl

    dtype, column = values.dtype, values.name
    if dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Int64), "boolean"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _from_words(values.cast(pl.String), path, boolean)
    if not dtype.is_numeric():
        raise InputError(
            f"{path}, column '{column}': {kind_of(dtype)} values; a label is yes or no, or a whole number."
        )
    numbers = values.cast(pl.Float64).fill_nan(None)
    if (wrong := (numbers.abs() > LARGEST_WHOLE) | (numbers != numbers.round(0))).any():
        raise InputError(
            f"{place(path, wrong.fill_null(False), column)}: not a whole number; labels are classes, so number those"
            " from 0."
        )
    return _check_boolean(numbers.cast(pl.Int64), path, boolean)


def _from_words(values: pl.Series, path: object, boolean: bool) -> tuple[pl.Series, str]:
    import polars as pl

    column = values.name
    words = without_null_texts(values).str.strip_chars().str.to_lowercase()
    said = set(words.drop_nulls().unique().to_list())
    if said <= TRUE | FALSE and (boolean or not said <= {"0", "1", "0.0", "1.0"}):
        truth = dict.fromkeys(TRUE, 1) | dict.fromkeys(FALSE, 0)
        return words.replace_strict(list(truth), list(truth.values()), default=None, return_dtype=pl.Int64), "boolean"
    numbers = words.cast(pl.Float64, strict=False)
    wrong = words.is_not_null() & (
        numbers.is_null() | ~(numbers.abs() <= LARGEST_WHOLE) | (numbers != numbers.round(0))
    ).fill_null(True)
    if wrong.any():
        strange = wrong & ~words.is_in(sorted(TRUE | FALSE)).fill_null(True)
        if not strange.any():
            raise InputError(f"{place(path, wrong, column)}: yes or no in a column of numbers; write the labels alike.")
        categories = column == "categorical_value"
        remedy = (
            "words have no order here, so number the classes from 0 in integer_value"
            if categories
            else "write one of them"
        )
        raise InputError(f"{place(path, strange, column)}: neither yes or no nor a whole number; {remedy}.")
    return _check_boolean(numbers.cast(pl.Int64).alias(column), path, boolean)


def _check_boolean(numbers: pl.Series, path: object, boolean: bool) -> tuple[pl.Series, str]:
    """Returns numbers and kind. A boolean column may have no numbers other than 0 and 1."""
    if not boolean:
        return numbers, "integer"
    if (wrong := ~numbers.is_in([0, 1]).fill_null(True)).any():
        raise InputError(
            f"{place(path, wrong, numbers.name)}: a number that is neither 0 nor 1, in a column of yes and no."
        )
    return numbers, "boolean"


def _part(path: Path, number: int, column: str | None, notes: dict[str, int]) -> pl.DataFrame:
    """Reads a file's rows. A label column becomes integers, its kind and the text of its cells."""
    import polars as pl

    table = label_table(path)
    wanted = (*VALUES, column) if column else VALUES
    strange = [
        name
        for name in table.columns
        if name not in ("subject_id", "prediction_time", *wanted) and name.lower() not in INDEXES
    ]
    for name in ("subject_id", "prediction_time", *([column] if column else [])):
        if name not in table.columns:
            what = "is to be the label" if name == column else "MEDS labels require"
            raise InputError(f"{path} has no column '{name}', which {what}; {there(table.columns, name)}.")
    if strange:
        which = at(table.columns, table.columns.index(strange[0]))
        raise InputError(
            f"{path} does not fit MEDS labels: {which} is none of theirs; leave it out, or name it with --label-column."
        )
    if not table.height:
        return pl.DataFrame()
    subjects = subject_numbers(table["subject_id"], path)
    times, days = moments(table["prediction_time"], path)
    if days:
        notes[DAYS] = notes.get(DAYS, 0) + days
    filled = [name for name in VALUES if name in table.columns and _filled(table[name])]
    read: list[pl.Series | pl.Expr] = []
    for name in [column] if column else [name for name in VALUES if name in table.columns]:
        try:
            values, kind = whole_labels(table[name], path, boolean=name == "boolean_value")
        except InputError:
            if column or len(filled) == 1:
                raise
            raise InputError(f"{path} has labels in {' and '.join(filled)}; {_say_which}") from None
        read += [
            values.alias(name),
            pl.lit(kind).alias(f"said {name}"),
            table[name].cast(pl.String).alias(f"cell {name}"),
        ]
    rows = [
        pl.lit(number, dtype=pl.UInt32).alias("file"),
        pl.int_range(1, table.height + 1, dtype=pl.Int64).alias("row"),
    ]
    return pl.select(subjects.alias("subject_id"), times.alias("prediction_time"), *read, *rows)


def _filled(values: pl.Series) -> bool:
    return (values.fill_nan(None) if values.dtype.is_float() else values).null_count() < len(values)


_say_which = "say which with --label-column (in a recipe `label_column`)."


def _one(labels: pl.DataFrame, filled: Sequence[str], paths: Sequence[Path], task: str, notes: dict[str, int]) -> str:
    """Chooses the label's column if the user named none."""
    import polars as pl

    if len(filled) == 1:
        return filled[0]
    named = f"{', '.join(filled[:-1])} and {filled[-1]}"
    if set(filled) == {"boolean_value", "integer_value"} and task.startswith(GRADED):
        contrary = (labels["boolean_value"] != (labels["integer_value"] > 0).cast(pl.Int64)).fill_null(True)
        if not contrary.any():
            notes[ALSO_IN.format("boolean_value", "integer_value, the grade")] = labels.height
            return "integer_value"
        row = labels.row(int(contrary.arg_max() or 0), named=True)
        raise InputError(f"{paths[row['file']]}, row {row['row']}: {named} contradict each other; {_say_which}")
    same = labels.select(
        pl.all_horizontal(pl.col(filled[0]).eq_missing(pl.col(name)) for name in filled[1:]).all()
    ).item()
    if not same:
        raise InputError(f"{_named(paths)} has labels in {named}; {_say_which}")
    notes[ALSO_IN.format(" and ".join(filled[1:]), f"{filled[0]}, and they agree")] = labels.height
    return filled[0]


def _named(paths: Sequence[Path]) -> str:
    return str(paths[0] if len(paths) == 1 else paths[0].parent)


def label_table(path: Path) -> pl.DataFrame:
    """Reads a parquet or CSV file and renames old MEDS columns."""
    import polars as pl
    import pyarrow as pa

    _refuse_empty(path)
    if path.name.lower().endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        table = csv_table(path)
    else:
        try:
            table = pl.DataFrame(parquet_file(path, str(path)).read())
        except (pa.ArrowException, OSError, pl.exceptions.PolarsError) as error:
            raise unread(error, path, f"{path} is not a parquet file, or there is none; MEDS is parquet.") from None
    return table.rename({old: new for old, new in OLD.items() if old in table.columns and new not in table.columns})


def _refuse_empty(path: Path) -> None:
    refuse_no_file(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: 0 bytes.")


def csv_table(path: Path) -> pl.DataFrame:
    """Reads a CSV file (or `.gz`) as texts. The header's most frequent separator is taken."""
    import polars as pl

    _refuse_empty(path)
    try:
        content, _ = read_bytes(path)
        header = content[: content.find(b"\n") + 1 or None].decode("utf-8-sig")
        check_size(str(path), 1, max(map(header.count, ",;\t")) + 1)
        frame = pl.read_csv(content, infer_schema=False, separator=max(",;\t", key=header.count))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeDecodeError) as error:
        raise unread(error, path, f"{path} cannot be read as CSV.") from None
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
    return frame.rename({name: name.strip().removeprefix("\ufeff") for name in frame.columns})


def all_alike(labels: pl.DataFrame, words: Words) -> dict[str, int]:
    """Returns a note if all labels of a task are the same."""
    values = labels["value"].unique().to_list()
    if len(values) != 1:
        return {}
    return {
        f"labels, and all of them are '{words.words[values[0] - words.first]}': nothing can be learned from them": (
            labels.height
        )
    }
