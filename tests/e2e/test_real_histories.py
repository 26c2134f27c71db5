"""The whole recipe on MEDS data sets with a tiny model, cut down: it must finish, whatever it
scores.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.recipes import ROOT, SMALL, ehrmind


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("synthea-meds", "long_stay_2d"),
        pytest.param("mimic-iv-demo-meds/meds", "lab_hyponatremia", marks=pytest.mark.long),
    ],
)
def test_the_ehr_recipe_finishes_on_real_files(data_dir: Path, tmp_path: Path, name: str, task: str) -> None:
    meds = data_dir / name
    named = [
        f"data.source.ehr.meds={meds}",
        f"data.source.ehr.labels={meds / 'labels' / task}",
        "prompts.history.max_tokens=200",
    ]
    done = ehrmind("run", ROOT / "recipes" / "ehr.yaml", "--out", tmp_path / "run", *named, *SMALL)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for arm in ("base", "rlvr", "sft", "sft_rlvr"):
        measures = results["arms"][arm]["measures"][f"ehr/{task}"]
        assert measures["n"] == 20 and 0 <= measures["risk"]["brier"] <= 1
    histories = json.loads((tmp_path / "run" / "stages" / "data.json").read_text())["histories"]
    assert histories["held_out"]["histories"] == 20 and histories["train"]["findings_shown"] > 0
    page = ehrmind("report", tmp_path / "run", "--with-text")
    assert page.returncode == 0, page.stderr
    assert "years old" in (tmp_path / "run" / "protected" / "report-with-text.html").read_text()
    assert "years old" not in (tmp_path / "run" / "report.html").read_text()
