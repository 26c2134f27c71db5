"""Parquet files: broken ones are one sentence and print nothing, ordinary ones of every type are
read.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ehrmind.data.bounds import text_batches
from ehrmind.data.cases import load_cases
from ehrmind.data.ehr_labels import label_table
from ehrmind.data.files import read_table
from ehrmind.data.meds import read_shard
from ehrmind.types import InputError


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"PAR1\x00\xff\xff\xff\xffPAR1", b""])
@pytest.mark.parametrize("read", [read_table, label_table, load_cases, read_shard])
def test_a_broken_footer_is_one_sentence_and_nothing_on_the_terminal(
    tmp_path: Path, content: bytes, read: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet"):
        read(tmp_path / "a.parquet")
    assert capfd.readouterr() == ("", "")


def test_flipped_bytes_of_a_parquet_file_are_refused_or_read_and_never_a_panic(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"question": [f"q {n}" for n in range(200)], "answer": list(range(200))}).write_parquet(buffer)
    draw = np.random.default_rng(7)
    for _ in range(150):
        content = bytearray(buffer.getvalue())
        for place in draw.integers(4, len(content) - 8, 3):
            content[place] = draw.integers(0, 256)
        (tmp_path / "a.parquet").write_bytes(bytes(content))
        try:
            read_table(tmp_path / "a.parquet")
        except InputError as error:
            assert "a.parquet" in str(error)
    assert capfd.readouterr() == ("", "")


def test_ordinary_parquet_of_every_type_is_read_as_before(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None, "ü" * 1000] * 1000,
            "kind": pl.Series(["x", "y", None] * 1000, dtype=pl.Categorical),
            "whole": [1, None, -3] * 1000,
            "real": [0.1, 1e-9, None] * 1000,
            "day": [datetime.date(2020, 1, 31), None, datetime.date(1900, 1, 1)] * 1000,
            "time": [datetime.datetime(2020, 1, 31, 23, 59, 1), None, datetime.datetime(1900, 1, 1)] * 1000,
            "true": [True, False, None] * 1000,
        }
    )
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=700)
    expected = frame.select(pl.all().cast(pl.String).fill_null("")).rows()
    table = read_table(tmp_path / "a.parquet")
    assert [tuple(row.values()) for row in table.rows] == expected and list(table.columns) == frame.columns
    assert pl.concat(list(text_batches(tmp_path / "a.parquet", "a"))[1:]).height == 3000
