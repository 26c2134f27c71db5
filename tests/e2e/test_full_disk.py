"""A disk that is really full: a small file system of this test's own, in a mount namespace that
ends with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.recipes import DEMO, SMOKE

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
SCRIPT = """
mount -t tmpfs -o size=9m tmpfs "$1"; shift
out=$1; shift
"$@" --out "$out"; echo "first: $?"
test -e "$out/results.json" && echo "finished in spite of it"
ls "$out/stages"
mount -o remount,size=200m "$(dirname "$out")"
"$@" --out "$out" --resume; echo "second: $?"
test -s "$out/results.json" && echo "finished"
"""


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.mark.long
def test_a_run_on_a_full_disk_says_so_and_resumes_when_there_is_room(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this machine does not let a test mount a file system of its own")
    command = [sys.executable, "-m", "ehrmind.cli", "run", str(DEMO), *SMOKE]
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", SCRIPT, "sh", str(tmp_path), str(tmp_path / "run"), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert "first: 2" in done.stdout and "the disk is full" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "in spite of it" not in done.stdout
    assert "pilot.json" in done.stdout  # what was finished stayed
    assert "second: 0\nfinished" in done.stdout, done.stdout + done.stderr
