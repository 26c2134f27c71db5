"""The demo's recipe, smoke-sized, through the command line: without a network, with canaries in its
notes.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from ehrmind.data import load_cases, save_cases
from ehrmind.data.synthetic import synthetic_cases
from tests.e2e.recipes import DEMO, SMOKE, ehrmind
from tests.medcalc_cases import SHORT

NO_SOCKETS = """
import runpy, socket, sys
def refuse(*_, **__):
    raise RuntimeError("a socket was opened")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
sys.argv = ["ehrmind", *sys.argv[1:]]
runpy.run_module("ehrmind.cli", run_name="__main__")
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smoke-sized demo run with every socket blocked."""
    import sys

    run = tmp_path_factory.mktemp("demo") / "run"
    done = ehrmind("run", DEMO, "--out", run, *SMOKE, start=[sys.executable, "-c", NO_SOCKETS])
    assert done.returncode == 0, done.stderr
    return run


def test_the_demo_scores_four_arms_on_the_same_cases_without_a_network(demo: Path) -> None:
    results = json.loads((demo / "results.json").read_text())
    assert {arm: figures["n"] for arm, figures in results["arms"].items()} == dict.fromkeys(
        ("base", "rlvr", "sft", "sft_rlvr"), 21
    )
    low, high = results["pairs"]["sft_rlvr-sft"]["ci95"]
    assert -1 <= low <= results["pairs"]["sft_rlvr-sft"]["difference"] <= high <= 1


def test_the_demo_writes_its_page(demo: Path) -> None:
    page = (demo / "report.html").read_text()
    assert "sft_rlvr" in page or "SFT" in page
    assert "year old" not in page


def test_every_rollout_of_every_step_is_kept(demo: Path) -> None:
    rows = pl.read_parquet(demo / "protected" / "rollouts" / "*.parquet")
    assert rows.filter(pl.col("stage") == "rlvr-sft_rlvr").height == 3 * 7 * 4
    assert rows.filter(pl.col("stage").str.starts_with("evaluate-")).height == 4 * 2 * 21


@pytest.mark.slow
def test_canaries_in_notes_are_found_in_the_protected_store_and_nowhere_else(tmp_path: Path) -> None:
    canary = "Zanzibarquux"
    import dataclasses

    for split, seed, n in (("train", 1, 70), ("tuning", 2, 14), ("held_out", 3, 14)):
        planted = [
            dataclasses.replace(case, fields={**case.fields, "note": f"{case.fields['note']} {canary}."})
            for case in synthetic_cases(n, seed, split, **SHORT)  # type: ignore[arg-type]
        ]
        save_cases(planted, tmp_path / f"{split}.parquet")
    recipe = (
        DEMO.read_text().split("data:")[0]
        + "data:\n"
        + "".join(f"  {split}: {{cases: [{split}.parquet]}}\n" for split in ("train", "tuning", "held_out"))
    )
    (tmp_path / "recipe.yaml").write_text(
        recipe + "model:" + DEMO.read_text().split("model:")[1].replace("demo_base", str(DEMO.parent / "demo_base"))
    )
    settings = [item for item in SMOKE if not item.startswith("data.")]
    done = ehrmind("run", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "arms=[base,sft]", *settings)
    assert done.returncode == 0, done.stderr
    assert canary not in done.stdout + done.stderr
    inside, outside = [], []
    for file in (tmp_path / "run").rglob("*"):
        assert canary not in file.name
        if file.is_file() and file.suffix != ".parquet" and canary.encode() in file.read_bytes():
            (inside if "protected" in file.parts else outside).append(file.name)
    assert outside == []
    assert any(
        canary in case.fields["note"] for case in load_cases(tmp_path / "run" / "protected" / "cases" / "train.parquet")
    )
    refused = ehrmind("run", tmp_path / "recipe.yaml", "--out", tmp_path / "again", *settings, "prompts.max_tokens=20")
    assert refused.returncode == 2
    assert canary not in refused.stdout + refused.stderr and "Traceback" not in refused.stderr
