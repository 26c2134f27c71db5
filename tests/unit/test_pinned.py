"""Pins of a run when it begins: the files that decide its answers, and the day its prompts are
written for.
"""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data import load_cases, save_cases
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import gold_response, messages
from ehrmind.runs import Run
from ehrmind.stages import provenance as pinned
from ehrmind.stages.digests import differing_files, digests
from ehrmind.stages.models import choose
from ehrmind.stages.pipeline import STAGES, run_pipeline
from ehrmind.stages.provenance import dated, day_of, stages_of
from ehrmind.stages.round_trip import refuse_lost_answers
from ehrmind.stages.seeds import run_seeds
from ehrmind.types import InputError
from tests.chat_templates import CHATML, CHATML_END
from tests.medcalc_cases import SHORT
from tests.new_rows import ehrmind
from tests.small_models import cases, small_model
from tests.stored import drop

LATER = date.today() + timedelta(days=3)
WITH_DAY = "{{ '<|user|>' + strftime_now('%d %b %Y') + '<|end|>\n' }}" + CHATML + CHATML_END


class Later(date):
    @classmethod
    def today(cls) -> date:
        return LATER


def recipe(model: Path, **changes: Any) -> Recipe:
    splits = {
        split: {"synthetic": {"n": 4, "seed": n, **SHORT}} for n, split in enumerate(("train", "tuning", "held_out"))
    }
    tree = {
        "data": splits,
        "model": {"name": str(model)},
        "arms": ["base"],
        "decoding": {"max_new_tokens": 4},
        "evaluate": {"decodings": ["greedy"]},
    }
    return parse_recipe({**tree, "pilot": {"questions": 2, "samples": 2, "interventions": 0}, **changes})


def scripted(recipe: Recipe, folder: Path) -> ScriptedEngine:
    return ScriptedEngine(lambda *_: "<think>so</think>\n<answer>{}</answer>")


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "model.safetensors.index.json",
        "additional_chat_templates/tool_use.jinja",
        "tekken.json",
    ],
)
def test_a_run_is_not_resumed_where_a_file_that_decides_answers_was_changed_or_added(tmp_path: Path, name: str) -> None:
    model = small_model(tmp_path / "model", "llama")
    run_pipeline(recipe(model), tmp_path / "run", stages=("pilot",), open_engine=scripted)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text((model / name).read_text() + " " if (model / name).is_file() else "{}")
    with pytest.raises(InputError, match=rf"another model than the one now in model \({name}\); put that back"):
        run_pipeline(recipe(model), tmp_path / "run", resume=True, open_engine=scripted)
    with pytest.raises(InputError, match=rf"The arm base of .* is not the run's: {name} changed; put that back"):
        choose(tmp_path / "run")


def test_weights_in_a_folder_of_the_directory_are_digested_too(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", "llama")
    (model / "parts").mkdir()
    (model / "model.safetensors").rename(model / "parts" / "a.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "parts/a.safetensors", "b": "../elsewhere.safetensors", "c": None}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "elsewhere.safetensors").write_text("")
    found = digests(model)
    assert {"parts/a.safetensors", "model.safetensors.index.json", "tokenizer.json"} <= found.keys()
    assert not any("elsewhere" in name for name in found)
    (model / "parts" / "a.safetensors").write_text("others")
    assert differing_files(found, digests(model)) == ["parts/a.safetensors"]


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "chat_template.jinja", "added_tokens.json", "generation_config.json"]
)
def test_a_prediction_is_not_resumed_with_another_tokenizer_or_template(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model = small_model(tmp_path / "model", "llama")
    (model / "chat_template.jinja").write_text(CHATML + CHATML_END)
    save_cases(cases(2), tmp_path / "new.parquet")
    command = ("predict", model, tmp_path / "new.parquet", "--out", tmp_path / "out", "decoding.max_new_tokens=2")
    assert ehrmind(*command) == 0
    (model / name).write_text((model / name).read_text() + " " if (model / name).is_file() else "{}")
    assert ehrmind(*command, "--resume") == 2
    said = capsys.readouterr().err
    assert re.search(rf"cannot be resumed; these differ: .*model\.sha256\.{re.escape(name)}", said), said


def test_a_run_of_an_earlier_version_without_a_day_is_refused_in_a_sentence(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", "llama")
    run = run_pipeline(recipe(model), tmp_path / "run", stages=("pilot",), open_engine=scripted)
    old = run.read_json("provenance.json")
    run.write_json("provenance.json", {name: value for name, value in old.items() if name != "date"})
    with pytest.raises(InputError, match=r"provenance\.json is not as this version of ehrmind writes it \(date: "):
        run_pipeline(recipe(model), tmp_path / "run", resume=True, open_engine=scripted)


def test_an_arm_that_was_changed_after_its_training_is_neither_scored_nor_asked(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", "llama")
    chosen = recipe(model, arms=["sft"], warmup={"epochs": 1, "batch": 4})
    run = run_pipeline(chosen, tmp_path / "run", stages=("pilot", "warmup"))
    assert "chat_template.jinja" in run.done("warmup")["model_sha256"]  # type: ignore[index]
    (run.model("sft") / "chat_template.jinja").write_text(CHATML + CHATML_END)
    for tried in (lambda: run_pipeline(chosen, tmp_path / "run", resume=True), lambda: choose(tmp_path / "run", "sft")):
        with pytest.raises(InputError, match=r"chat_template\.jinja is damaged.* restore"):
            tried()


def test_a_run_that_goes_on_later_writes_the_day_on_which_it_began(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", "llama")
    (model / "chat_template.jinja").write_text(WITH_DAY)
    said: list[str] = []

    def opened(recipe: Recipe, folder: Path) -> Any:
        said.append(str(recipe.model.date))
        return scripted(recipe, folder)

    run = run_pipeline(recipe(model), tmp_path / "run", stages=("pilot",), open_engine=opened)
    run_pipeline(recipe(model), tmp_path / "run", resume=True, open_engine=opened, began=LATER)
    run_pipeline(recipe(model), tmp_path / "another", open_engine=opened, began=LATER)
    run_pipeline(dated(recipe(model), date(2024, 7, 26)), tmp_path / "named", open_engine=opened, began=LATER)
    today = date.today().isoformat()
    assert (
        list(dict.fromkeys(said)) == [today, LATER.isoformat(), "2024-07-26"]
        and run.read_json("provenance.json")["date"] == today
    )
    assert choose(tmp_path / "run").asks["model"]["date"] == today and day_of(Run(tmp_path / "another")) == LATER


def test_a_run_knows_which_stages_its_last_command_asked_for(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", "llama")
    run = run_seeds(recipe(model, seeds=2), tmp_path / "run", stages=("pilot",), open_engine=scripted)
    assert stages_of(run) == ("pilot",)
    run_seeds(recipe(model, seeds=2), tmp_path / "run", resume=True, open_engine=scripted)
    assert stages_of(run) == STAGES


def test_all_seeds_have_the_day_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(tmp_path / "model", "llama")
    run = run_seeds(recipe(model, seeds=2), tmp_path / "run", stages=("pilot",), open_engine=scripted)
    drop(run.of_seed(1).path / "provenance.json")
    monkeypatch.setattr(pinned, "date", Later)
    run_seeds(recipe(model, seeds=2), tmp_path / "run", resume=True, stages=("pilot",), open_engine=scripted)
    assert [day_of(part) for part in run.seeds()] == [date.today()] * 2


def test_a_model_without_a_run_is_predicted_with_for_the_day_on_which_the_prediction_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ehrmind.predict import request

    model = small_model(tmp_path / "model", "llama")
    (model / "chat_template.jinja").write_text(WITH_DAY)
    save_cases(cases(3), tmp_path / "new.parquet")
    command = ("predict", model, tmp_path / "new.parquet", "--out", tmp_path / "out", "decoding.max_new_tokens=4")
    assert ehrmind(*command) == 0
    (tmp_path / "out" / "predictions.parquet").unlink()
    monkeypatch.setattr(request, "date", Later)
    (tmp_path / "out" / "parts").mkdir()
    assert ehrmind(*command, "--resume") == 0
    asked = json.loads((tmp_path / "out" / "asked.json").read_text())
    assert asked["settings"]["model"]["date"] == date.today().isoformat()
    assert load_cases(tmp_path / "new.parquet")


# What does not survive


def test_a_model_whose_end_token_stands_inside_right_answers_is_refused_by_that_token(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model", "llama")
    engine = open_engine(recipe(model).model, model, rows=4)
    inside = engine.chat.tokens('{"answer": 3}')[0]
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, inside]}))
    with pytest.raises(
        InputError,
        match=rf"ends an answer at the token '.*', which stands inside right answers; take its id {inside} out",
    ):
        run_pipeline(recipe(model), tmp_path / "run")


def test_a_tokenizer_that_changes_case_is_refused(tmp_path: Path) -> None:
    """Uncased ones, of encoders, lower every letter: a gold answer of capitals never comes back."""
    from ehrmind.types import Case

    model = small_model(tmp_path / "model", "llama")
    tree = json.loads((model / "tokenizer.json").read_text())
    tree["normalizer"] = {"type": "Replace", "pattern": {"String": "answer"}, "content": "ANSWER"}
    (model / "tokenizer.json").write_text(json.dumps(tree))
    case: Case = cases(1)[0]
    with pytest.raises(
        InputError,
        match=r"of model does not keep a right answer with its thought \(.*\), such as that of .*; use a tokenizer",
    ):
        refuse_lost_answers(model, dated(recipe(model), date.today()), [case])
    assert gold_response(case) and messages(case)
