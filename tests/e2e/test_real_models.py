"""Directories of several model families, as `save_pretrained` writes them, go through the whole
recipe and resume in the middle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from ehrmind.config import Recipe, parse_recipe
from ehrmind.engines.local.training.learner import LocalLearner
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError
from tests.medcalc_cases import SHORT
from tests.model_configs import CONFIGS
from tests.small_models import small_model

LORA = {"lora": {"rank": 4, "alpha": 8}}
FAMILIES: list[Any] = [("llama", {}), ("gemma3", {}), ("qwen3", LORA), ("qwen3_5", {})]
FAMILIES += [
    pytest.param(*case, marks=pytest.mark.slow)
    for case in (("qwen3", {}), ("gemma3_images", {}), ("hidden_dropout", {}))
]
FAMILIES += [pytest.param("lfm2", LORA, marks=pytest.mark.slow)]
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def recipe(model: Path, settings: dict[str, Any]) -> Recipe:
    data = {
        name: {"synthetic": {"n": n, "seed": n, **SHORT}}
        for name, n in (("train", 18), ("tuning", 6), ("held_out", 12))
    }
    tree = {
        "data": data,
        "model": {"name": str(model), **settings},
        "decoding": {"max_new_tokens": 12, "temperature": 1.0},
        "pilot": {"questions": 6, "samples": 2},
        "warmup": {"epochs": 1, "batch": 6, "learning_rate": 1e-3},
        "rlvr": {
            "steps": 3,
            "questions_per_step": 4,
            "samples": 3,
            "checkpoint_every": 1,
            "tuning_every": 3,
            "learning_rate": 1e-3,
            "kl": 0.01,
        },
        "arms": ["base", "sft_rlvr"],
        "threads": 1,
    }
    return parse_recipe(tree)


def weights(run: Path) -> dict[str, bytes]:
    files = sorted((run / "protected" / "models").glob("*/*.safetensors"))
    return {
        f"{file.parent.name}/{name}": tensor.tobytes() for file in files for name, tensor in load_file(file).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("family", "settings"), FAMILIES)
def test_a_models_directory_samples_learns_and_resumes(
    family: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(small_model(tmp_path / "model", family), settings)
    whole = run_pipeline(chosen, tmp_path / "whole").path
    learn, steps = LocalLearner.learn_from_groups, 0

    def interrupted(self: LocalLearner, groups: Any) -> dict[str, float]:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt
        return learn(self, groups)

    monkeypatch.setattr(LocalLearner, "learn_from_groups", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(chosen, tmp_path / "stopped")
    resumed = run_pipeline(chosen, tmp_path / "stopped", resume=True).path
    assert steps == 4  # one done, one interrupted and done again, one more
    assert len(weights(whole)) > 1 and weights(resumed) == weights(whole)
    untrained = load_file(tmp_path / "model" / "model.safetensors")
    assert json.loads((whole / "provenance.json").read_text())["model"].get("dropout_set_to_0") == (
        DROPOUT if family == "hidden_dropout" else None
    )
    assert any(
        weights(whole)[f"sft_rlvr/{name}"] != tensor.tobytes() for name, tensor in untrained.items()
    )  # it learned
    assert json.loads((resumed / "results.json").read_text())["arms"]["sft_rlvr"]["n"] == 12
    lines = [json.loads(line) for line in (resumed / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "rlvr-sft_rlvr"] == [0, 1, 2]


@pytest.mark.parametrize("size", [0, 5000])
def test_a_cut_off_weight_file_is_refused_before_anything_of_it_is_read(tmp_path: Path, size: int) -> None:
    folder = small_model(tmp_path / "model", "llama")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:size])
    with pytest.raises(
        InputError,
        match=r"^model cannot be opened .* model\.safetensors is cut off or damaged .*; get the file again\.$",
    ):
        run_pipeline(recipe(folder, {}), tmp_path / "run", stages=("pilot",))


def test_a_model_that_cannot_be_trained_is_refused_before_the_pilot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, "draws_its_experts", ("phimoe", {"num_local_experts": 4, "router_jitter_noise": 0.5}))
    folder = small_model(tmp_path / "model", "draws_its_experts")
    with pytest.raises(
        InputError, match=r"model can be scored but not trained: it gives other numbers while it learns"
    ):
        run_pipeline(recipe(folder, {}), tmp_path / "run")
    assert not (tmp_path / "run" / "stages" / "pilot.json").exists()
