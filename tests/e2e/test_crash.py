"""A run that is killed with SIGKILL at any moment resumes to the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.e2e.recipes import DEMO, SMOKE

ARMS = ("sft", "rlvr", "sft_rlvr")
COMMAND = [sys.executable, "-m", "ehrmind.cli", "run", str(DEMO)]


def weights(run: Path) -> dict[str, bytes]:
    return {
        f"{arm}/{name}": tensor.tobytes()
        for arm in ARMS
        for name, tensor in sorted(load_file(run / "protected" / "models" / arm / "model.safetensors").items())
    }


def metrics_lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.is_file() else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run([*COMMAND, "--out", str(run), *SMOKE], check=True, capture_output=True, timeout=400)
    return run


@pytest.mark.slow
@pytest.mark.timeout(900)  # seven starts, and another test runs at the same time
def test_a_run_killed_at_five_moments_ends_with_the_same_weights_bit_for_bit(undisturbed: Path, tmp_path: Path) -> None:
    run, moments = tmp_path / "run", random.Random(0)
    kills = 0
    for extra in (
        1,
        2,
        2,
        2,
        2,
    ):  # learning steps to see before the next kill, so that warm-up and both RLVR stages are hit
        process = subprocess.Popen(
            [*COMMAND, "--out", str(run), *SMOKE, *(["--resume"] if run.exists() else [])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seen, wait_until = metrics_lines(run), time.monotonic() + 120
        while metrics_lines(run) < seen + extra and process.poll() is None and time.monotonic() < wait_until:
            time.sleep(0.02)
        time.sleep(moments.random() * 0.3)  # anywhere in the next step, a checkpoint's writing included
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 5
    tear_newest_checkpoint(run)
    subprocess.run([*COMMAND, "--out", str(run), *SMOKE, "--resume"], check=True, capture_output=True, timeout=400)
    assert weights(run) == weights(undisturbed)


def tear_newest_checkpoint(run: Path) -> None:
    """Leaves what a kill inside a checkpoint's writing leaves: a partial folder next to the whole
    ones."""
    for stage in (run / "protected" / "checkpoints").iterdir():
        torn = stage / ".step-000099.partial"
        torn.mkdir()
        (torn / "state.safetensors").write_bytes(b"half of it")
