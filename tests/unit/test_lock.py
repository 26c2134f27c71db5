"""One process at a time writes into a folder: real processes that hold, die, wait and start at the
same moment.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ehrmind.runs import lock
from ehrmind.runs.lock import LOCK, WRITER, lent, only_writer
from ehrmind.types import InputError

HOLD = """
import sys, time, os
from pathlib import Path
from ehrmind.runs.lock import only_writer, sign
folder = Path(sys.argv[1])
with only_writer(folder, wait=0.5):
    (folder / "protected").mkdir(exist_ok=True)
    sign(folder, folder / "protected")
    if "forks" in sys.argv and os.fork() == 0:
        sys.stdout.close()
        os.close(1)
        time.sleep(60)
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder's lock, until it is ended."""
    command = [sys.executable, "-c", HOLD, str(folder), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT", 0.5)


def test_a_second_process_is_told_which_one_writes_there_since_when_and_what_to_do(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as other, pytest.raises(InputError) as refused, only_writer(tmp_path / "run"):
        pass
    said = str(refused.value)
    assert (
        f"process {other.pid} of machine {socket.gethostname()}, since 20" in said
        and "Wait until it has ended, or end it" in said
    )
    assert (tmp_path / "run" / LOCK).read_bytes() == b"", "the machine's name stands under protected/ alone"
    assert (tmp_path / "run" / "protected" / WRITER).stat().st_mode & 0o777 == 0o600


def test_a_killed_process_releases_its_folder_at_once_though_its_child_lives(tmp_path: Path) -> None:
    with holder(tmp_path / "run", "forks") as other:
        other.kill()
        other.wait()
        before = time.monotonic()
        with only_writer(tmp_path / "run"):
            assert time.monotonic() - before < 0.4
            assert not (tmp_path / "run" / "protected" / WRITER).exists(), "it no longer writes there"
    assert not list((tmp_path / "run").rglob(".*")), "nothing of either is left"


def test_one_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as other:
        subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.3); os.kill({other.pid}, 15)"])
        with only_writer(tmp_path / "run", wait=10.0):
            pass


def test_seeds_have_the_lock_of_their_run_and_one_process_may_open_it_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: t")
    with only_writer(tmp_path), only_writer(tmp_path / "seeds" / "1"), only_writer(tmp_path):
        assert [path.name for path in tmp_path.rglob(LOCK)] == [LOCK]
    with holder(tmp_path), pytest.raises(InputError, match="is in use"), only_writer(tmp_path / "seeds" / "1"):
        pass
    (tmp_path / "link").symlink_to(tmp_path)
    with holder(tmp_path), pytest.raises(InputError, match="is in use"), only_writer(tmp_path / "link"):
        pass


def test_a_refused_start_gives_back_a_new_folder_and_takes_nothing_from_one_that_is_in_use(tmp_path: Path) -> None:
    def nothing(_: Path) -> bool:
        return False

    with pytest.raises(InputError), only_writer(tmp_path / "new", nothing):
        (tmp_path / "new" / "made").mkdir()
        raise InputError("no")
    assert not (tmp_path / "new").exists()
    with holder(tmp_path / "run"):
        with pytest.raises(InputError, match="is in use"), only_writer(tmp_path / "run", nothing):
            pass
        assert (tmp_path / "run" / "protected" / WRITER).is_file()


def test_of_many_that_start_at_the_same_moment_each_is_alone_while_it_writes(tmp_path: Path) -> None:
    work = """
import sys, time
from pathlib import Path
from ehrmind.runs.lock import only_writer
folder, begin = Path(sys.argv[1]), float(sys.argv[2])
time.sleep(max(0.0, begin - time.time()))
for _ in range(20):
    with only_writer(folder, wait=30.0):
        (folder / "here").mkdir()  # refused where another is there
        time.sleep(0.001)
        (folder / "here").rmdir()
"""
    begin = str(time.time() + 1.5)
    started = [subprocess.Popen([sys.executable, "-c", work, str(tmp_path / "run"), begin]) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert not list(tmp_path.glob("run/*"))


def test_what_is_lent_is_held_by_another_and_held_again_after_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with only_writer(run):
        with lent(run, wait=5.0), holder(run):
            pass
        taken = subprocess.run([sys.executable, "-c", HOLD, str(run)], capture_output=True, text=True)
        assert "is in use" in taken.stderr
    assert not (run / LOCK).exists()


def test_a_file_system_without_locks_is_said_once_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_here(descriptor: int, operation: int) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr("fcntl.flock", none_here)
    for _ in range(2):
        with only_writer(tmp_path / "run"):
            pass
    said = capsys.readouterr().err
    assert len(re.findall("without locks", said)) == 1 and "start only one" in said


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match="cannot be written to"), only_writer(tmp_path / "run"):
        pass
    assert (tmp_path / "theirs").read_text() == "precious"
