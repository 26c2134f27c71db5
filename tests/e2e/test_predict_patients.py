"""A thousand unseen synthetic patients: `ehrmind predict` killed and resumed, scored by
meds-evaluation's own command, and the exported model opened by transformers. Every command with its
sockets blocked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from ehrmind.data import load_cases, save_cases
from ehrmind.predict.request import settings_of
from ehrmind.prompts import messages
from ehrmind.prompts.records import with_histories
from ehrmind.runs.predictions import read_predictions
from ehrmind.stages.models import choose
from tests.e2e.recipes import ROOT, ehrmind
from tests.e2e.test_demo import NO_SOCKETS
from tests.page_reader import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
OFFLINE = [sys.executable, "-c", NO_SOCKETS]
TASK, PATIENTS, FEWER = "next_creatinine_high", 1000, 200
SMALL = [
    "threads=1",
    "arms=[base, sft_rlvr]",
    "data.transfer={}",
    "data.train.limit=60",
    "data.tuning.limit=6",
    "data.held_out.limit=60",
    "pilot.questions=24",
    "pilot.samples=4",
    "pilot.interventions=0",
    "rlvr.steps=1",
    "rlvr.questions_per_step=4",
    "rlvr.samples=2",
    "evaluate.baseline=false",
]


def run(*arguments: object) -> str:
    done = ehrmind(*map(str, arguments), start=OFFLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on some synthetic subjects, and a thousand others that it has never seen, their labels
    put aside."""
    at = tmp_path_factory.mktemp("patients")
    run(
        "data", "synthetic", "ehr", "--subjects", 300, "--events", 120, "--labels", 2, "--seed", 1, "--out", at / "seen"
    )
    run(
        "data",
        "synthetic",
        "ehr",
        "--subjects",
        1200,
        "--events",
        120,
        "--labels",
        1,
        "--seed",
        9,
        "--out",
        at / "unseen",
    )
    source = [f"data.source.ehr.meds={at / 'seen'}", f"data.source.ehr.labels={at / 'seen' / 'labels' / TASK}"]
    run("run", ROOT / "recipes" / "demo_ehr.yaml", "--out", at / "run", *source, *SMALL)
    labels = pl.concat([pl.read_parquet(file) for file in (at / "unseen" / "labels" / TASK).rglob("*.parquet")]).head(
        PATIENTS
    )
    assert labels["subject_id"].n_unique() == PATIENTS
    labels.write_parquet(at / "labels.parquet")
    labels.select("subject_id", "prediction_time").write_parquet(at / "times.parquet")
    run(
        "data",
        "new",
        "ehr",
        "--meds",
        at / "unseen",
        "--times",
        at / "times.parquet",
        "--task",
        TASK,
        "--out",
        at / "new.parquet",
    )
    save_cases(load_cases(at / "new.parquet")[:FEWER], at / "fewer.parquet")
    return at


@pytest.fixture(scope="module")
def predicted(folder: Path) -> Path:
    """Killed three times with SIGKILL, and once more resumed."""
    out, command = (
        folder / "predicted",
        ["predict", folder / "run", folder / "new.parquet", "--out", folder / "predicted", "--page", "part=40"],
    )
    for wanted in (3, 9, 15):
        more = ["--resume"] if out.exists() else []
        process = subprocess.Popen(
            [*OFFLINE, *map(str, command), *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while (
            len(list(out.glob("parts/*.parquet"))) < wanted and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        assert process.poll() is None, "it was to be killed in the middle"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "predictions.parquet").exists() and len(list(out.glob("parts/*.parquet"))) < PATIENTS // 40
    said = run(*command, "--resume")
    assert f"of {PATIENTS:,} cases" in said
    return out


def test_every_patient_is_answered_once_whatever_killed_it(folder: Path, predicted: Path) -> None:
    frame = read_predictions(predicted)
    asked = load_cases(folder / "new.parquet")
    assert frame["id"].to_list() == [case.id for case in asked] and frame["id"].n_unique() == PATIENTS
    assert frame["answer"].is_in(["no", "yes"]).sum() > 0.9 * PATIENTS, frame["reason"].value_counts()
    run("predict", folder / "run", folder / "fewer.parquet", "--out", folder / "undisturbed", "part=40")
    whole, frame = read_predictions(folder / "undisturbed"), frame.head(FEWER)
    assert whole.drop("probability", "probabilities").equals(frame.drop("probability", "probabilities"))
    assert (whole["probability"] - frame["probability"]).abs().max() < 1e-5
    assert len(Page((predicted / "predictions.html").read_text()).tags) > PATIENTS


def test_meds_evaluations_own_command_scores_the_probabilities(folder: Path, predicted: Path, tmp_path: Path) -> None:
    """The labels come later, and are joined by subject and time."""
    pytest.importorskip("meds_evaluation")
    risks = pl.read_parquet(predicted / "meds" / f"{TASK}.parquet")
    labels = pl.read_parquet(folder / "labels.parquet").select("subject_id", "prediction_time", "boolean_value")
    joined = risks.join(labels, on=["subject_id", "prediction_time"], how="inner", validate="1:1")
    assert joined.height == risks.height == PATIENTS and "boolean_value" not in risks.columns
    joined.write_parquet(tmp_path / "scored.parquet")
    command = [Path(sys.executable).parent / "meds-evaluation-cli", f"predictions_path={tmp_path}/scored.parquet"]
    done = subprocess.run(
        [*command, f"output_file={tmp_path}/found.json"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["samples_equally_weighted"]
    print(f"meds-evaluation on {PATIENTS} unseen patients: {found}")
    assert found["roc_auc_score"] > 0.6, "the base reads a creatinine now and then"


def test_transformers_opens_the_exported_model_and_says_what_predict_says(folder: Path, predicted: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = folder / "exported"
    run("export", "model", folder / "run", "--out", out)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    how = settings_of(choose(out).asks)
    cases, _ = with_histories(load_cases(folder / "new.parquet")[:60], how.prompts.history)
    ours = read_predictions(predicted)["text"].to_list()
    for case, text in zip(cases, ours, strict=False):
        turns = [{"role": turn.role, "content": turn.content} for turn in messages(case, how.prompts.think)]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            theirs = model.generate(**prompt)  # greedy, and as long as its generation config says
        assert tokenizer.decode(theirs[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True) == text
    said = run("predict", out, folder / "fewer.parquet", "--out", folder / "by_export", "--format", "jsonl")
    assert "predictions.jsonl" in said
    assert (
        read_predictions(folder / "by_export")["answer"].to_list()
        == read_predictions(predicted)["answer"].to_list()[:FEWER]
    )
