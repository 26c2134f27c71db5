"""The benchmarks of a step: what they count as work, as the machine's rate at a shape, and as TRL's
memory.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMOLLM2 = SimpleNamespace(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    vocab_size=49152,
)
IN_LAYERS = 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("script", ["vs_trl", "scaling", "memory", "profile_step"])
def test_a_script_says_what_it_takes(script: str) -> None:
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{script}.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert "--shape {3b,smollm2-135m}" in run.stdout and "--model DIR" in run.stdout


def test_the_shape_is_that_of_smollm2() -> None:
    shape = module("_models").SHAPES["smollm2-135m"]
    assert {name: shape[name] for name in vars(SMOLLM2)} == vars(SMOLLM2)
    assert shape["rope_parameters"]["rope_theta"] == 100_000 and shape["max_position_embeddings"] == 8192


def test_prompt_ids_spread_over_the_vocabulary_and_leave_out_special_tokens() -> None:
    prompt_ids = module("_models").prompt_ids
    ids = [token for number in range(2) for token in prompt_ids(number, 600, 49_152)]
    assert 32 <= min(ids) < 500 and 48_600 < max(ids) < 49_152
    assert len({token * 16 // 49_152 for token in ids}) == 16 and len(set(ids)) > 900
    assert max(prompt_ids(0, 600)) < module("_models").VOCABULARY


def test_an_updates_products_hold_every_weight_for_every_token_once() -> None:
    models, limits = module("_models"), module("_limits")
    case = models.Case(4, 600, 8, 64)
    assert limits.rows_of_microbatch(case, 4096) == 3 * 1112, "whole groups"
    assert limits.rows_of_microbatch(case, 100) == 1112, "a longer group goes alone"
    weights = limits.weights_of_update(SMOLLM2, case, 4096)
    forward = sum(weight.times * weight.operations for weight in weights)
    answered = 4 * 8 * 64
    assert forward == pytest.approx(2 * IN_LAYERS * (4 * 600 + answered) + 2 * 576 * 49152 * answered)
    head = weights[-1]
    assert (head.rows, head.inner, head.columns, head.times) == (512, 576, 49152, 4)
    few = limits.weights_of_update(SMOLLM2, models.Case(1, 600, 2, 16), 4096)[-1]
    assert (few.rows, few.times) == (32, 1)


def test_what_an_update_must_compute_is_its_products_and_its_attention() -> None:
    models, limits = module("_models"), module("_limits")
    case = models.Case(2, 600, 8, 64)
    products = 3 * sum(weight.times * weight.operations for weight in limits.weights_of_update(SMOLLM2, case, 4096))
    pairs = 2 * (600**2 / 2 + 8 * 64 * (600 + 32))
    assert models.operations(case, SMOLLM2) == pytest.approx(products + 3 * 4 * pairs * 9 * 64 * 30)


def test_a_steps_products_hold_every_weight_once() -> None:
    weights = module("_limits").weights_of_step(SMOLLM2, 16)
    assert sum(weight.times * weight.operations for weight in weights) == 2 * 16 * (IN_LAYERS + 576 * 49152)
    assert {weight.rows for weight in weights} == {16}


def test_the_rate_of_several_products_is_their_operations_over_their_seconds() -> None:
    limits = module("_limits")
    small, large = limits.Weight(1, 1, 50, 3), limits.Weight(1, 10, 50, 1)  # 100 and 1,000 operations
    assert limits.weighted_rate([(small, 1.0), (large, 2.0)]) == (300 + 1000) / (3 + 2)
    assert limits.weighted_rate([(small, 0.5)]) == 200, "how often a product comes does not change its own rate"


def test_trls_settings_are_read_from_the_command_line_and_survive_json() -> None:
    trl = module("_trl_settings")
    for text in ("4,dynamic", "4,static", "2,dynamic,compile"):
        settings = trl.settings_from(text)
        assert str(settings) == text and trl.Settings(*list(settings)) == settings
    assert trl.settings_from("8") == trl.Settings(8, None, compiled=False)
    with pytest.raises(Exception, match="unknown: fast"):
        trl.settings_from("4,fast")


def test_settings_of_trl_that_cannot_fit_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trl = module("_trl_settings")
    (tmp_path / "config.json").write_text(json.dumps(vars(SMOLLM2)))
    (tmp_path / "model.safetensors").touch()
    case = module("_models").Case(8, 600, 8, 64)
    found = trl.candidates(tmp_path, case, "float32", 24 << 30)
    answers = [(settings.microbatch, settings.cache) for settings in found]
    assert (8, None) in answers and (64, None) not in answers and (12, None) not in answers, "12 do not divide 64"
    assert "trl 64,dynamic: needs 89 GiB" in capsys.readouterr().err
    assert all(settings.cache is None for settings in trl.candidates(tmp_path, case, "bfloat16", 24 << 30))


@pytest.mark.parametrize(
    ("name", "scopes", "group"),
    [
        ("mkldnn::_linear_pointwise", ("bench::mlp",), "products of weights"),
        ("aten::mm", ("SharedPromptBackward", "autograd::engine"), "attention"),
        ("aten::mm", ("_TokenLogprobs",), "LM head"),
        ("aten::mul", ("bench::mlp",), "activation and gate"),
        ("aten::copy_", ("aten::to", "bench::mlp"), "casts and copies"),
        ("aten::mul", ("Optimizer.step#AdamW.step",), "optimiser"),
        ("aten::mul", (), "elementwise"),
        ("aten::topk", (), "other operators"),
    ],
)
def test_an_operator_belongs_to_what_it_was_called_for(name: str, scopes: tuple[str, ...], group: str) -> None:
    profile_step = module("profile_step")
    assert profile_step.group_of(profile_step.Call(name, scopes, 1.0)) == group


def test_a_profiles_groups_and_what_lies_between_them_add_up_to_the_time() -> None:
    profile_step = module("profile_step")
    calls: list[Any] = [profile_step.Call("aten::mm", (), 2.0), profile_step.Call("aten::mul", (), 3.0)]
    found = profile_step.by_group(calls, 6.0)
    assert list(found.items()) == [("elementwise", 3.0), ("products of weights", 2.0), ("between operators", 1.0)]
