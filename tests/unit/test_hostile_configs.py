"""A model directory of which one key says something odd is opened, or refused in one sentence,
within bounds on time and memory.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from ehrmind.config import Decoding, Model
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.memory import shape_of
from ehrmind.engines.local.opening.adapters import merged, opened_adapter
from ehrmind.engines.local.opening.sizes import refuse_odd_sizes
from ehrmind.prompts import messages
from ehrmind.types import InputError
from tests.small_adapters import lora
from tests.small_models import cases, small_model

FAMILIES = ("llama", "qwen3", "gemma3", "untied", "gpt2", "fp8")
FILES = (
    "config.json",
    "tokenizer_config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
)
ODD: tuple[Any, ...] = (
    *(0, -1, 1, 3, 7.5, 10**6, 10**9, 10**12, -(10**12), 10**30, float("nan"), float("inf"), 1e308, True, False, None),
    *("", "x", "../../etc/passwd", "evil/kernel", "a|b/c", "{{ 1 }}", "0", "float99", "é\x00\n", "x" * 100_000),
    *(
        [],
        [1],
        ["x"],
        [[1]],
        [None] * 3,
        [10**12] * 3,
        {},
        {"x": 1},
        {"": "evil/kernel"},
        {"rope_type": "yarn", "factor": 1e30},
    ),
)
NEW = (
    *(
        "attn_implementation",
        "quantization_config",
        "auto_map",
        "num_labels",
        "text_config",
        "vision_config",
        "rope_scaling",
        "rope_parameters",
    ),
    *(
        "layer_types",
        "sliding_window",
        "attribute_map",
        "to_dict",
        "id2label",
        "head_dim",
        "partial_rotary_factor",
        "pruned_heads",
        "dtype",
    ),
    *(
        "per_layer_config",
        "problem_type",
        "eos_token_id",
        "extra_special_tokens",
        "added_tokens_decoder",
        "chat_template",
        "padding_side",
    ),
    *(
        "tokenizer_class",
        "vocab_file",
        "backend",
        "max_length",
        "num_experts",
        "num_local_experts",
        "tie_word_embeddings",
        "is_decoder",
    ),
    *(
        "return_dict",
        "chunk_size_feed_forward",
        "output_hidden_states",
        "base_model_tp_plan",
        "model_specific_special_tokens",
        "a\nb",
    ),
)
DEEP = '{"a":' * 3000 + "1" + "}" * 3000
SECONDS, BYTES = 20, 2 << 30


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*at, key)
        if isinstance(value, dict | list) and len(value) < 50:
            yield from places(value, (*at, key))


def spoil(folder: Path, seed: int) -> str:
    """Changes one place of one file, as drawn; says which."""
    draw = random.Random(seed)
    file = folder / draw.choice([name for name in FILES if (folder / name).is_file()])
    tree = json.loads(file.read_text())
    known = list(places(tree))
    at = draw.choice(known) if known and draw.random() < 0.7 else (draw.choice(NEW),)
    value, how = draw.choice(ODD), draw.random()
    under: Any = tree
    for key in at[:-1]:
        under = under[key]
    if how < 0.08 and at[-1] in (under if isinstance(under, dict) else range(len(under))):
        del under[at[-1]]
    elif isinstance(under, dict):
        under[at[-1]] = deepcopy(value)
    else:
        under[at[-1]] = value
    text = json.dumps(tree)
    if how > 0.97:
        text = text.replace("{", '{"deep": ' + DEEP + ", ", 1)
    elif how > 0.94:
        text = text[: draw.randrange(len(text))]
    file.write_text(text)
    return f"seed {seed}: {file.name} {at} = {str(value)[:60]!r} ({how:.2f})"


def opened_or_refused(folder: Path, what: str) -> str:
    """Opens the directory in every way that a command does. Returns the sentence where it is
    refused."""
    began = time.monotonic()
    try:
        shape_of(folder, Model(name="model", device="cpu"))
        engine = open_engine(Model(name="model", device="cpu"), folder, rows=2)
        prompts = [engine.prompt(messages(case)) for case in cases(1)]
        engine.sample(prompts, [0], 1, Decoding(temperature=0.0, max_new_tokens=2))
    except InputError as refusal:
        sentence = str(refusal)
        assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 800, f"{what}: {sentence}"
        return sentence
    finally:
        assert time.monotonic() - began < SECONDS, what
    return ""


def largest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: small_model(tmp_path_factory.mktemp(family) / "model", family) for family in FAMILIES}


@pytest.mark.parametrize("start", range(0, int(os.environ.get("EHRMIND_FUZZED", "100")), 25))
@pytest.mark.filterwarnings("ignore")
def test_a_drawn_odd_value_at_a_drawn_key_is_opened_or_refused_in_one_sentence(
    tmp_path: Path, models: dict[str, Path], start: int
) -> None:
    before = largest()
    for seed in range(start, start + 25):
        folder = tmp_path / str(seed) / "model"
        shutil.copytree(models[FAMILIES[seed % len(FAMILIES)]], folder)
        what = spoil(folder, seed)
        try:
            opened_or_refused(folder, what)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert largest() - before < BYTES, what
        shutil.rmtree(folder)


LARGE: dict[str, tuple[str, dict[str, Any], str]] = {
    "width": ("untied", {"hidden_size": 10**12}, "says hidden_size 1000000000000, which no model has"),
    "width below the bound": (
        "untied",
        {"hidden_size": 2 * 10**6},
        "describes a model of more than .* numbers, and its weight files hold",
    ),
    "words": ("llama", {"vocab_size": 2 * 10**9}, "describes a model of more than .* numbers"),
    "layers": ("qwen3", {"num_hidden_layers": 10**9}, "says num_hidden_layers 1000000000, which no model has"),
    "layers below the bound": ("llama", {"num_hidden_layers": 90_000}, "describes a model of more than .* parts"),
    "feed-forward part": ("untied", {"intermediate_size": 2 * 10**9}, "describes a model of more than .* numbers"),
    "labels": ("untied", {"num_labels": 10**9}, "says num_labels 1000000000, which no model has"),
    "labels within": (
        "gemma3",
        {"text_config": {"num_labels": 10**9}},
        "says num_labels 1000000000, which no model has",
    ),
    "positions": ("gpt2", {"n_positions": 10**9}, "describes a model of more than .* numbers"),
    "experts": ("mxfp4", {"num_local_experts": 90_000}, "describes a model of more than"),
    "state": ("bamba", {"mamba_d_state": 10**8}, "describes a model of more than|cannot build it"),
    "a number without an end": ("untied", {"hidden_size": 10**4000}, "which no model has"),
    "no heads": ("untied", {"num_attention_heads": 0}, "says num_attention_heads 0"),
    "no heads of keys": ("llama", {"num_key_value_heads": 0}, "says num_key_value_heads 0"),
    "a word for a length": ("bloom", {"max_position_embeddings": "long"}, "says max_position_embeddings"),
}


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.filterwarnings("ignore")
def test_a_size_that_the_weights_do_not_have_is_refused_before_memory_is_taken(tmp_path: Path, what: str) -> None:
    family, sizes, sentence = LARGE[what]
    folder = small_model(tmp_path / "model", family)
    tree = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**tree, **sizes}))
    before, began = largest(), time.monotonic()
    with pytest.raises(InputError, match=sentence):
        open_engine(Model(name="model", device="cpu"), folder, rows=2)
    assert time.monotonic() - began < SECONDS and largest() - before < BYTES // 4


def test_numbers_that_a_type_has_by_itself_are_not_odd() -> None:
    """The audio towers of Gemma 3n and 4 limit gradients by 10^10, and a type of GLM has heads of
    no size."""
    for kind in ("gemma3n", "gemma3n_audio", "gemma4_audio", "glm5_next", "llama"):
        refuse_odd_sizes(json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=False)), Path("model"))
    with pytest.raises(InputError, match="says head_dim 0"):
        refuse_odd_sizes({"model_type": "llama", "head_dim": 0}, Path("model"))


def test_a_config_without_one_of_its_keys_is_opened_or_one_sentence(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "model", "untied")
    tree = json.loads((folder / "config.json").read_text())
    for key in tree:
        (folder / "config.json").write_text(json.dumps({name: value for name, value in tree.items() if name != key}))
        opened_or_refused(folder, f"without {key}")


OF_ADAPTERS = (
    *(
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "exclude_modules",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "bias",
    ),
    *(
        "use_dora",
        "use_rslora",
        "init_lora_weights",
        "layers_to_transform",
        "layers_pattern",
        "layer_replication",
        "peft_type",
        "task_type",
    ),
    *(
        "trainable_token_indices",
        "target_parameters",
        "megatron_config",
        "loftq_config",
        "eva_config",
        "corda_config",
        "fan_in_fan_out",
    ),
    *(
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "runtime_config",
        "lora_bias",
        "arrow_config",
        "a\nb",
    ),
)


@pytest.mark.filterwarnings("ignore")
def test_a_drawn_odd_value_in_an_adapters_config_is_merged_or_one_sentence(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    for seed in range(int(os.environ.get("EHRMIND_FUZZED", "40"))):
        draw, began = random.Random(seed), time.monotonic()
        key, value = draw.choice(OF_ADAPTERS), deepcopy(draw.choice(ODD))
        what = f"seed {seed}: {key} = {str(value)[:60]!r}"
        try:
            merged(opened_adapter(lora(tmp_path / "adapter", **{key: value}), models["untied"])[0])
        except InputError as refusal:
            assert "\n" not in str(refusal) and len(str(refusal)) < 800, f"{what}: {refusal}"
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - began < SECONDS, what
