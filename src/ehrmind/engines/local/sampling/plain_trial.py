"""Tries plain layers against the model's own modules when the model is opened."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ehrmind.engines.local.forward.sharing import trial_groups
from ehrmind.engines.local.sampling.decoder import Decoder
from ehrmind.engines.local.sampling.plain_layers import PACKED, TRIED, plain_layers

TOLERANCE = 1e-5  # of the largest logit
STEPS = 3  # decoded after the prefill


@torch.no_grad()
def try_plain_layers(network: Any) -> bool:
    """Lets a network's plain layers run without their modules if that gives the same logits.

    Prefill and single tokens of ragged prompts are compared in fp32. Returns whether they do.
    """
    plain = plain_layers(network, narrow=False)
    if plain is None:
        return False
    wanted = _decoded(network)
    object.__setattr__(network, PACKED, plain)
    try:
        found = _decoded(network)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
        return False
    finally:
        object.__delattr__(network, PACKED)
    agrees = float((found - wanted).abs().max()) <= TOLERANCE * max(1.0, float(wanted.abs().max()))
    object.__setattr__(network, TRIED, agrees)
    return agrees


def _decoded(network: Any) -> Tensor:
    """Returns logits [steps · rows, V] of two prompts with two answers each."""
    groups = trial_groups(network)[:2]
    decoder = Decoder(network, len(groups), group_size=2, longest=max(len(prompt) for prompt, _ in groups))
    found = [decoder.admit([prompt for prompt, _ in groups])]
    answers = [answer for _, group in groups for answer in group[:2]]
    found += [decoder.step(torch.tensor([answer[place] for answer in answers])) for place in range(STEPS)]
    return torch.cat(found)
