"""The whole recipe on real MedCalc-Bench rows with a tiny model, cut down: it must finish, whatever
it scores.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.recipes import ROOT, ehrmind

SMALL = [
    "data.train.limit=48",
    "data.tuning.limit=4",
    "data.held_out.limit=24",
    "model.tiny.hidden=32",
    "model.tiny.layers=2",
    "pilot.questions=8",
    "pilot.samples=2",
    "rlvr.steps=1",
    "rlvr.questions_per_step=4",
    "rlvr.samples=2",
    "decoding.max_new_tokens=48",
]


RECOMPUTED = ["data.train.recompute=true", "data.held_out.recompute=true", "warmup.traces=calculators"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels", [pytest.param([], id="as stored", marks=pytest.mark.long), pytest.param(RECOMPUTED, id="recomputed")]
)
def test_the_medcalc_recipe_finishes_on_real_rows(data_dir: Path, tmp_path: Path, labels: list[str]) -> None:
    rows = data_dir / "medcalc-bench"
    files = [
        f"data.train.medcalc=[{rows}/train_subset_v1.0.parquet]",
        f"data.held_out.medcalc=[{rows}/test_v1.0_dev.csv.gz]",
    ]
    done = ehrmind("run", ROOT / "recipes" / "medcalc.yaml", "--out", tmp_path / "run", *files, *SMALL, *labels)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {figures["n"] for figures in results["arms"].values()} == {24}
    data = json.loads((tmp_path / "run" / "stages" / "data.json").read_text())
    assert data["cases"]["held_out"] == 24 and data["train_notes_also_held_out_dropped"] >= 0
    if labels:
        assert data["sources"]["held_out"]["recomputed"]["label changed"] > 80
        warmup = json.loads((tmp_path / "run" / "stages" / "warmup.json").read_text())
        assert warmup["traces"] > 20 and "the verifier refuses the worked answer" not in warmup["left_out"]
