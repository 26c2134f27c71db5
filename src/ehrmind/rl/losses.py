"""Policy losses: the clipped losses of GRPO (arXiv 2402.03300), DAPO (arXiv 2503.14476), Dr. GRPO
(arXiv 2503.20783) and GSPO (arXiv 2507.18071), with the k3 estimate of the KL divergence from a
frozen reference. `LOSSES` and `IMPORTANCE` list the choices.

One call computes one micro-batch's share of the whole batch's loss. The normalisers are those of
the whole batch, so that gradients of micro-batches add up. Left out on purpose: KL inside the
reward, and KL weighted by the importance ratio. Torch is imported by the functions, so that a
recipe can list the choices without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Normaliser(NamedTuple):
    """Counts over the whole batch, all workers included. `max_new_tokens` is Dr. GRPO's
    constant."""

    answers: int
    tokens: int
    max_new_tokens: int


class PolicyLoss(NamedTuple):
    """`loss` is this micro-batch's share. The others are detached sums over its tokens."""

    loss: Tensor
    kl_sum: Tensor
    clipped_sum: Tensor


class MicroBatch(NamedTuple):
    """Inputs of a loss. All are finite: where the mask is 0, log-probabilities are 0, ratios 1 and
    the penalty 0.

    `ratio_NT` is new over old probability, [N, 1] with one ratio per answer. `penalty_NT` is kl ·
    k3, or None without KL.
    """

    logprobs_NT: Tensor
    ratio_NT: Tensor
    advantages_N1: Tensor
    mask_NT: Tensor
    penalty_NT: Tensor | None
    clip_low: float
    clip_high: float
    whole: Normaliser


def clipped_NT(batch: MicroBatch) -> Tensor:
    """−min(ratio · A, clip(ratio, 1 − low, 1 + high) · A) + penalty per token (PPO, arXiv
    1707.06347, eq. 7).
    """
    import torch

    ratio_NT, advantages_N1 = batch.ratio_NT, batch.advantages_N1
    inside_NT = ratio_NT.clamp(1 - batch.clip_low, 1 + batch.clip_high)
    return with_penalty(-torch.minimum(ratio_NT * advantages_N1, inside_NT * advantages_N1), batch)


def with_penalty(loss_NT: Tensor, batch: MicroBatch) -> Tensor:
    """Adds the KL penalty and sets masked tokens to 0."""
    return (loss_NT if batch.penalty_NT is None else loss_NT + batch.penalty_NT) * batch.mask_NT


def grpo(batch: MicroBatch) -> Tensor:
    """Clipped loss, averaged over an answer's tokens, then over answers (arXiv 2402.03300, eq.
    3)."""
    tokens_N1 = batch.mask_NT.sum(1, keepdim=True)
    return (clipped_NT(batch).sum(1, keepdim=True) / tokens_N1.clamp(min=1)).sum() / batch.whole.answers


def dapo(batch: MicroBatch) -> Tensor:
    """Clipped loss, averaged over the batch's tokens (arXiv 2503.14476, eq. 8)."""
    return clipped_NT(batch).sum() / max(batch.whole.tokens, 1)


def dr_grpo(batch: MicroBatch) -> Tensor:
    """Clipped loss, summed over tokens and divided by answers · max_new_tokens (arXiv 2503.20783,
    section 3.1).
    """
    return clipped_NT(batch).sum() / (batch.whole.answers * batch.whole.max_new_tokens)


LOSSES: dict[str, Callable[[MicroBatch], Tensor]] = {"grpo": grpo, "dapo": dapo, "dr_grpo": dr_grpo}


def of_token(log_ratio_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """One log-ratio per token."""
    del mask_NT
    return log_ratio_NT


def of_sequence(log_ratio_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """The mean log-ratio of an answer's tokens [N, 1] (GSPO, arXiv 2507.18071, eq. 7)."""
    return log_ratio_NT.sum(1, keepdim=True) / mask_NT.sum(1, keepdim=True).clamp(min=1)


IMPORTANCE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"token": of_token, "sequence": of_sequence}


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
    """The loss `normalise` of `LOSSES`, with the importance ratio of `IMPORTANCE`.

    Values where the mask is 0 do not matter, infinities included. An answer that is masked whole
    contributes 0.
    """
    import torch

    for name, choices, what in ((importance, IMPORTANCE, "importance"), (normalise, LOSSES, "loss")):
        if name not in choices:
            raise ValueError(f"unknown {what} {name!r}; use one of {', '.join(choices)}")
    left_out_NT, mask_NT = ~mask_NT.bool(), mask_NT.float()
    log_ratio_NT = (logprobs_NT - old_logprobs_NT).masked_fill(left_out_NT, 0.0)
    ratio_NT = IMPORTANCE[importance](log_ratio_NT, mask_NT).exp()
    advantages_N1 = advantages_N[:, None]
    penalty_NT, kl_sum = None, torch.zeros((), device=logprobs_NT.device)
    if reference_logprobs_NT is not None and kl > 0:
        difference_NT = (reference_logprobs_NT - logprobs_NT).masked_fill(left_out_NT, 0.0)
        k3_NT = difference_NT.exp() - difference_NT - 1
        penalty_NT, kl_sum = kl * k3_NT, k3_NT.sum().detach()
    logprobs_NT = logprobs_NT.masked_fill(left_out_NT, 0.0)
    batch = MicroBatch(logprobs_NT, ratio_NT, advantages_N1, mask_NT, penalty_NT, clip_low, clip_high, whole)
    below_NT = (ratio_NT < 1 - clip_low) & (advantages_N1 < 0)
    outside_NT = below_NT | ((ratio_NT > 1 + clip_high) & (advantages_N1 > 0))
    clipped_sum = (outside_NT.float() * mask_NT).sum().detach()
    return PolicyLoss(LOSSES[normalise](batch), kl_sum, clipped_sum)
