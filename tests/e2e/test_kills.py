"""Every command that writes comes through kills, signals, a full disk and a loss of power at drawn
moments (tests/kills).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from ehrmind.cli.app import app
from tests.kills.commands import COMMANDS
from tests.kills.draws import Tally, run_draws

# Commands that write no file, and one that needs a hub.
WRITE_NOTHING = {"check", "calc", "recipes", "view", "doctor", "runs list", "runs verify", "export push"}
NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def names(group: object, before: str = "") -> set[str]:
    commands = getattr(group, "commands", None)
    if commands is None:
        return {before.strip()}
    return {name for part, inner in commands.items() for name in names(inner, f"{before} {part}")}


def came_through(tallies: dict[str, Tally]) -> int:
    failed = [said for tally in tallies.values() for said in tally.failed]
    assert not failed, "\n".join(failed)
    return sum(tally.struck for tally in tallies.values())


def test_every_command_that_writes_is_struck() -> None:
    there = names(typer.main.get_command(app))
    struck = {name for name in there for command in COMMANDS if f"{command.arguments} ".startswith(f"{name} ")}
    assert there - WRITE_NOTHING == struck


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_twenty_strikes_leave_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    (tmp_path / "run").mkdir()
    struck = came_through(run_draws(tmp_path / "quick", 17, 1, torch=False))
    assert (
        struck + came_through(run_draws(tmp_path / "run", 3, 1, "pilot")) >= 18
    )  # a kill by the clock may come too late


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_two_hundred_strikes_leave_nothing_half_done() -> None:
    mounts = shutil.which("unshare") and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0
    command = [sys.executable, "-m", "tests.kills", "--n", "200", "--seed", "0"]
    done = subprocess.run([*(NAMESPACE if mounts else []), *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
