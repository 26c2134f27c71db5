"""The folder of `ehrmind predict`: it removes only its own files, proves its parts, and is its
owner's alone.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from ehrmind.runs.predictions import frame_of, open_predictions
from ehrmind.types import InputError


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}


def test_predictions_are_closed_when_they_are_opened(tmp_path: Path) -> None:
    out = tmp_path / "out"
    open_predictions(out, {"model": "m"}, resume=False).write_part(0, [])
    for path in (out, *out.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    open_predictions(out, {"model": "m"}, resume=True)
    assert modes(out) == {0o700, 0o600}


def test_somebodys_dotfiles_are_neither_an_empty_folder_nor_leftovers(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=1")
    with pytest.raises(InputError, match="is not empty and holds no predictions"):
        open_predictions(tmp_path, {"model": "m"}, resume=True)
    (tmp_path / ".env").rename(tmp_path / "env")
    out = open_predictions(tmp_path / "out", {"model": "m"}, resume=False)
    theirs = (".env", "parts/.git/config", ".predictions.parquet.swp", ".cache/x", "parts/notes.txt")
    for name in theirs:
        (out.path / name).parent.mkdir(parents=True, exist_ok=True)
        (out.path / name).write_text("mine")
    half = out.path / "parts" / ".000000.parquet.0a1b2c3d.partial"
    half.write_bytes(b"half")
    open_predictions(out.path, {"model": "m"}, resume=True).write_part(0, [])
    out.tidy()
    assert all((out.path / name).is_file() for name in theirs) and not half.exists()
    assert not (out.path / "parts" / "000000.parquet").exists()


def test_a_whole_that_a_kill_left_unlisted_is_put_together_again(tmp_path: Path) -> None:
    out = open_predictions(tmp_path / "out", {"model": "m"}, resume=False)
    (out.path / "predictions.parquet").write_bytes(b"not listed")
    assert out.final() is None
    out.write_final(frame_of([]), "parquet")
    assert out.final() == out.path / "predictions.parquet"


def test_a_part_that_a_kill_left_unlisted_goes_when_the_work_goes_on(tmp_path: Path) -> None:
    out = open_predictions(tmp_path / "out", {"model": "m"}, resume=False)
    out.write_part(0, [])
    for name in ("000001.parquet", "theirs.parquet"):
        (out.path / "parts" / name).write_bytes(b"x")
    open_predictions(out.path, {"model": "m"}, resume=True)
    assert sorted(path.name for path in (out.path / "parts").iterdir()) == ["000000.parquet", "theirs.parquet"]


def test_a_part_that_was_changed_is_named_and_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = open_predictions(tmp_path / "out", {"model": "m"}, resume=False)
    for number in range(3):
        out.write_part(number, [])
    changed = out.path / "parts" / "000001.parquet"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    with pytest.raises(InputError, match=r"000001\.parquet is damaged"):
        out.parts()
    assert open_predictions(out.path, {"model": "m"}, resume=True).written_parts() == [0, 2]
    assert "000001.parquet is damaged; it is made again" in capsys.readouterr().err
    assert json.loads((out.path / "asked.json").read_text()) == {"model": "m"}
