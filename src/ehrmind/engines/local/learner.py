"""The learner: one AdamW step a call, on groups of judged answers (RLVR) or on gold responses (warm-up).

The batch is cut into `shards` whose gradients are computed apart and summed in order, so that the result does not depend on
how many workers hold them; within a shard, micro-batches of a fixed token budget. Every loss is normalised over the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ehrmind.config import Decoding, Optimiser, Rlvr
from ehrmind.engines.local.checkpoint import load_checkpoint, save_checkpoint
from ehrmind.engines.local.packing import Packed
from ehrmind.engines.local.scoring import Scores, microbatches, score
from ehrmind.rl.losses import Normaliser, policy_loss
from ehrmind.types import Group, Prompt

if TYPE_CHECKING:
    from ehrmind.engines.local.engine import LocalEngine

# Given the indices of a micro-batch's groups and their scores: this micro-batch's share of the loss, and sums to report
ShareOfLoss = Callable[[list[int], Scores], tuple[Tensor, dict[str, float]]]


class LocalLearner:
    """Owns the optimiser and, where a KL term asks for it, the frozen reference. Weights are the engine's own."""

    def __init__(
        self, engine: LocalEngine, optimiser: Optimiser, total_steps: int, *, rlvr: Rlvr | None = None, decoding: Decoding | None = None
    ) -> None:
        self.engine, self.settings, self.total_steps = engine, optimiser, total_steps
        self.rlvr, self.decoding = rlvr, decoding or Decoding()
        self.parameters = [parameter for parameter in engine.network.parameters() if parameter.requires_grad]
        self.adamw = torch.optim.AdamW(
            self.parameters,
            lr=optimiser.learning_rate,
            betas=optimiser.betas,
            weight_decay=optimiser.weight_decay,
            fused=engine.network.device.type == "cuda",  # one pass over weights, gradients and moments
        )
        self.steps_done = 0
        self.reference = self._frozen_copy() if rlvr is not None and rlvr.kl > 0 else None
        if optimiser.gradient_checkpointing:
            engine.network.gradient_checkpointing_enable({"use_reentrant": False})

    def learn_from_responses(self, pairs: Sequence[tuple[Prompt, tuple[int, ...]]]) -> dict[str, float]:
        """One supervised step; the loss is on the response's tokens only, averaged over the batch's. Neighbouring pairs with
        the same prompt are packed behind it together."""
        groups: list[Packed] = [
            (ids, [response for _, response in same]) for ids, same in groupby(pairs, key=lambda pair: pair[0].token_ids)
        ]
        tokens = sum(len(response) for _, response in pairs)

        def share(_: list[int], scores: Scores) -> tuple[Tensor, dict[str, float]]:
            return -scores.logprobs.sum() / tokens, {"entropy": float(scores.entropies.sum()) / tokens}

        return self._step([groups], share, temperature=1.0)

    def learn_from_groups(self, groups: Sequence[Group]) -> dict[str, float]:
        """One or more policy-gradient steps on one batch of judged groups (`rlvr.epochs_per_batch`)."""
        assert self.rlvr is not None
        metrics: dict[str, float] = {}
        kept = [group for group in groups if any(group.advantages)] if self.reference is None else list(groups)
        whole = _counts(groups, self.rlvr, self.decoding)  # all-equal groups stay in the denominator
        packed = [_packed(group) for group in kept]
        temperature = self.decoding.temperature
        reference = self._reference_logprobs(packed, temperature)
        old: list[Tensor] = [torch.empty(0)] * len(packed)  # filled in the first epoch: what sampled is what learns then
        size = max(1, math.ceil(len(packed) / self.rlvr.shards))
        shards = [packed[start : start + size] for start in range(0, len(packed), size)] or [[]]
        starts = range(0, max(len(packed), 1), size)
        for epoch in range(self.rlvr.epochs_per_batch):
            share = self._policy_share(kept, old, reference, whole, first=epoch == 0)
            metrics = self._step(shards, share, temperature=temperature, starts=starts)
        return metrics | _sampler_gap(kept, old)

    def save(self, folder: Path, progress: Mapping[str, Any]) -> None:
        save_checkpoint(folder, self.engine.network, self.adamw, {**progress, "optimiser_steps": self.steps_done})

    def resume(self, folder: Path) -> dict[str, Any]:
        progress = load_checkpoint(folder, self.engine.network, self.adamw)
        self.steps_done = progress["optimiser_steps"]
        return progress

    def _policy_share(
        self, groups: Sequence[Group], old: list[Tensor], reference: list[Tensor] | None, whole: Normaliser, *, first: bool
    ) -> ShareOfLoss:
        """In the `first` epoch the log-probabilities computed on the way are kept in `old`: no pass of their own."""
        settings = self.rlvr
        assert settings is not None
        scored = max(1, _counts(groups, settings, self.decoding).tokens)  # groups without signal may not be scored at all

        def share(indices: list[int], scores: Scores) -> tuple[Tensor, dict[str, float]]:
            lengths = [completion.n_tokens for index in indices for completion in groups[index].completions]
            device = scores.logprobs.device
            mask_NT = _padded(torch.tensor([learnt for i in indices for learnt in _learnt(groups[i], settings)], device=device), lengths)
            logprobs_NT = _padded(scores.logprobs, lengths)
            if first:
                tokens = [sum(completion.n_tokens for completion in groups[index].completions) for index in indices]
                for index, logprobs in zip(indices, scores.logprobs.detach().split(tokens), strict=True):
                    old[index] = logprobs
            old_NT = _padded(torch.cat([old[index] for index in indices]), lengths)
            reference_NT = None if reference is None else _padded(torch.cat([reference[index] for index in indices]), lengths)
            advantages_N = torch.tensor([a for index in indices for a in groups[index].advantages], device=device)
            out = policy_loss(
                logprobs_NT,
                old_NT,
                advantages_N,
                mask_NT,
                whole=whole,
                clip_low=settings.clip_low,
                clip_high=settings.clip_high,
                importance=settings.importance,
                normalise=settings.loss,
                reference_logprobs_NT=reference_NT,
                kl=settings.kl,
            )
            sums = {"clipped": out.clipped_sum, "entropy": (_padded(scores.entropies, lengths) * mask_NT).sum()}
            if reference is not None:
                sums["kl"] = out.kl_sum
            return out.loss, {name: float(value) / scored for name, value in sums.items()}

        return share

    def _step(
        self, shards: Sequence[Sequence[Packed]], share: ShareOfLoss, *, temperature: float, starts: Sequence[int] = (0,)
    ) -> dict[str, float]:
        """Gradients of every shard summed in order, clipped, one AdamW step under warm-up and cosine."""
        self.engine.network.train()
        metrics: dict[str, float] = {"loss": 0.0}
        total: list[Tensor | None] = [None] * len(self.parameters)
        for first, shard in zip(starts, shards, strict=True):
            self.adamw.zero_grad(set_to_none=True)
            for indices in microbatches(shard, self.settings.tokens_per_microbatch):
                with self.engine.autocast():
                    scores = self._score(self.engine.network, [shard[index] for index in indices], temperature)
                loss, sums = share([first + index for index in indices], scores)
                loss.backward()
                metrics["loss"] += float(loss.detach())
                for name, value in sums.items():
                    metrics[name] = metrics.get(name, 0.0) + value
            total = [_added(sum_, parameter.grad) for sum_, parameter in zip(total, self.parameters, strict=True)]
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_gradient_norm))
        rate = self._learning_rate()
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self.steps_done += 1
        self.engine.network.eval()
        return {**metrics, "gradient_norm": norm, "learning_rate": rate}

    def _learning_rate(self) -> float:
        settings = self.settings
        epochs = self.rlvr.epochs_per_batch if self.rlvr is not None else 1
        total = self.total_steps * epochs
        warm = max(1, round(settings.warmup_share * total)) if settings.warmup_share else 0
        if self.steps_done < warm:
            return settings.learning_rate * (self.steps_done + 1) / warm
        if settings.schedule == "constant":
            return settings.learning_rate
        progress = min(1.0, (self.steps_done - warm) / max(1, total - warm))
        return settings.learning_rate * (settings.final_share + (1 - settings.final_share) * 0.5 * (1 + math.cos(math.pi * progress)))

    def _reference_logprobs(self, packed: Sequence[Packed], temperature: float) -> list[Tensor] | None:
        if self.reference is None:
            return None
        if self.reference is self.engine.network:  # LoRA: the reference is the model with its adapter off
            with self.engine.network.disable_adapter():
                return self._logprobs(self.engine.network, packed, temperature)
        return self._logprobs(self.reference, packed, temperature)

    def _logprobs(self, network: Any, packed: Sequence[Packed], temperature: float) -> list[Tensor]:
        """Log-probabilities [tokens] of each group, no gradients."""
        out: list[Tensor] = [torch.empty(0)] * len(packed)
        with torch.no_grad(), self.engine.autocast():
            for indices in microbatches(packed, self.settings.tokens_per_microbatch):
                scores = self._score(network, [packed[index] for index in indices], temperature)
                lengths = [sum(len(completion) for completion in packed[index][1]) for index in indices]
                for index, logprobs in zip(indices, scores.logprobs.split(lengths), strict=True):
                    out[index] = logprobs
        return out

    def _score(self, network: Any, groups: Sequence[Packed], temperature: float) -> Scores:
        return score(network, groups, temperature=temperature, shared=self.engine.shared, pad_id=self.engine.pad_id)

    def _frozen_copy(self) -> Any:
        if self.engine.settings.lora is not None:
            return self.engine.network
        from copy import deepcopy

        return deepcopy(self.engine.network).eval().requires_grad_(False)


def _packed(group: Group) -> Packed:
    completions = [[token for segment in completion.segments for token in segment.token_ids] for completion in group.completions]
    return group.prompt.token_ids, completions


def _sampler_gap(groups: Sequence[Group], learners: Sequence[Tensor]) -> dict[str, float]:
    """How far the sampler's log-probabilities are from the learner's for the same tokens, before it learns."""
    if not groups:
        return {}
    sampled = [
        value
        for group in groups
        for completion in group.completions
        for segment in completion.segments
        for value in (segment.logprobs if segment.trainable else [math.nan] * len(segment.token_ids))
    ]
    gap = (torch.cat(list(learners)).cpu() - torch.tensor(sampled)).abs()
    gap = gap[~gap.isnan()]
    return {"sampler_gap": float(gap.mean()), "sampler_gap_max": float(gap.max())}


def _learnt(group: Group, settings: Rlvr) -> list[bool]:
    """For each token of the group's answers, whether it is learnt: not a tool's, nor of an answer that the recipe masks."""
    return [
        segment.trainable and not (settings.mask_truncated and completion.finish_reason == "length")
        for completion in group.completions
        for segment in completion.segments
        for _ in segment.token_ids
    ]


def _counts(groups: Sequence[Group], settings: Rlvr, decoding: Decoding) -> Normaliser:
    answers = sum(len(group.completions) for group in groups)
    return Normaliser(answers, sum(sum(_learnt(group, settings)) for group in groups), decoding.max_new_tokens)


def _padded(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(flat.split(list(lengths)), batch_first=True)


def _added(sum_: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    if gradient is None:
        return sum_
    return gradient if sum_ is None else sum_ + gradient
