"""Rotary factors that depend on a sequence's length.

longrope has two sets of factors: one up to the length it was trained on and one beyond (Ding et
al., arXiv 2402.13753). Dynamic NTK scaling has other factors for every length beyond.
`transformers` chooses by the longest position in a call, so sequences with different factors must
not meet in one call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

LONG, DYNAMIC = "longrope", "dynamic"


class Switch(NamedTuple):
    """Sequences of more than `length` tokens have other factors; if it `grows`, every length has
    its own.
    """

    length: int
    grows: bool


def switch_of(network: Any) -> Switch | None:
    """Finds the length at which a model's rotary factors change; None if they never do."""
    config = network.config.get_text_config()
    said = getattr(config, "rope_parameters", None) or {}
    for parameters in (said, *said.values()):  # for the model, or for each kind of layer
        if not isinstance(parameters, dict):
            continue
        if parameters.get("rope_type") == LONG:
            trained = parameters.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            return Switch(int(trained or config.max_position_embeddings), grows=False)
        if parameters.get("rope_type") == DYNAMIC:
            return Switch(int(config.max_position_embeddings), grows=True)
    return None


def side(switch: Switch | None, length: int) -> int:
    """Returns a key that is equal for sequences with the same factors."""
    if switch is None or length <= switch.length:
        return 0
    return length if switch.grows else 1


def forget_lengths(network: Any) -> None:
    """Resets dynamic factors for the next sequence; otherwise those of the longest sequence so far
    stay.
    """
    for module in network.modules():
        if DYNAMIC in str(getattr(module, "rope_type", "")) and hasattr(module, "original_max_seq_len"):
            for name in [name for name, _ in module.named_buffers(recurse=False) if name.endswith("original_inv_freq")]:
                getattr(module, name.replace("original_", "")).copy_(getattr(module, name))
            module.max_seq_len_cached = module.original_max_seq_len
