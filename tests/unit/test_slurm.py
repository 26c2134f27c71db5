"""examples/slurm.sbatch: a job goes back into the queue if SIGTERM ended the run, and only then."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ehrmind.cli.errors import TERMINATED

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "slurm.sbatch"


@pytest.mark.parametrize(("code", "queued"), [(TERMINATED, ["requeue 7"]), (0, []), (2, [])])
def test_a_job_is_queued_again_only_if_its_time_was_over(code: int, queued: list[str], tmp_path: Path) -> None:
    commands = {"srun": f'echo "$@" > {tmp_path}/started; exit {code}', "scontrol": f'echo "$@" >> {tmp_path}/queued'}
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    given = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "RUN": "runs/a b"}
    assert subprocess.run(["bash", str(SCRIPT)], env=given, check=False).returncode == code
    assert (tmp_path / "started").read_text().strip() == "ehrmind run mine.yaml --out runs/a b --resume"
    written = tmp_path / "queued"
    assert (written.read_text().splitlines() if written.is_file() else []) == queued
