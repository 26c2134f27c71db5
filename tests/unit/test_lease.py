"""One command at a time writes into a run folder in an object store; one that is dead or silent is
replaced with a sentence.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ehrmind.cluster import lease
from ehrmind.cluster.mirror import Mirror, staged
from ehrmind.runs.lock import LOCK
from ehrmind.types import InputError

pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "WAIT", 0.1)
    monkeypatch.setattr(lease, "SETTLES_WITHIN", 0.05)
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.1)
    monkeypatch.setattr(lease, "STALE_AFTER", 0.5)


def left_by(store: Path, **changes: object) -> Path:
    """The object of a command on another machine, which is never renewed."""
    file = store / "run" / "protected" / LOCK
    file.parent.mkdir(parents=True, exist_ok=True)
    now = time.time()
    about = {"owner": "another", "process": 7, "machine": "elsewhere", "since": now, "renewed": now, **changes}
    file.write_text(json.dumps(about))
    return file


def test_a_second_command_is_told_who_writes_under_the_url(tmp_path: Path) -> None:
    url = f"local://{tmp_path}/run"
    with staged(url) as (folder, mirror, owner):
        (folder / "recipe.yaml").write_text("name: t")
        mirror.push(folder)
        with (
            pytest.raises(
                InputError, match=rf"is in use: process {os.getpid()} of machine {socket.gethostname()}, since"
            ),
            staged(url),
        ):
            pass
        with staged(url, owner) as (copy, workers, _):
            assert [path.name for path in copy.glob("*.yaml")] == ["recipe.yaml"] and not list(copy.rglob(LOCK)), (
                "a worker of ours"
            )
            (copy / "results.json").write_text("{}")
            workers.push(copy)
        lock = tmp_path / "run" / "protected" / LOCK
        assert lock.parent.stat().st_mode & 0o777 == 0o700, "the machine's name lies where record text does"
    assert not lock.exists() and (tmp_path / "run" / "results.json").is_file()


def test_a_lease_is_renewed_while_its_command_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE_AFTER", 2.0)  # a busy machine may pause the thread that renews
    url = f"local://{tmp_path}/run"
    with staged(url):
        time.sleep(2.3)
        with pytest.raises(InputError, match="is in use"), staged(url):
            pass


def test_what_is_no_longer_renewed_is_taken_over_and_its_owner_writes_nothing_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_by(tmp_path)
    late = Mirror(f"local://{tmp_path}/run", "another")
    with (
        pytest.raises(InputError, match="is in use: process 7 of machine elsewhere"),
        staged(f"local://{tmp_path}/run"),
    ):
        pass
    left_by(tmp_path, renewed=time.time() - 1)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "results.json").write_text("{}")
    with staged(f"local://{tmp_path}/run"):
        assert "which no longer renews its lock; this command takes its place" in capsys.readouterr().err
        with pytest.raises(InputError, match="was taken over by process"):
            late.push(tmp_path / "copy")
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_command_that_was_killed_on_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = left_by(tmp_path, process=dead.pid, machine=socket.gethostname())
    with staged(f"local://{tmp_path}/run"):
        assert json.loads(lock.read_text())["owner"] != "another"


def test_a_torn_or_foreign_lock_object_is_no_obstacle_and_no_fault(tmp_path: Path) -> None:
    lock = left_by(tmp_path)
    lock.write_text('{"owner": "an')
    with staged(f"local://{tmp_path}/run"):
        assert json.loads(lock.read_text())["owner"] != "another"


def test_of_two_that_start_at_the_same_moment_one_is_refused(tmp_path: Path) -> None:
    work = """
import sys, time
from ehrmind.cluster import lease
from ehrmind.cluster.mirror import staged
from ehrmind.types import InputError
lease.WAIT, lease.SETTLES_WITHIN = 0.5, 0.5
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
try:
    with staged(sys.argv[1]):
        time.sleep(3.0)
except InputError:
    sys.exit(2)
"""
    begin = str(time.time() + 2.0)
    started = [subprocess.Popen([sys.executable, "-c", work, f"local://{tmp_path}/run", begin]) for _ in range(2)]
    assert sorted(process.wait(60) for process in started) == [0, 2]
