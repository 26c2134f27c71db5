"""Adapters (peft): adds one to a model, opens one with its base, merges one into its base."""

from __future__ import annotations

import json
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.nn import Parameter

from ehrmind.config import Lora
from ehrmind.engines.local.forward.matmul import Linear
from ehrmind.engines.local.opening.adapter_numbers import refuse_odd_numbers
from ehrmind.engines.local.opening.config import OURS_ALONE, opened_config, refuse_unfit
from ehrmind.engines.local.opening.gate import ADAPTER, ADAPTER_WEIGHTS, admit_adapter, short, weight_files
from ehrmind.engines.local.opening.named_code import shown
from ehrmind.engines.local.opening.pattern_probe import SECONDS, patterns_of, slow_one
from ehrmind.engines.local.opening.quantised import of_one_type, refuse_untrainable
from ehrmind.engines.local.opening.sizes import within_files
from ehrmind.engines.local.training.masters import SPARE_BITS, in_between
from ehrmind.types import InputError

WEIGHTS = ADAPTER_WEIGHTS
# Kernels of these mixers read this weight past an adapter's forward pass
READ_PAST_FORWARD, MIXERS = ".out_proj", ("Mamba", "Bamba", "FalconH1Mixer")


def with_adapter(network: Any, lora: Lora, seed: int) -> Any:
    """Adds a new adapter, with fp32 weights on every base.

    Raises InputError if the targets do not fit.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    barred = _barred(network) if lora.targets == "all-linear" else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tied layers: merging takes care of them
            return get_peft_model(
                network,
                LoraConfig(
                    r=lora.rank,
                    lora_alpha=lora.alpha,
                    lora_dropout=lora.dropout,
                    target_modules=lora.targets,
                    exclude_modules=barred or None,
                    task_type="CAUSAL_LM",
                ),
            )
    except (ValueError, TypeError) as error:
        raise InputError(f"model.lora.targets does not fit this model: {' '.join(str(error).split())[:300]}") from None


def _barred(network: Any) -> list[str]:
    """Lists linear layers that no adapter fits.

    They are of a special class (a router that returns two tensors), or a kernel reads their weight
    past the forward pass.
    """
    linear = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    odd = [name for name, module in linear.items() if type(module) not in (torch.nn.Linear, Linear)]
    parents = {
        name: type(network.get_submodule(name.rpartition(".")[0])).__name__
        for name in linear
        if name.endswith(READ_PAST_FORWARD)
    }
    return odd + [
        name for name, parent in parents.items() if any(mixer in parent for mixer in MIXERS) and name not in odd
    ]


def opened_adapter(folder: Path, base: Path) -> tuple[Any, dict[str, torch.dtype]]:
    """Opens an adapter on its base, dequantised and enlarged for the adapter's tokens.

    Returns the peft model and the types of the base's weights. Raises InputError if the two do not
    fit.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    asked = admit_adapter(folder)
    refuse_odd_numbers(asked, folder)
    refuse_unfit(base)
    refuse_untrainable(base)
    files = [*weight_files(base), folder / WEIGHTS]
    try:
        with within_files(files, base):
            plain = opened_config(base)
            network: Any = AutoModelForCausalLM.from_pretrained(
                base, config=plain, dtype="auto", use_safetensors=True, **OURS_ALONE
            )
        _refuse_slow_patterns(asked, network, folder)
        rows = max(_rows_wanted(folder, network), default=0)
        if rows > network.get_input_embeddings().weight.shape[0]:
            torch.manual_seed(0)  # rows that the adapter does not bring are random
            network.resize_token_embeddings(rows)
        of_one_type(network, network.dtype)
        types = {name: weight.dtype for name, weight in network.state_dict().items()}
        with warnings.catch_warnings(), within_files(files, folder):
            warnings.simplefilter("ignore")  # about tied layers and saved embeddings: this module takes care of them
            adapted = PeftModel.from_pretrained(network, str(folder)).eval()
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a stranger's file can make a library raise anything
        raise InputError(f"{folder} cannot be opened on its base {base.name}: {short(error)}.") from None
    _refuse_other_weights(folder, adapted)
    return adapted, types


def _refuse_slow_patterns(config: dict[str, Any], network: Any, folder: Path) -> None:
    names = [name for name, _ in network.named_modules()] + [name for name, _ in network.named_parameters()]
    if (slow := slow_one(patterns_of(config), names)) is not None:
        key, pattern = slow
        raise InputError(
            f"{folder.name}/{ADAPTER} says {key} {shown(pattern)}, a regular expression that takes more than {SECONDS} "
            "seconds over the modules' names; list the names in its place."
        )


def _rows_wanted(folder: Path, network: Any) -> list[int]:
    """Lists how many embedding rows the adapter needs, for whole embeddings, their adapters or
    single tokens.
    """
    config = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    tokens = config.get("trainable_token_indices") or []
    found = [1 + max(chosen) for chosen in (tokens.values() if isinstance(tokens, dict) else [tokens]) if chosen]
    ends = [network.get_input_embeddings(), network.get_output_embeddings()]
    names = [name for name, module in network.named_modules() if any(module is end for end in ends)]
    with safe_open(folder / WEIGHTS, framework="pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118  # no mapping
            for place in (place for place in (key.partition(f".{name}.")[2] for name in names) if place):
                shape = tensors.get_slice(key).get_shape()
                if place == "lora_embedding_A":
                    found.append(shape[1])
                elif place.endswith("weight") and place != "lora_A.weight":
                    found.append(shape[0])
    return found


def _refuse_other_weights(folder: Path, adapted: Any) -> None:
    from peft import get_peft_model_state_dict

    with safe_open(folder / WEIGHTS, framework="pt") as tensors:
        there = set(tensors.keys())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    known = {key.replace(".default", "") for key in adapted.state_dict()}
    if missing := sorted(wanted - there):
        raise InputError(
            f"{folder} lacks {len(missing)} weights that its {ADAPTER} asks for, such as {missing[0]}; get the whole "
            "adapter."
        )
    if unread := sorted(there - wanted - known):
        raise InputError(
            f"{folder} has {len(unread)} weights that its base has no place for, such as {unread[0]}; name the right "
            "base."
        )


def merged(adapted: Any) -> Any:
    """Merges adapters into their weights in place, in fp32, rounded once. Returns the plain model.

    A small change of a bf16 weight is rounded up or down at random, in proportion to its size.
    Rounded to the nearest it would be lost. If adapters change one of two tied weights, the two are
    no longer tied.
    """
    from peft.tuners.lora import LoraLayer

    model = adapted.get_base_model()
    ends = [end for end in (model.get_input_embeddings(), model.get_output_embeddings()) if end is not None]
    if any(isinstance(end, LoraLayer) for end in ends) and len({id(end.weight) for end in ends}) == 1 < len(ends):
        plain = ends[1].get_base_layer() if hasattr(ends[1], "get_base_layer") else ends[1]
        plain.weight = Parameter(plain.weight.detach().clone(), requires_grad=False)
    for name, layer in adapted.named_modules():
        if isinstance(layer, LoraLayer):
            _merge(name, layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about merged layers, and weights that are no longer tied
        plain_model = adapted.merge_and_unload()
    _tie_what_is_equal(plain_model)
    return plain_model


def _merge(name: str, layer: Any) -> None:
    weight = getattr(layer.get_base_layer(), "weight", None)
    if weight is None or weight.dtype not in SPARE_BITS:
        layer.merge()
        return
    dtype = weight.dtype
    weight.data = in_between(name, weight)
    layer.merge()
    weight.data = weight.data.to(dtype)


def copied(adapted: Any) -> Any:
    """Copies a model for merging. Weights that no adapter changes are shared with the original."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [module for module in adapted.modules() if isinstance(module, BaseTunerLayer)]
    changed = {id(p) for layer in layers for p in layer.parameters()}
    kept = {id(p): p for p in adapted.parameters() if id(p) not in changed}
    return deepcopy(adapted, kept)


def _tie_what_is_equal(network: Any) -> None:
    """Ties embeddings and LM head again if they are equal after merging; otherwise the config says
    they differ.
    """
    ends = [network.get_input_embeddings(), network.get_output_embeddings()]
    config = network.config
    if None in ends or not getattr(
        config.get_text_config(), "tie_word_embeddings", getattr(config, "tie_word_embeddings", False)
    ):
        return
    if torch.equal(ends[0].weight, ends[1].weight):
        ends[1].weight = ends[0].weight
    else:
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
