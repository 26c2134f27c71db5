"""Reads a model's config, and refuses a directory that `transformers` cannot open.

Every fault is one sentence that names the file and says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ehrmind.engines.local.opening.dropout import without_dropout
from ehrmind.engines.local.opening.gate import admit_model, cannot, short, weight_files
from ehrmind.engines.local.opening.quantised import in_plain_numbers
from ehrmind.engines.local.opening.sizes import refuse_odd_sizes
from ehrmind.types import InputError

OURS_ALONE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}  # no code of the model, no network
ATTENTIONS, EXPERTS = (None, "eager", "sdpa"), (None, "eager", "batched_mm", "grouped_mm")  # need no fetched kernel
OTHER_HEADS = re.compile(
    r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|MaskedLM|RewardModel)\Z"
)
WHOLE_NUMBERS = re.compile("U?I(8|16|32|64)")  # safetensors' names of types
TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json", "*.tiktoken")


def refuse_incomplete(folder: Path) -> None:
    """Refuses a directory with faults that show without loading weights, after the gate.

    Raises InputError.
    """
    refuse_unfit(folder)
    if not any(found for name in TOKENIZER_FILES for found in folder.glob(name)):
        raise InputError(
            f"{folder.name} has no tokenizer (no tokenizer.json nor tokenizer.model); put the model's own files there."
        )


def refuse_unfit(folder: Path) -> None:
    """Refuses the same faults of a model whose tokenizer lies elsewhere. Raises InputError."""
    config = admit_model(folder)
    _refuse_unknown_names(config, folder)
    refuse_odd_sizes(config, folder)
    quantised = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    for file in weight_files(folder, config):
        kinds = _kinds(file, folder)
        if quantised is None and (whole := sorted(name for name, kind in kinds.items() if WHOLE_NUMBERS.match(kind))):
            raise InputError(
                f"{folder.name}/{file.name} holds whole numbers for weights, such as {whole[0]}, and config.json does "
                "not say how they "
                "are quantised (`quantization_config`); get the whole model, or one that is not quantised."
            )


def _refuse_unknown_names(config: dict[str, Any], folder: Path) -> None:
    from transformers import CONFIG_MAPPING, __version__

    kind = config.get("model_type")
    if kind is None:
        raise cannot(folder, "config.json names no model_type; get the model's own config.json")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        why = f"it is of type '{str(kind)[:60]}', which transformers {__version__} does not know"
        raise cannot(folder, f"{why}; choose another model, or a version of transformers that has it")
    for part in (
        config,
        *(value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)),
    ):
        for key in ("dtype", "torch_dtype"):
            dtype = part.get(key)
            if not (
                dtype in (None, "auto")
                or (isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype))
            ):
                why = f"config.json says {key} '{str(dtype)[:40]}', which is no type of torch"
                raise cannot(folder, f"{why}; put the one of its weights there")


def _kinds(file: Path, folder: Path) -> dict[str, str]:
    """Reads each tensor's type from the file's header."""
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise cannot(folder, f"{file.name} is cut off or damaged ({short(error)}); get the file again") from None


def opened_config(folder: Path) -> Any:
    """Opens the config of a directory that has passed the gate.

    Quantised weights are dequantised if possible. Attention and experts need no fetched kernel.
    """
    from transformers import AutoConfig

    config: Any = in_plain_numbers(AutoConfig.from_pretrained(folder, **OURS_ALONE))
    config.return_dict = True  # old configs turn it off
    parts = [config, *(part for name in config.sub_configs if (part := getattr(config, name, None)) is not None)]
    if any(part._attn_implementation not in ATTENTIONS for part in parts):
        config._attn_implementation = None  # the kernel of whoever trained it; ours is chosen here
    if any(part._experts_implementation not in EXPERTS for part in parts):
        config._experts_implementation = None
    return config


def architecture_of(config: Any, folder: Path) -> Any:
    """Returns the class of `transformers` that opens a causal language model of this config.

    Raises InputError.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = getattr(config, "model_type", None)
    names = getattr(config, "architectures", None) or []
    other = any(OTHER_HEADS.search(name) for name in names)
    if other or getattr(config, "is_encoder_decoder", False):
        was = names[0] if names else f"a model of type '{kind}'"
        raise cannot(folder, f"it is {was}, which does not write text from left to right; choose another model")
    for architecture in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in architecture._model_mapping:
            return architecture
    raise cannot(folder, f"it is of type '{kind}', which does not write text from left to right; choose another model")


def dropout_of(folder: Path) -> dict[str, float]:
    """Reads the dropout in a model's config that this engine turns off; empty if `transformers`
    cannot open it.
    """
    try:
        if "model_type" not in admit_model(folder):
            return {}
        with opening(folder):
            config = opened_config(folder)
    except InputError:
        return {}  # opening the model says what is wrong
    return {".".join((*entry.part, entry.key)): entry.value for entry in without_dropout(config)}


@contextmanager
def opening(folder: Path, what: str = "") -> Iterator[None]:
    """Turns errors of `transformers` and its helpers, while they open a directory, into one
    sentence.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise cannot(
            folder, f"it needs what is not here ({short(error)}); install that, or choose a model without"
        ) from None
    except StrictDataclassError as error:
        raise cannot(folder, f"config.json is not right ({short(error)}); get the model's own") from None
    except KeyError as error:
        raise cannot(
            folder, f"config.json asks for {short(error)}, which transformers does not know; get the model's own"
        ) from None
    except (MemoryError, RecursionError) as error:
        why = f"it asks for more than there is ({type(error).__name__})"
        raise cannot(folder, f"{why}; get the model's own files") from None
    except Exception as error:  # noqa: BLE001 - a stranger's file can make a library raise anything
        raise cannot(
            folder,
            f"{what} cannot be read ({short(error)}); get its files again"
            if what
            else f"transformers cannot build it ({short(error)}); get the model's own config.json and weights",
        ) from None
