"""Inputs of `ehrmind export verl` and `trl`, and what bash makes of the scripts that they write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ehrmind.config import parse_recipe
from ehrmind.data import save_cases
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.runs import Run, open_run
from ehrmind.stages.data import prepare_data
from ehrmind.types import Case
from tests.medcalc_cases import SHORT
from tests.small_models import small_model


def synthetic_splits() -> list[Case]:
    sizes = {"train": 14, "tuning": 7, "held_out": 7}
    return [case for seed, (split, n) in enumerate(sizes.items()) for case in synthetic_cases(n, seed, split, **SHORT)]  # type: ignore[arg-type]


def cases_file(folder: Path, cases: list[Case] | None = None) -> Path:
    file = folder / "cases.parquet"
    save_cases(synthetic_splits() if cases is None else cases, file)
    return file


def prepared_run(path: Path, family: str = "llama", **changes: Any) -> Run:
    """A run whose cases and base model are there; nothing has been trained."""
    splits = {
        split: {"synthetic": {"n": n, "seed": n, **SHORT}}
        for split, n in (("train", 14), ("tuning", 6), ("held_out", 7))
    }
    recipe = parse_recipe(
        {"name": "a run", "data": splits, "model": {"tiny": {}}, "decoding": {"max_new_tokens": 16}, **changes}
    )
    run = open_run(path, recipe, resume=False)
    prepare_data(run, recipe)
    small_model(run.model("base"), family)
    return run


def launched(folder: Path, *more: str, **environment: str) -> list[str]:
    """The arguments with which `launch.sh` starts its trainer; bash has read the script, and
    `printf` stands for the trainer."""
    program = folder.parent / "program"
    program.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    program.chmod(0o700)
    replaced = {"PYTHON": str(program), "LAUNCH": str(program), **environment}
    told = subprocess.run([folder / "launch.sh", *more], env=os.environ | replaced, capture_output=True, check=False)
    if told.returncode:
        raise RuntimeError(told.stderr.decode())
    return told.stdout.decode().removesuffix("\0").split("\0")
