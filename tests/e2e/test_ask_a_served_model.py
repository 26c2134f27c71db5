"""An exported model behind `transformers serve`: the example's OpenAI-style call and `ehrmind
predict --endpoint` get the answers that `ehrmind predict` gets here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ehrmind.data import load_cases, save_cases
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.runs.predictions import read_predictions
from tests.e2e.recipes import DEMO, ROOT, SMOKE, ehrmind
from tests.medcalc_cases import SHORT
from tests.served_model import served

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base, exported from a run that only scores it."""
    at = tmp_path_factory.mktemp("served")
    done = ehrmind("run", DEMO, "--out", at / "run", *SMOKE, "arms=[base]", "decoding.max_new_tokens=160")
    assert done.returncode == 0, done.stderr
    done = ehrmind("export", "model", at / "run", "--out", at / "model")
    assert done.returncode == 0, done.stderr
    save_cases(synthetic_cases(4, 5, "held_out", **SHORT), at / "new.parquet")
    return at / "model"


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with served(model, model.parent / "log") as address:
        yield address


def test_a_served_model_answers_as_it_does_here(model: Path, url: str) -> None:
    cases = model.parent / "new.parquet"
    for name, endpoint in (("here", []), ("served", ["--endpoint", url])):
        done = ehrmind("predict", model, cases, "--out", model.parent / name, *endpoint)
        assert done.returncode == 0, done.stderr
    here, served = (read_predictions(model.parent / name) for name in ("here", "served"))
    assert [text.strip() for text in served["text"]] == [text.strip() for text in here["text"]]
    assert served["answer"].to_list() == here["answer"].to_list() and served["answer"].null_count() < 4


def test_the_examples_own_call_gets_the_same_text(model: Path, url: str) -> None:
    cases = model.parent / "new.parquet"
    command = [sys.executable, ROOT / "examples" / "ask_a_served_model.py", model, cases, "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    here = read_predictions(model.parent / "here").row(0, named=True)
    assert here["text"].strip() in done.stdout and load_cases(cases)[0].id in done.stdout
    command[-1] = "http://models.example/v1"
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert refused.returncode == 1 and "another machine" in refused.stderr
