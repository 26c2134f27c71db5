"""The Cases file: what is written is read back, and a failed write loses nothing."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.data import load_cases, save_cases
from ehrmind.types import Case, InputError

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
CASE = Case(
    id="made-up-1",
    family="medcalc",
    task="bmi",
    stratum="medcalc/physical/bmi",
    split="train",
    group="note-1",
    fields={"note": "She weighs 70 kg.", "question": "BMI?"},
    truth={"kind": "decimal", "value": 24.2},
    rationale="70 / 1.7² = 24.2",
    provenance={"row": 1, "limits": ["23", None]},
)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@given(
    fields=st.dictionaries(TEXT, TEXT, max_size=3),
    truth=st.dictionaries(TEXT, JSON, max_size=3),
    rationale=st.none() | TEXT,
)
def test_cases_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, str], truth: dict[str, object], rationale: str | None
) -> None:
    path = tmp_path_factory.mktemp("cases") / "c.parquet"
    cases = [replace(CASE, fields=fields, truth=truth, rationale=rationale), replace(CASE, id="made-up-2")]
    save_cases(cases, path)
    assert load_cases(path) == cases


def test_no_cases_at_all_come_back_as_none(tmp_path: Path) -> None:
    save_cases([], tmp_path / "c.parquet")
    assert load_cases(tmp_path / "c.parquet") == []


def test_a_cases_file_is_for_its_owner_only_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    save_cases([CASE], tmp_path / "new" / "c.parquet")
    assert names(tmp_path / "new") == ["c.parquet"]
    assert (tmp_path / "new" / "c.parquet").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("owner", "broken_call"), [(os, "fsync"), (Path, "replace"), (os, "open")])
def test_a_full_disk_is_named_and_the_file_that_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, broken_call: str
) -> None:
    path = tmp_path / "c.parquet"
    save_cases([CASE], path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(owner, broken_call, full)
    with pytest.raises(InputError, match=r"c\.parquet could not be written: No space left on device"):
        save_cases([CASE, replace(CASE, id="made-up-2")], path)
    assert load_cases(path) == [CASE] and names(tmp_path) == ["c.parquet"]


def test_a_file_that_does_not_hold_cases_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    with pytest.raises(InputError, match="There is no file"):
        load_cases(path)
    for content in (b"", b"text", b"PAR1" * 10):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"c\.parquet is not a parquet file"):
            load_cases(path)
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(InputError, match=r"c\.parquet does not hold Cases"):
        load_cases(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("truth", "[]"), ("fields", "{"), ("provenance", None), ("split", "test"), ("id", ""), ("group", None)],
)
def test_a_damaged_row_is_refused_with_row_and_column(tmp_path: Path, column: str, value: str | None) -> None:
    path = tmp_path / "c.parquet"
    save_cases([CASE, replace(CASE, id="made-up-2")], path)
    frame = pl.read_parquet(path)
    frame.with_columns(pl.Series(column, [frame[column][0], value], dtype=pl.String)).write_parquet(path)
    with pytest.raises(InputError, match=rf"c\.parquet, row 2, column '{column}'"):
        load_cases(path)


def test_two_cases_of_one_id_are_refused(tmp_path: Path) -> None:
    save_cases([CASE, CASE], tmp_path / "c.parquet")
    with pytest.raises(InputError, match="rows 1 and 2, column 'id'"):
        load_cases(tmp_path / "c.parquet")
