"""The study on a real model and real rows, in small: a few questions and two steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_study_runs_and_prints_its_tables(repository: Path, data_dir: Path, smollm2: Path, tmp_path: Path) -> None:
    script = repository / "benchmarks" / "real_model.py"
    asked = [
        "--out",
        str(tmp_path),
        "--model",
        str(smollm2),
        "--small",
        "--seed",
        "0",
        "--set",
        "arms=[sft, sft_rlvr]",
    ]
    done = subprocess.run(
        [sys.executable, str(script), "medcalc", "medcalc-second-pilot", *asked],
        capture_output=True,
        text=True,
        env={**os.environ, "EHRMIND_DATA": str(data_dir), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "| arm | stored | recomputed | corrected | malformed |" in lines
    for name in ("commonest_label", "sft", "sft_rlvr", "sft_rlvr − sft", "sft_rlvr − commonest_label"):
        assert any(line.startswith(f"| {name} |") for line in lines), name
    assert any(line.startswith("Seed 0, ") and " hours (" in line for line in lines)
    kept = json.loads((tmp_path / "records" / "medcalc-0.json").read_text())
    assert set(kept["arms"]) == {"sft", "sft_rlvr"}
    assert len(kept["arms"]["sft"]["right"]["recomputed"]) == len(kept["cases"]) == 6
    texts = (tmp_path / "records" / "medcalc-0.json").read_text()
    assert "patient" not in texts.lower() and "<answer>" not in texts
    assert json.loads((tmp_path / "records" / "medcalc-second-pilot-0.json").read_text())["expected"]
