"""Tries on a small synthetic group whether a model's prompts can be shared; its name says nothing
about it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ehrmind.engines.local.forward.attention import NAME, windows
from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.forward.states import forget_states, share_states
from ehrmind.engines.local.sampling.decoder import Decoder
from ehrmind.engines.local.scoring import score

LOG = logging.getLogger(__name__)
SLOWER = "each prompt will be computed once for every answer, which takes several times as long"
# Largest differences of log-probabilities. Rounding grows with their standard deviation. A trained
# model of 30 layers is off by 1e-5 standard deviations in fp32 and by 0.09 in bf16; positions that
# are one too high put it off by 0.36.
TOLERANCE, NARROW_TOLERANCE = 1e-4, 0.2
TRIED_ON = ("cpu", "cuda")
STEPS = 3  # decoded after the prefill


def share_prompts(network: Any) -> bool:
    """Switches a model to shared-prompt attention if that gives the model's own log-probabilities.

    Whole sequences and single tokens are compared, in training and in sampling mode. A model that
    disagrees (other kinds of layers, a layout that is ignored, capped attention) stays unchanged.
    Returns whether prompts are shared.
    """
    before = network.config._attn_implementation
    device = next(network.parameters()).device.type
    untried = None
    if device not in TRIED_ON:
        untried = f"not tried on {device}"
    elif windows(network.config.get_text_config()) is None or not share_states(network):
        untried = "layers of an unknown kind"
    if untried:
        LOG.warning("%s: prompts are not shared (%s); %s", type(network).__name__, untried, SLOWER)
        return False
    groups = trial_groups(network)
    training = network.training
    network.eval()
    shared = False
    try:
        with torch.no_grad():
            plain = score(network, groups, temperature=1.0, shared=False, pad_id=0).logprobs
            bare = _bare(network, *groups[0])
            network.set_attn_implementation(NAME)
            packed = score(network, groups, temperature=1.0, shared=True, pad_id=0).logprobs
            network.train()
            learned = score(network, groups, temperature=1.0, shared=True, pad_id=0).logprobs
            network.eval()
            decoded = _decoded(network, groups[:2])
        spread = float(plain.std())
        tolerance = TOLERANCE * max(1.0, spread) if network.dtype == torch.float32 else NARROW_TOLERANCE * spread
        starts = torch.tensor([0, 5, 15, 19])[:, None]  # of the four answers decoded, in the flat log-probabilities
        wanted = plain[starts + torch.arange(1, STEPS + 1)]
        pairs = [(packed, plain), (learned, plain), (decoded, wanted), (bare, plain[: len(bare)])]
        shared = all(bool((found - right).abs().le(tolerance).all()) for found, right in pairs)
        if not shared:
            LOG.warning("%s: another result with shared prompts than without; %s", type(network).__name__, SLOWER)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        AssertionError,
        NotImplementedError,
    ) as error:
        LOG.warning(
            "%s: prompts cannot be shared (%s: %s); %s",
            type(network).__name__,
            type(error).__name__,
            str(error)[:300],
            SLOWER,
        )
    finally:
        network.train(training)
        if not shared:
            network.set_attn_implementation(before)
            forget_states(network)
    return shared


def _bare(network: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> Tensor:
    """Computes the first answer's log-probabilities from tokens alone, for models that also take
    images or sound.

    Some of these let a prompt's tokens see each other. Returns an empty tensor for other models.
    """
    if network.config.get_text_config() is network.config:
        return torch.empty(0, device=next(network.parameters()).device)
    ids = torch.tensor([[*prompt, *answers[0]]], device=next(network.parameters()).device)
    logprobs_TV = torch.log_softmax(network(input_ids=ids, use_cache=True).logits[0].float(), -1)
    return logprobs_TV[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])[:, 0]


def trial_groups(network: Any) -> list[Packed]:
    """Makes ragged groups of synthetic tokens."""
    vocabulary = network.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, vocabulary, (24,), generator=torch.Generator().manual_seed(0)).tolist()
    return [(ids[:9], [ids[9:14], ids[14:21], ids[21:]]), (ids[3:8], [ids[:4], ids[4:10]]), (ids[2:6], [ids[6:12]])]


def _decoded(network: Any, groups: list[Packed]) -> Tensor:
    """Decodes two answers to each prompt.

    Returns log-probabilities [answers, STEPS] of their second to fourth tokens.
    """
    decoder = Decoder(network, len(groups), group_size=2, longest=max(len(prompt) for prompt, _ in groups))
    decoder.admit([prompt for prompt, _ in groups])
    answers = [answer for _, group in groups for answer in group[:2]]
    found = []
    for place in range(STEPS):
        logprobs_RV = torch.log_softmax(
            decoder.step(torch.tensor([answer[place] for answer in answers], device=decoder.device)).float(), -1
        )
        found.append(
            logprobs_RV.gather(1, torch.tensor([[answer[place + 1]] for answer in answers], device=decoder.device))[
                :, 0
            ]
        )
    return torch.stack(found, 1)
