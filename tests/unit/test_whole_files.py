"""Files are whole or absent, also over a power loss, and leftovers of a kill are distinguished from
what a living process writes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.files import (
    append,
    clear_leftovers,
    is_leftover,
    write_bytes,
    write_json,
    write_parquet,
    write_private,
    write_text,
    writing,
    written_whole,
)

WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_bytes(path, b"x"),
    "text": lambda path: write_text(path, "x"),
    "json": lambda path: write_json(path, {"x": 1}),
    "parquet": lambda path: write_parquet(path, pl.DataFrame({"x": [1]})),
    "private": lambda path: write_private(path, b"x"),
}
HOLDS = """
import sys, time
from pathlib import Path
from ehrmind.files import writing, written_whole
with writing(Path(sys.argv[1]) / "file.json") as file, written_whole(Path(sys.argv[1]) / "folder") as folder:
    file.write(b"half of it")
    file.flush()
    (folder / "part").write_text("half of it")
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Returns what is flushed and renamed, in order, by name."""
    made: list[tuple[str, str]] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def name_of(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (made.append(("sync", name_of(descriptor))), fsync(descriptor))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda path, to: (made.append(("rename", path.name)), replace(path, to))[1])
    monkeypatch.setattr(Path, "rename", lambda path, to: (made.append(("rename", path.name)), rename(path, to))[1])
    return made


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_is_on_the_disk_before_it_has_its_name(kind: str, tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    WRITERS[kind](tmp_path / "name")
    (_, flushed), (_, renamed), last = calls
    assert [act for act, _ in calls] == ["sync", "rename", "sync"] and flushed == renamed and is_leftover(flushed)
    assert last == ("sync", tmp_path.name) and [path.name for path in tmp_path.iterdir()] == ["name"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    with written_whole(tmp_path / "folder") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "part").write_text("x")
    renamed = calls.index(("rename", partial.name))
    assert {"part", "inner", partial.name} <= {name for _, name in calls[:renamed]} and (
        "sync",
        tmp_path.name,
    ) in calls[renamed:]


def test_a_private_file_is_its_owners_alone_from_the_first_byte_on(tmp_path: Path) -> None:
    with writing(tmp_path / "name", private=True) as file:
        (partial,) = tmp_path.iterdir()
        assert partial.stat().st_mode & 0o777 == 0o600
        file.write(b"text of a record")
    assert (tmp_path / "name").stat().st_mode & 0o777 == 0o600


def test_what_stood_there_stays_if_the_writing_breaks_off(tmp_path: Path) -> None:
    write_text(tmp_path / "name", "before")
    with pytest.raises(RuntimeError), writing(tmp_path / "name") as file:
        file.write(b"half")
        raise RuntimeError
    with written_whole(tmp_path / "folder") as partial:
        (partial / "part").write_text("before")
    with pytest.raises(RuntimeError), written_whole(tmp_path / "folder") as partial:
        raise RuntimeError
    assert (tmp_path / "name").read_text() == "before" and (tmp_path / "folder" / "part").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"name", "folder"}


def test_a_folder_killed_while_it_is_replaced_is_there_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with written_whole(tmp_path / "folder") as partial:
        (partial / "part").write_text("before")

    def kill_between(path: Path, to: Path, real: Any = Path.rename) -> Any:
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt
        return real(path, to)

    monkeypatch.setattr(Path, "rename", kill_between)
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "folder") as partial:
        (partial / "part").write_text("after")
    monkeypatch.undo()
    assert not (tmp_path / "folder").exists()
    clear_leftovers(tmp_path)
    assert (tmp_path / "folder" / "part").read_text() == "before" and [path.name for path in tmp_path.iterdir()] == [
        "folder"
    ]


def test_leftovers_of_a_kill_go_with_the_next_writing_and_those_of_a_living_process_stay(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"there\n"
    half = {path.name for path in tmp_path.iterdir()}
    assert len(half) == 2 and all(map(is_leftover, half))
    write_text(tmp_path / "file.json", "ours")
    assert half < {path.name for path in tmp_path.iterdir()}, "the living process goes on with its own"
    process.send_signal(signal.SIGKILL)
    process.wait()
    write_text(tmp_path / "file.json", "ours again")
    with written_whole(tmp_path / "folder") as folder:
        (folder / "part").write_text("ours")
    assert {path.name for path in tmp_path.iterdir()} == {"file.json", "folder"}


@pytest.mark.parametrize(
    "name",
    [".env", ".partial", ".notes.partial", ".a.12345678.txt", "a.12345678.partial", ".a.1234567.partial", ".git"],
)
def test_other_peoples_hidden_files_are_no_leftovers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    clear_leftovers(tmp_path, alone=True)
    assert (tmp_path / name).read_text() == "precious" and not is_leftover(name)


def test_a_name_of_any_length_has_a_sibling(tmp_path: Path) -> None:
    write_text(tmp_path / ("ü" * 127), "x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["x"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "nowhere" / "name.json", "x")
    assert caught.value.filename == str(tmp_path / "nowhere" / "name.json")


def test_an_append_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (flushed.append(os.fstat(descriptor).st_size), fsync(descriptor))[1]
    )
    append(tmp_path / "lines", b"one\n")
    append(tmp_path / "lines", b"two\n")
    assert {4, 8} <= set(flushed)
