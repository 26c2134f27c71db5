"""New rows of every family as people hold them, without answers; and a model that answers as
planned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.cli import main
from ehrmind.config.predict import Predict
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.predict.models import PredictionModel
from ehrmind.predict.predict import predict
from ehrmind.predict.request import settings_of
from ehrmind.runs.predictions import Predictions
from ehrmind.runs.records import PredictingModel
from ehrmind.types import Case
from tests.meds_data import write_meds

TRIAL = {
    "inclusion_criteria": "Inclusion Criteria:\n - asthma for a year",
    "exclusion_criteria": " - pregnancy",
    "diseases_list": ["Asthma"],
}


def ehrmind(*arguments: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def medcalc_csv(
    folder: Path, notes: Sequence[str] = ("Weight 70 kg, height 170 cm.", "Weight 60 kg, height 160 cm.")
) -> Path:
    file = folder / "notes.csv"
    rows = {
        "Calculator Name": ["Body Mass Index (BMI)"] * len(notes),
        "Patient Note": notes,
        "Question": ["What is the patient's BMI?"] * len(notes),
    }
    pl.DataFrame(rows).write_csv(file)
    return file


def trials_files(folder: Path, patients: int = 2, trials: int = 3) -> tuple[Path, Path]:
    """(topics, records)"""
    topics, records = folder / "queries.jsonl", folder / "records.jsonl"
    topics.write_text(
        "".join(json.dumps({"_id": f"p{i}", "text": f"Patient {i} has asthma."}) + "\n" for i in range(patients))
    )
    rows = [{"_id": f"NCT0000000{i}", "brief_title": f"Trial {i} of asthma", **TRIAL} for i in range(trials)]
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return topics, records


def times_file(folder: Path, subjects: int = 30) -> tuple[Path, Path]:
    """(MEDS data set, subjects and times without labels)"""
    meds = write_meds(folder / "meds", subjects)
    times = folder / "high_potassium.parquet"
    pl.read_parquet(meds / "labels" / "high_potassium" / "labels.parquet").drop("boolean_value").write_parquet(times)
    return meds, times


def answered(thinking: str, answer: Any) -> str:
    return f"<think>{thinking}</think>\n<answer>{json.dumps({'answer': answer})}</answer>"


def potassium(prompt: str, key: int, member: int, skill: int) -> str:
    """Yes where the newest potassium is above 5, and says which it was."""
    found = re.search(r"potassium [\d., ]*?([\d.]+) mmol/L", prompt)
    value = found.group(1) if found else "0"
    return answered(f"The potassium is {value} mmol/L.", "yes" if float(value) > 5 else "no")


def asked(
    cases: Sequence[Case],
    out: Path,
    plan: Callable[[str, int, int, int], str] = potassium,
    *,
    engine: ScriptedEngine | None = None,
    model: str = "scripted",
    **changes: Any,
) -> Predictions:
    """`predict` with a scripted model; `changes` are of `Predict`, but `resume` and `form`."""
    options = {name: changes.pop(name) for name in ("resume", "form") if name in changes}
    settings: Predict = settings_of({"prompts": {"max_tokens": 1 << 16}, **changes})
    about = PredictingModel(name=model, arm=None, sha256={"model.safetensors": model})
    return predict(
        cases,
        out,
        settings,
        PredictionModel(about, lambda _: engine or ScriptedEngine(plan)),
        data="new.parquet",
        **options,
    )
