"""Quantised base models: which are dequantised when they are opened, and which cannot be trained.

FP8 and MXFP4 checkpoints are dequantised on every device, because a rounded weight neither learns
nor can be saved as trained. Models that stay quantised in memory (bitsandbytes, GPTQ, AWQ …) can be
scored but not trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ehrmind.types import InputError

DEQUANTISED = frozenset({"fp8", "mxfp4"})  # transformers does it while it reads


def method_of(folder: Path) -> str | None:
    """Returns transformers' name of a model's quantisation; None if it is not quantised."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    return None if not found else str(found.get("quant_method", "bitsandbytes"))


def in_plain_numbers(config: Any) -> Any:
    """Changes a config so that its model is dequantised while it is read. Returns it."""
    for part in (config, config.get_text_config()):
        how = getattr(part, "quantization_config", None)
        if isinstance(how, dict) and how.get("quant_method") in DEQUANTISED:
            how["dequantize"] = True
    return config


def was_dequantised(network: Any) -> bool:
    """Tells whether a model's weights were dequantised while they were read."""
    conversions = getattr(network, "_weight_conversions", None) or ()
    return any(
        hasattr(operation, "hf_quantizer")
        for conversion in conversions
        for operation in getattr(conversion, "operations", ())
    )


def of_one_type(network: Any, dtype: torch.dtype) -> None:
    """Casts all weights of a dequantised model to `dtype`; transformers leaves them in the type of
    their scales.
    """
    if was_dequantised(network):
        for weight in network.parameters():
            weight.data = weight.data.to(dtype)


def keeps_from_learning(network: Any) -> str | None:
    """Says why a model that is quantised in memory cannot be trained; None if it is not
    quantised.
    """
    quantiser = getattr(network, "hf_quantizer", None)
    if quantiser is None:
        return None
    method = quantiser.quantization_config.quant_method
    how = getattr(method, "value", method)
    return f"its weights stay quantised ({how}), and what was trained of them could not be saved"


def refuse_untrainable(folder: Path) -> None:
    """Raises InputError if the base of an adapter stays quantised in memory."""
    method = method_of(folder)
    if method is not None and method not in DEQUANTISED:
        raise InputError(
            f"{folder.name} is quantised ({method}), and what an adapter changes of it could not be saved; name its "
            "unquantised original "
            "as the adapter's base."
        )
