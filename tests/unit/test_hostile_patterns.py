"""Regular expressions in an adapter's or a model's config: what takes for ever is one sentence in
time, what people write passes.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ehrmind.engines.local.opening import pattern_probe
from ehrmind.engines.local.opening.adapters import opened_adapter
from ehrmind.engines.local.opening.gate import admit_adapter, admit_model
from ehrmind.types import InputError
from tests.small_adapters import lora
from tests.small_models import small_model

OF_UNSLOTH = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?"
    r"(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)|"
    r"(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\."
    r"(?:(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)))"
)
SLOW = (".?" * 60 + "Z", ".*" * 12 + "Z", "(.?){60}Z", "(.*a.*)+$", "a|" * 1001)
SLOW_OF_NAMES = (".*" * 6 + "Z", "(?:.|.)" * 40 + "Z")
ORDINARY = (
    OF_UNSLOTH,
    ".*(self_attn|mlp).*(q_proj|up_proj)$",
    r"model\.layers\.(0|1)\.self_attn\.q_proj",
    "q_proj",
    r".*\.q_proj",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("base") / "model", "untied")


@pytest.mark.parametrize("pattern", SLOW)
@pytest.mark.parametrize("key", pattern_probe.LISTED)
def test_a_slow_expression_is_refused_as_a_text_and_in_a_list(tmp_path: Path, key: str, pattern: str) -> None:
    for value in (pattern, ["lm_head", pattern]):
        with pytest.raises(InputError, match=rf"says {key} .* may take for ever; list the modules' names"):
            admit_adapter(lora(tmp_path / "adapter", **{key: value}))


@pytest.mark.parametrize(
    "key", ["rank_pattern", "alpha_pattern", "lambda_pattern", "block_size_pattern", "n_frequency_pattern"]
)
def test_a_slow_expression_is_refused_as_a_key(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"says {key} .* may take for ever"):
        admit_adapter(lora(tmp_path / "adapter", **{key: {"q_proj": 2, SLOW[0]: 2}}))
    with pytest.raises(InputError, match=rf"says {key} .* is no object"):
        admit_adapter(lora(tmp_path / "adapter", **{key: [SLOW[0]]}))


@pytest.mark.parametrize("more", ["target_modules", "modules_to_save", "rank_pattern"])
def test_an_expression_that_is_slow_over_this_models_names_is_stopped(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    pattern = SLOW_OF_NAMES[1]
    monkeypatch.setattr(pattern_probe, "SECONDS", 1)
    value: Any = {"target_modules": pattern, "modules_to_save": [pattern], "rank_pattern": {pattern: 2}}[more]
    began = time.monotonic()
    with pytest.raises(InputError, match=rf"says {more} .* takes more than \d+ seconds over the modules' names; list"):
        opened_adapter(lora(tmp_path / "adapter", **{more: value}), base)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("pattern", ORDINARY)
@pytest.mark.filterwarnings("ignore")
def test_an_ordinary_expression_passes(tmp_path: Path, base: Path, pattern: str) -> None:
    admit_adapter(lora(tmp_path / "adapter", target_modules=pattern))
    keys = ("target_modules", "modules_to_save", "layers_pattern", "lambda_pattern")
    names = [f"model.language_model.layers.{n}.mlp.experts.{n}.down_proj" for n in range(2000)]
    assert pattern_probe.slow_one([(key, pattern) for key in keys], names) is None
    if pattern != OF_UNSLOTH:  # which targets more than this adapter's weights
        opened_adapter(lora(tmp_path / "adapter", rank_pattern={pattern: 2}), base)


def test_many_expressions_are_tried_together() -> None:
    names = [f"model.layers.{n}.self_attn.q_proj" for n in range(100)]
    began = time.monotonic()
    assert pattern_probe.slow_one([("target_modules", f"{n}.*") for n in range(5000)], names) is None
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("where", ["modules_to_not_convert", "ignored_layers", "config_groups", "a key"])
def test_a_slow_expression_in_what_is_not_quantised_is_refused(tmp_path: Path, where: str) -> None:
    folder = small_model(tmp_path / "model", "untied")
    tree = json.loads((folder / "config.json").read_text())
    for pattern in (*SLOW, *SLOW_OF_NAMES):
        named: Any = {"config_groups": {"a": {"targets": [f"re:{pattern}"]}}, "a key": {pattern: "int8"}}.get(
            where, ["lm_head", pattern]
        )
        how = {"quant_method": "fp8", ("config_groups" if where == "a key" else where): named}
        (folder / "config.json").write_text(json.dumps({**tree, "quantization_config": how}))
        with pytest.raises(InputError, match=r"says quantization_config\..* may take for ever"):
            admit_model(folder)


def test_what_is_ordinarily_not_quantised_passes(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "model", "untied")
    tree = json.loads((folder / "config.json").read_text())
    named = [
        "lm_head",
        "model.layers.0.mlp.gate",
        "model.layers.*.self_attn",
        "re:.*mlp.gate$",
        "re:.*(gate|up|down)_proj$",
        "re:vision.*",
    ]
    how = {"quant_method": "fp8", "modules_to_not_convert": named * 40, "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps({**tree, "quantization_config": how}))
    assert admit_model(folder)["quantization_config"] == how
