"""Refuses keys of a model's JSON files that make transformers or peft look for code or open a file
outside.

The table was read from the sources of transformers 5.23 and peft 0.21. `auto_map`,
`custom_pipelines` and `_name_or_path` are not in it: with `trust_remote_code=False` nothing looks
for what they name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ehrmind.engines.local.opening.pattern_probe import is_slow, is_slow_unseen, patterns_of
from ehrmind.types import InputError


class Rule(NamedTuple):
    """Keys, a test for refused values, and what such a value would do."""

    keys: frozenset[str]
    refused: Callable[[Any], bool]
    why: str


def _of(keys: str, refused: Callable[[Any], bool], why: str) -> Rule:
    return Rule(frozenset(keys.split()), refused, why)


def _there(value: Any) -> bool:
    return value not in (None, False, "", [], {})


def _names_kernel(value: Any) -> bool:
    words = list(value.values()) if isinstance(value, dict) else [value]
    return any(word is not None and not (isinstance(word, str) and re.fullmatch(r"\w*", word)) for word in words)


def _is_outside(value: Any) -> bool:
    """Tells whether a value is a path that would be opened, absolute or relative to the working
    directory.

    A path that does not exist is a leftover of the machine that saved the model.
    """
    try:
        return isinstance(value, str) and bool(value) and Path(value).exists()
    except (OSError, ValueError):
        return False


KERNELS = (
    "attn_implementation _attn_implementation _attn_implementation_internal "
    "experts_implementation _experts_implementation"
)
# Left out: methods that load kernels from a hub, and methods that were never tried here
QUANTISED = {
    *("fp8", "mxfp4", "bitsandbytes", "gptq", "awq", "hqq", "compressed-tensors", "torchao", "aqlm", "quanto"),
    *("higgs", "bitnet", "fbgemm_fp8", "vptq", "spqr", "auto-round", "fp_quant"),
}
# Kinds of peft that can be merged; prompts and mixtures load tokenizers, pickles or further
# adapters by name
MERGED = {
    *("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "HRA", "VERA", "LN_TUNING", "TRAINABLE_TOKENS"),
    *("MISS", "C3A", "RANDLORA", "FOURIERFT", "DELORA"),
}
OF_LAYERS = "rank_pattern alpha_pattern lambda_pattern block_size_pattern n_frequency_pattern"

EVERYWHERE = (
    _of("trust_remote_code custom_generate", _there, "asks for code of the model's own, which is never run"),
    _of("gguf_file", _there, "names another file to read in place of this one"),
)
OF_CONFIG = (
    _of(f"{KERNELS} _experts_implementation_internal", _names_kernel, "names a kernel to be fetched, which is code"),
    _of("use_kernels kernel_config", _there, "asks for kernels to be fetched, which are code"),
    _of("configuration_files", _there, "names other files to read in place of this one"),
    _of("fusion_config", _there, "changes the model's layers"),
    _of(
        "_auto_class attribute_map sub_configs sub_configs_defaults extra_files",
        lambda _: True,
        "changes how the config is read",
    ),
    _of("use_pretrained_backbone", _there, "asks for weights of another repository"),
    _of("backbone", lambda value: isinstance(value, str) and bool(value), "asks for a model of another repository"),
    _of("quantization_config", lambda value: not (value is None or isinstance(value, dict)), "is no object"),
)
OF_TOKENIZER = (
    _of("fast_tokenizer_files", _there, "names other files to read in place of tokenizer.json"),
    _of("init_inputs tokenizer_object", _there, "hands values to the tokenizer's code"),
    _of("vocab merges", lambda value: isinstance(value, str), "names a file outside the directory"),
)
OF_ADAPTER = (
    _of("megatron_config", _there, "asks for code of Megatron"),
    _of("megatron_core", lambda value: value not in (None, "megatron.core"), "names code to import"),
    _of("base_model_name_or_path", lambda value: not (value is None or isinstance(value, str)), "is no path"),
    _of(OF_LAYERS, lambda value: not (value is None or isinstance(value, dict)), "is no object"),
    _of("arrow_config", _there, "names further adapters to load"),
)
WRITTEN = {"__float__"}  # transformers writes an infinite number with this key
TOKEN_KEY = re.compile(r".*_tokens?\Z")
ENDLESS, NAMES = "is a regular expression that may take for ever", "list the modules' names in its place"
OUTSIDE = "names a file outside the directory"
LIBRARIES = ("transformers", "peft", "torch", "trl", "accelerate")


def refuse_named_code(trees: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Raises InputError for the first refused key, with its file and place.

    `trees` are JSON objects by file name.
    """
    for name, tree in sorted(trees.items()):
        if name.endswith(".index.json") or not (rules := _rules(name)):
            continue
        for place, key, value in _walk(tree):
            for rule in (*EVERYWHERE, *rules):
                if key in rule.keys and rule.refused(value):
                    raise _refusal(folder, name, place, value, rule.why)
            if name == "config.json" and (key.startswith("__") or key in _methods()) and key not in WRITTEN:
                raise _refusal(folder, name, place, value, "stands for code of transformers")
            if (
                name == "config.json"
                and key.endswith("_config")
                and not (value is None or isinstance(value, dict) or key.startswith("use_"))
            ):
                raise _refusal(folder, name, place, value, "is no object")
    _refuse_quantisation(trees.get("config.json", {}), folder)
    for name in ("config.json", "tokenizer_config.json"):
        for place, key, value in _walk(trees.get(name, {})):
            if key == "tokenizer_class":
                _refuse_tokenizer_class(value, value, name, place, folder)
            if key == "model_type":
                _refuse_tokenizer_class(_tokenizer_of(value), value, name, place, folder)
    for key, value in trees.get("tokenizer_config.json", {}).items():
        if key.endswith("_file") and key != "special_tokens_map_file" and _is_outside(value):
            raise _refusal(folder, "tokenizer_config.json", key, value, OUTSIDE)
    for key, value in trees.get("special_tokens_map.json", {}).items():
        if not TOKEN_KEY.match(key):
            raise _refusal(folder, "special_tokens_map.json", key, value, "is no special token")
    if "adapter_config.json" in trees:
        _refuse_adapter(trees["adapter_config.json"], folder)


def _rules(name: str) -> tuple[Rule, ...]:
    if name == "config.json":
        return OF_CONFIG
    if name in ("tokenizer_config.json", "special_tokens_map.json"):
        return OF_TOKENIZER
    return {"adapter_config.json": OF_ADAPTER}.get(name, EVERYWHERE if name == "generation_config.json" else ())


def _walk(tree: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yields (place such as text_config.dtype, key, value) for every key at any depth."""
    items = tree.items() if isinstance(tree, Mapping) else ((str(n), value) for n, value in enumerate(tree))
    for key, value in items:
        at = f"{place}.{key}" if place else key
        if isinstance(tree, Mapping):
            yield at, key, value
        if isinstance(value, dict | list):
            yield from _walk(value, at)


@cache
def _methods() -> frozenset[str]:
    """Returns the names of a config's own functions; a key with such a name would replace one."""
    from transformers import PreTrainedConfig

    return frozenset(name for name in dir(PreTrainedConfig) if callable(getattr(PreTrainedConfig, name, None)))


def _refuse_quantisation(config: Mapping[str, Any], folder: Path) -> None:
    for _, key, value in _walk(config):
        if key == "quantization_config" and value and str(value.get("quant_method")) not in QUANTISED:
            how = str(value.get("quant_method"))[:40]
            raise InputError(
                f"{folder.name} says that its weights are quantised by '{how}', which is not known here; get one that "
                "is not."
            )
        if key == "quantization_config" and value:
            for place, text in _texts(value, key):
                if is_slow_unseen(text):
                    raise _refusal(folder, "config.json", place, text, ENDLESS, NAMES)


def _texts(tree: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yields (place, text) for every text and every key: some are regular expressions for modules'
    names.
    """
    if isinstance(tree, str):
        yield place, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield place, key
            yield from _texts(value, f"{place}.{key}")
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value, place)


def _tokenizer_of(kind: Any) -> str | None:
    """Returns the tokenizer class that transformers takes for a model type."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    return TOKENIZER_MAPPING_NAMES.get(kind) if isinstance(kind, str) else None


def _refuse_tokenizer_class(name: Any, value: Any, file: str, place: str, folder: Path) -> None:
    """Refuses a class of transformers that is no tokenizer.

    transformers opens the directory with any class of its own of this name, also with a model or a
    pair of tokenizers in folders. Such a class asks whether to run the model's code.
    """
    if name is None:
        return
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w{0,99}", name):
        raise _refusal(folder, file, place, value, "is no name of a tokenizer")
    import transformers
    from transformers.utils.import_utils import DummyObject

    plain = name
    while plain.endswith("Fast"):
        plain = plain.removesuffix("Fast")
    for known in {name, plain, f"{plain}Fast"}:
        try:
            found = getattr(transformers, known, None)
        except (ImportError, RuntimeError):
            found = None  # a class whose library is not here
        if found is None or (
            isinstance(found, DummyObject) and known.endswith(("Tokenizer", "TokenizerFast", "MistralCommonBackend"))
        ):
            continue  # a dummy stands for a class whose library is not here
        if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedTokenizerBase)):
            raise _refusal(folder, file, place, value, "is no name of a tokenizer")


def _refuse_adapter(config: Mapping[str, Any], folder: Path) -> None:
    kind = config.get("peft_type")
    if str(kind) not in MERGED:
        raise _refusal(
            folder,
            "adapter_config.json",
            "peft_type",
            kind,
            "is no kind of adapter that can be merged here",
            "use another",
        )
    if mapping := config.get("auto_mapping"):
        library = mapping.get("parent_library") if isinstance(mapping, dict) else None
        if str(library).partition(".")[0] not in LIBRARIES:
            raise _refusal(folder, "adapter_config.json", "auto_mapping", mapping, "names code to import")
    for place, key, value in _walk(config):
        if key.endswith(("_file", "_path")) and key != "base_model_name_or_path" and _there(value):
            raise _refusal(folder, "adapter_config.json", place, value, OUTSIDE)
    for key, pattern in patterns_of(config):
        if is_slow(pattern):
            raise _refusal(folder, "adapter_config.json", key, pattern, ENDLESS, NAMES)


def _refusal(
    folder: Path, file: str, place: str, value: Any, why: str, remedy: str = "remove the key, or use another model"
) -> InputError:
    return InputError(f"{folder.name}/{file} says {shown(place)[1:-1]} {shown(value)}, which {why}; {remedy}.")


def shown(value: Any) -> str:
    """Formats a value of a stranger's file for a sentence: one short line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:76]} …"
