"""Smoke-sized recipes for end-to-end tests: the demo's own, cut down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "recipes" / "demo.yaml"
SMOKE = [
    "threads=1",
    "data.train.synthetic.n=140",
    "data.tuning.synthetic.n=14",
    "data.held_out.synthetic.n=21",
    "pilot.questions=14",
    "pilot.samples=4",
    "warmup.traces_per_stratum=16",
    "warmup.epochs=1",
    "warmup.strata=all",
    "warmup.rehearsal=0",
    "warmup.checkpoint_every=2",
    "rlvr.steps=3",
    "rlvr.questions_per_step=7",
    "rlvr.samples=4",
    "rlvr.tuning_every=2",
    "rlvr.checkpoint_every=1",
    "decoding.max_new_tokens=64",
]

# What the shipped recipes for real files are cut down by.
SMALL = [
    "data.train.limit=40",
    "data.tuning.limit=4",
    "data.held_out.limit=20",
    "model.tiny.hidden=32",
    "model.tiny.layers=2",
    "pilot.questions=8",
    "pilot.samples=2",
    "rlvr.steps=1",
    "rlvr.questions_per_step=4",
    "rlvr.samples=2",
    "decoding.max_new_tokens=32",
]


def ehrmind(
    *arguments: str | Path, start: list[str] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [*(start or [sys.executable, "-m", "ehrmind.cli"]), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False, timeout=400
    )
