"""The clipped policy loss of GRPO (arXiv 2402.03300), DAPO (arXiv 2503.14476), Dr. GRPO (arXiv 2503.20783) and GSPO
(arXiv 2507.18071), with the k3 estimate of the KL divergence from a frozen reference.

A call computes one micro-batch's share of the whole batch's loss: the normalisers are those of the whole batch, so that
gradients of micro-batches add up. Left out on purpose: KL inside the reward, and KL weighted by the importance ratio.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Normaliser(NamedTuple):
    """Counts over the whole batch, all workers included. `max_new_tokens` is Dr. GRPO's constant."""

    answers: int
    tokens: int
    max_new_tokens: int


class PolicyLoss(NamedTuple):
    """`loss` is this micro-batch's share. The others are detached sums over its tokens."""

    loss: Tensor
    kl_sum: Tensor
    clipped_sum: Tensor


def policy_loss(
    logprobs_NT: Tensor,
    old_logprobs_NT: Tensor,
    advantages_N: Tensor,
    mask_NT: Tensor,
    *,
    whole: Normaliser,
    clip_low: float,
    clip_high: float,
    importance: str = "token",
    normalise: str = "dapo",
    reference_logprobs_NT: Tensor | None = None,
    kl: float = 0.0,
) -> PolicyLoss:
    """−min(ratio · A, clip(ratio, 1 − low, 1 + high) · A) + kl · k3 per token, summed under `normalise`:

    grpo: mean over an answer's tokens, then over answers; dapo: mean over the batch's tokens; dr_grpo: sum over tokens
    / (answers · max_new_tokens). `importance="sequence"` uses one ratio an answer, the exponential of its mean log-ratio.
    What stands where the mask is 0 does not matter, infinities included; an answer that is masked whole contributes 0.
    """
    left_out_NT, mask_NT = ~mask_NT.bool(), mask_NT.float()
    tokens_N1 = mask_NT.sum(1, keepdim=True)
    log_ratio_NT = (logprobs_NT - old_logprobs_NT).masked_fill(left_out_NT, 0.0)
    if importance == "sequence":
        log_ratio_NT = log_ratio_NT.sum(1, keepdim=True) / tokens_N1.clamp(min=1)
    elif importance != "token":
        raise ValueError(f"unknown importance {importance!r}; use token or sequence")
    ratio = log_ratio_NT.exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    advantages_N1 = advantages_N[:, None]
    loss_NT = -torch.minimum(ratio * advantages_N1, clipped * advantages_N1)
    outside = ((ratio < 1 - clip_low) & (advantages_N1 < 0)) | ((ratio > 1 + clip_high) & (advantages_N1 > 0))
    kl_sum = torch.zeros((), device=logprobs_NT.device)
    if reference_logprobs_NT is not None and kl > 0:
        difference_NT = (reference_logprobs_NT - logprobs_NT).masked_fill(left_out_NT, 0.0)
        k3_NT = difference_NT.exp() - difference_NT - 1
        loss_NT = loss_NT + kl * k3_NT
        kl_sum = k3_NT.sum().detach()
    loss_NT = loss_NT * mask_NT
    if normalise == "grpo":
        loss = (loss_NT.sum(1, keepdim=True) / tokens_N1.clamp(min=1)).sum() / whole.answers
    elif normalise == "dapo":
        loss = loss_NT.sum() / max(whole.tokens, 1)
    elif normalise == "dr_grpo":
        loss = loss_NT.sum() / (whole.answers * whole.max_new_tokens)
    else:
        raise ValueError(f"unknown loss {normalise!r}; use grpo, dapo or dr_grpo")
    return PolicyLoss(loss, kl_sum, (outside.float() * mask_NT).sum().detach())
