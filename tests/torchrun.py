"""Starts workers as a user does: `torchrun`, here over gloo, one thread each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def begun(workers: int, arguments: Sequence[str], *, restarts: int = 0) -> subprocess.Popen[str]:
    """`arguments` are a script's or `-m` and a module's."""
    paths = f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(workers),
        "--max-restarts",
        str(restarts),
    ]
    return subprocess.Popen(
        [*start, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def torchrun(workers: int, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    with begun(workers, arguments) as process:
        out, said = process.communicate(timeout=280)
        return subprocess.CompletedProcess(arguments, process.returncode, out, said)
