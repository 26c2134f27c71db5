"""Saves and loads Cases (one parquet file), and defines the counts that every reader returns.

The mappings of a Case are columns of JSON text, so one schema serves all families. A Cases file
holds record text, so only its owner may read it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from ehrmind.data.bounds import parquet_file
from ehrmind.files import clear_leftovers, parquet_bytes, write_private
from ehrmind.labels import problem_of, refuse_labels
from ehrmind.system import refuse_no_file, why
from ehrmind.types import Case, InputError, Split

_TEXT = ("id", "family", "task", "stratum", "split", "group")
_JSON = ("fields", "truth", "provenance")
_COLUMNS = (*_TEXT, *_JSON, "rationale")


@dataclass(frozen=True, slots=True)
class FileRead:
    """File that was read. `name` has no folder; `hub` and `revision` are a hub's id and commit."""

    name: str
    sha256: str
    rows: int
    hub: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of all rows: `kept` plus the sum of `left_out` is the number of rows.

    `notes` counts remarks about rows that were kept. `by_split` counts labels, if there are labels.
    No field holds record text.
    """

    kept: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    by_stratum: Mapping[str, int] = field(default_factory=dict)
    files: tuple[FileRead, ...] = ()
    by_split: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        # asdict would break a Counter
        return asdict(
            replace(self, left_out=dict(self.left_out), notes=dict(self.notes), by_stratum=dict(self.by_stratum))
        )

    def lines(self) -> list[str]:
        """Formats the counts for a reader, one per line. The strata are only in `by_stratum`."""
        rows = self.kept + sum(self.left_out.values())
        return [
            f"kept {self.kept:,} of {rows:,} rows in {len(self.by_stratum)} strata",
            *(f"left out {count:,}: {reason}" for reason, count in self.left_out.items()),
            *(f"note {count:,}: {reason}" for reason, count in self.notes.items()),
            *(
                f"{split}: {', '.join(f'{label} {n:,}' for label, n in labels.items())}"
                for split, labels in self.by_split.items()
            ),
            *(_file_line(file) for file in self.files),
        ]


def save_cases(cases: Sequence[Case], path: Path | str) -> None:
    """Writes Cases, whole or not at all. Removes half-written files that killed commands left."""
    clear_leftovers(Path(path).parent)
    write_private(Path(path), cases_bytes(cases))


def cases_bytes(cases: Sequence[Case]) -> bytes:
    """Encodes Cases as a parquet file."""
    import polars as pl

    columns: dict[str, list[str | None]] = {
        name: [getattr(case, name) for case in cases] for name in (*_TEXT, "rationale")
    }
    columns |= {name: [_to_json(getattr(case, name)) for case in cases] for name in _JSON}
    return parquet_bytes(
        pl.DataFrame({name: columns[name] for name in _COLUMNS}, schema=dict.fromkeys(_COLUMNS, pl.String))
    )


def load_cases(path: Path | str) -> list[Case]:
    """Reads a file of `save_cases`. Raises InputError naming the file and a wrong row and
    column."""
    import polars as pl

    path = Path(path)
    refuse_no_file(path, "There is no file at {path}; `ehrmind data` writes Cases.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {why(error)}.") from None
    parquet_file(raw, str(path)).close()
    try:
        frame = pl.read_parquet(io.BytesIO(raw))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise InputError(
            f"{path} is not a parquet file, or a broken one; write it again with `ehrmind data`."
        ) from None
    if set(frame.columns) != set(_COLUMNS) or any(dtype != pl.String for dtype in frame.dtypes):
        raise InputError(f"{path} does not hold Cases; make them from a data set's own files with `ehrmind data`.")
    cases = [_from_row(row, path, number) for number, row in enumerate(frame.iter_rows(named=True), start=1)]
    _refuse_duplicates(cases, path)
    return cases


def refuse_unanswered(cases: Sequence[Case], what: str) -> None:
    """Raises InputError if a case has no gold answer.

    Such a case can be predicted, and neither learned from nor scored.
    """
    missing = [case.place for case in cases if not case.is_answered]
    if missing:
        raise InputError(
            f"{what}: {len(missing):,} of {len(cases):,} cases, such as {missing[0]}, have no gold answer, so they can"
            " be neither learned from nor scored; `ehrmind predict` asks them."
        )


def _from_row(row: dict[str, str | None], path: Path, number: int) -> Case:
    values: dict[str, Any] = dict(row)
    for name in _TEXT:
        if not row[name]:
            raise InputError(
                f"{path}, row {number}, column '{name}': no value; write the file again with `ehrmind data`."
            )
    for name in _JSON:
        try:
            values[name] = json.loads(row[name] or "")
        except (ValueError, RecursionError):
            values[name] = None
        if not isinstance(values[name], dict):
            raise InputError(
                f"{path}, row {number}, column '{name}': not a JSON object; write the file again with `ehrmind data`."
            )
    if values["truth"].get("kind") == "label":
        _check_labels(values["truth"], f"{path}, row {number}, column 'truth'")
    if row["split"] not in get_args(Split):
        raise InputError(f"{path}, row {number}, column 'split': not one of {', '.join(get_args(Split))}.")
    return Case(**values)


def _check_labels(truth: Mapping[str, Any], where: str) -> None:
    """Raises InputError for labels that are not distinct, and for a value without a label."""
    labels, value = truth.get("labels"), truth.get("value")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{where}: no list of labels; write the file again with `ehrmind data`.")
    if not _are_distinct(tuple(labels)):
        refuse_labels(labels, where)
    if not truth.get("unanswered") and (type(value) is not int or not 0 <= value < len(labels)):
        raise InputError(
            f"{where}: its value is no place among {len(labels)} labels; write the file again with `ehrmind data`."
        )


@lru_cache(maxsize=256)
def _are_distinct(labels: tuple[str, ...]) -> bool:
    return problem_of(labels) is None


def _refuse_duplicates(cases: Sequence[Case], path: Path) -> None:
    seen: dict[str, int] = {}
    for number, case in enumerate(cases, start=1):
        first = seen.setdefault(case.id, number)
        if first != number:
            raise InputError(f"{path}, rows {first} and {number}, column 'id': both are the same; ids must be unique.")


def _to_json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, allow_nan=False)


def _file_line(file: FileRead) -> str:
    origin = f" of {file.hub} at {file.revision}" if file.hub else ""
    return f"read {file.name}{origin}: {file.rows:,} rows, sha256 {file.sha256}"
