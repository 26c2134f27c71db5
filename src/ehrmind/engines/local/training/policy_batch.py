"""A batch of judged groups: the policy loss of its micro-batches, and how far sampler and learner
disagree.

Letters: `_N` answers, `_T` tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ehrmind.config import Decoding, Rlvr
from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.scoring import Scores
from ehrmind.rl.losses import Normaliser, policy_loss
from ehrmind.types import Group
from ehrmind.world import current

ByGroup = Sequence[Tensor | None]  # log-probabilities [tokens] of each group; None: another worker holds the group


@dataclass(frozen=True)
class PolicyBatch:
    """The groups that are scored, and what their loss is divided by.

    `whole` counts all groups, also those without a signal. `tokens` counts the learned tokens of
    the scored groups. `reference` holds log-probabilities for the KL term.
    """

    groups: Sequence[Group]
    settings: Rlvr
    whole: Normaliser
    tokens: int
    reference: ByGroup | None

    def loss(self, indices: Sequence[int], scores: Scores, old: ByGroup) -> tuple[Tensor, dict[str, float]]:
        """Computes a micro-batch's share of the batch's loss and metrics.

        `old` are the log-probabilities before the batch's first update. It is empty in the first
        epoch: `scores` are these log-probabilities then.
        """
        settings, device = self.settings, scores.logprobs.device
        lengths = [completion.n_tokens for index in indices for completion in self.groups[index].completions]
        learned = [learned for index in indices for learned in learned_tokens(self.groups[index], settings)]
        mask_NT = _padded(torch.tensor(learned, device=device), lengths)
        old_logprobs = _together(old, indices) if old else scores.logprobs.detach()
        out = policy_loss(
            _padded(scores.logprobs, lengths),
            _padded(old_logprobs, lengths),
            torch.tensor([a for index in indices for a in self.groups[index].advantages], device=device),
            mask_NT,
            whole=self.whole,
            clip_low=settings.clip_low,
            clip_high=settings.clip_high,
            importance=settings.importance,
            normalise=settings.loss,
            reference_logprobs_NT=None
            if self.reference is None
            else _padded(_together(self.reference, indices), lengths),
            kl=settings.kl,
        )
        sums = {"clipped": out.clipped_sum, "entropy": (_padded(scores.entropies, lengths) * mask_NT).sum()}
        if self.reference is not None:
            sums["kl"] = out.kl_sum
        return out.loss, {name: float(value) / self.tokens for name, value in sums.items()}


def packed(group: Group) -> Packed:
    completions = [
        [token for segment in completion.segments for token in segment.token_ids] for completion in group.completions
    ]
    return group.prompt.token_ids, completions


def counts(groups: Sequence[Group], settings: Rlvr, decoding: Decoding) -> Normaliser:
    answers = sum(len(group.completions) for group in groups)
    tokens = sum(sum(learned_tokens(group, settings)) for group in groups)
    return Normaliser(answers, tokens, decoding.max_new_tokens)


def learned_tokens(group: Group, settings: Rlvr) -> list[bool]:
    """Tells for each token of a group's answers whether it is learned.

    Tokens of a tool are not, nor tokens of a truncated answer that the recipe masks.
    """
    return [
        segment.trainable and not (settings.mask_truncated and completion.finish_reason == "length")
        for completion in group.completions
        for segment in completion.segments
        for _ in segment.token_ids
    ]


def train_inference_mismatch(groups: Sequence[Group], learner: ByGroup) -> dict[str, float]:
    """Compares the sampler's log-probabilities with the learner's of the same tokens, before the
    update.

    Returns mean and largest absolute difference in nats, over the groups of all workers.
    """
    held = [(group, logprobs) for group, logprobs in zip(groups, learner, strict=True) if logprobs is not None]
    sampled = [
        value
        for group, _ in held
        for completion in group.completions
        for segment in completion.segments
        for value in (segment.logprobs if segment.trainable else [math.nan] * len(segment.token_ids))
    ]
    gap = (torch.cat([logprobs.cpu() for _, logprobs in held] or [torch.empty(0)]) - torch.tensor(sampled)).abs()
    gap = gap[~gap.isnan()]
    found = current().gather([len(gap), float(gap.mean()), float(gap.max())] if len(gap) else None)
    parts = [part for part in found if part is not None]
    if not parts:
        return {}
    tokens = sum(count for count, _, _ in parts)
    return {
        "train_inference_mismatch": sum(count / tokens * mean for count, mean, _ in parts),
        "train_inference_mismatch_max": max(most for _, _, most in parts),
    }


def _padded(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    return pad_sequence(flat.split(list(lengths)), batch_first=True)


def _together(by_group: ByGroup, indices: Sequence[int]) -> Tensor:
    return torch.cat([found for index in indices if (found := by_group[index]) is not None])
