"""Append-only files: a torn last line is cut off and said, a damaged line is named, wherever it was
torn or changed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehrmind.runs.lines import append_line, keep_lines, line_of, lines_in, mend, read_lines
from ehrmind.types import InputError

ROWS: list[dict[str, Any]] = [
    {"stage": "warmup", "step": step, "loss": 1 / 3, "said": 'a\u2028b "ü" \\n'} for step in range(3)
]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for row in ROWS:
        append_line(tmp_path / "metrics.jsonl", row)
    return tmp_path / "metrics.jsonl"


@given(st.dictionaries(st.text(), PLAIN, min_size=1))
@settings(max_examples=30)
def test_what_is_written_comes_back_as_it_was(row: dict[str, Any]) -> None:
    line = line_of(row)
    assert line.count(b"\n") == 1 and json.loads(line)["digest"]


def test_lines_come_back_without_their_digests(file: Path) -> None:
    assert read_lines(file) == ROWS and [line.number for line in lines_in(file)] == [1, 2, 3]


def test_a_line_torn_at_any_byte_is_passed_over_and_cut_off_before_the_next(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = file.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        file.write_bytes(whole[:end])
        is_all_there = end >= len(whole) - 1  # only its end is missing
        assert read_lines(file) == (ROWS if is_all_there else ROWS[:2])
        append_line(file, {"stage": "warmup", "step": 9})
        assert read_lines(file) == [*(ROWS if is_all_there else ROWS[:2]), {"stage": "warmup", "step": 9}]
        told = capsys.readouterr().err
        assert ("line 3: torn" in told) == (start < end and not is_all_there), (end, told)


def test_zeros_behind_the_last_line_are_cut_off(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file system may leave them where the machine lost its power."""
    file.write_bytes(file.read_bytes() + bytes(4096))
    mend(file)
    assert read_lines(file) == ROWS and "line 4: torn" in capsys.readouterr().err


def test_every_bit_that_flips_is_named_by_its_line(file: Path) -> None:
    whole = file.read_bytes()
    for place in range(len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(bytes(changed))
        number = whole[:place].count(b"\n") + 1
        with pytest.raises(InputError, match=rf"metrics\.jsonl, line {number}: damaged"):
            read_lines(file)


def test_a_flipped_end_of_the_last_line_costs_nothing_of_it(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    mend(file)
    assert file.read_bytes() == whole


def test_forgetting_leaves_the_other_lines_as_they_were(file: Path) -> None:
    before = file.read_bytes().splitlines(keepends=True)
    keep_lines(file, lambda row: row["step"] != 1)
    assert file.read_bytes().splitlines(keepends=True) == [before[0], before[2]]


def test_an_append_that_fails_adds_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: half of a line is taken back at once."""
    whole, write = file.read_bytes(), os.write

    def half(descriptor: int, content: Any) -> int:
        if len(content) < 60:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:50])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        append_line(file, ROWS[0])
    monkeypatch.undo()
    assert file.read_bytes() == whole
