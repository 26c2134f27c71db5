"""Whole commands that meet in one run folder: one is refused with a sentence, and the other's
results are those of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RECIPE = """
name: t
threads: 1
data:
  train: {synthetic: {n: 12, seed: 1, tasks: [sirs], difficulty: easy, manners: [telegraphic], styles: [jotted]}}
  held_out: {synthetic: {n: 6, seed: 3, tasks: [sirs], difficulty: easy, manners: [telegraphic], styles: [jotted]}}
model: {tiny: {hidden: 16, layers: 1, heads: 2}}
decoding: {temperature: 1.0, max_new_tokens: 12}
pilot: {questions: 4, samples: 2, interventions: 0}
rlvr: {steps: 40, questions_per_step: 4, samples: 2, checkpoint_every: 1, tuning_every: 100}
arms: [base, rlvr]
evaluate: {decodings: [greedy]}
"""


def start(folder: Path, name: str, *more: str) -> subprocess.Popen[str]:
    (folder / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "ehrmind", "run", "recipe.yaml", "--out", name, *more]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )


def figures(run: Path) -> object:
    results = json.loads((run / "results.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = ("time", "digest", "tokens_per_second")
    return results["arms"]["rlvr"]["by_stratum"], [
        {key: value for key, value in line.items() if key not in times} for line in lines
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert start(folder, "run").wait(300) == 0
    return folder / "run"


def test_of_two_starts_at_the_same_moment_one_runs_as_if_alone(undisturbed: Path, tmp_path: Path) -> None:
    two = [start(tmp_path, "run"), start(tmp_path, "run")]
    said = {process.pid: process.communicate(timeout=300)[1] for process in two}
    assert sorted(process.returncode for process in two) == [0, 2]
    loser = next(process for process in two if process.returncode)
    last = said[loser.pid].strip().splitlines()[-1]
    assert "is in use: process" in last and "Traceback" not in said[loser.pid]
    assert figures(tmp_path / "run") == figures(undisturbed)
    assert not list((tmp_path / "run").rglob(".*")), "nothing of either is left"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_is_resumed_at_once(how: signal.Signals, undisturbed: Path, tmp_path: Path) -> None:
    first = start(tmp_path, "run")
    while not list((tmp_path / "run").glob("protected/checkpoints/*/step-*")) and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(how)
    second = start(tmp_path, "run", "--resume")
    assert second.wait(300) == 0 and first.wait() != 0
    assert figures(tmp_path / "run") == figures(undisturbed)
    assert not list((tmp_path / "run").rglob(".*"))
