"""The whole recipe on TREC Clinical Trials files with a tiny model, cut down: it must finish,
whatever it scores.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.recipes import ROOT, SMALL, ehrmind


@pytest.mark.slow
@pytest.mark.parametrize("year", ["2021", pytest.param("2022", marks=pytest.mark.long)])
def test_the_trials_recipe_finishes_on_real_files(data_dir: Path, tmp_path: Path, year: str) -> None:
    folder = data_dir / "trec-clinical-trials"
    files = {
        "topics": folder / f"trec_{year}_queries.jsonl.gz",
        "qrels": folder / f"trec_{year}_qrels.tsv.gz",
        "trials": f"[{folder}/ctgov_trials.parquet,{folder}/trialgpt_parsed_trials.jsonl.gz]",
    }
    named = [f"data.source.trials.{key}={value}" for key, value in files.items()]
    done = ehrmind("run", ROOT / "recipes" / "trials.yaml", "--out", tmp_path / "run", *named, *SMALL)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for arm in ("base", "rlvr", "sft", "sft_rlvr"):
        assert results["arms"][arm]["measures"]["trials/eligibility"]["n"] == 20
        assert len((tmp_path / "run" / "trec_runs" / f"{arm}-greedy.txt").read_text().splitlines()) == 20
