"""The learner: one AdamW step a call, on groups of judged answers (RLVR) or on gold responses (warm-up).

The batch is cut into `shards` whose gradients are computed apart and summed as a tree, so that the result does not depend on how many
workers hold them; within a shard, micro-batches of a fixed token budget. Every loss is normalised over the whole batch.
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
from ehrmind.engines.local.fsdp import cut_among_workers, scorer, sum_over_workers
from ehrmind.engines.local.packing import Packed
from ehrmind.engines.local.reduction import added, clipped, over_workers
from ehrmind.engines.local.scoring import Scores, microbatches, packed_length
from ehrmind.engines.local.sharding import TreeSum, deal
from ehrmind.engines.local.trained import Trained
from ehrmind.engines.uniforms import question_key
from ehrmind.rl.losses import Normaliser, policy_loss
from ehrmind.types import Group, Prompt
from ehrmind.world import current

if TYPE_CHECKING:
    from ehrmind.engines.local.engine import LocalEngine

# Given the indices of a micro-batch's groups and their scores: this micro-batch's share of the loss, and sums to report
ShareOfLoss = Callable[[list[int], Scores], tuple[Tensor, dict[str, float]]]
NOTHING: Packed = ((0,), [(0,)])  # scored for company, where other workers have one micro-batch more


class LocalLearner:
    """Owns the optimiser and, where a KL term asks for it, the frozen reference. Weights are the engine's own."""

    def __init__(
        self,
        engine: LocalEngine,
        optimiser: Optimiser,
        total_steps: int,
        *,
        rlvr: Rlvr | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        self.engine, self.settings, self.total_steps = engine, optimiser, total_steps
        self.rlvr, self.decoding = rlvr, decoding or Decoding()
        self.cut = engine.strategy == "fsdp" and current().size > 1  # a worker alone has everything anyway
        self.reference = self._frozen_copy() if rlvr is not None and rlvr.kl > 0 else None
        for network in {
            id(network): network for network in (engine.network, self.reference) if self.cut and network is not None
        }.values():
            cut_among_workers(network)
        self.trained = Trained(engine.network)
        self.adamw = torch.optim.AdamW(
            self.trained.masters,
            lr=optimiser.learning_rate,
            betas=optimiser.betas,
            weight_decay=optimiser.weight_decay,
            fused=engine.network.device.type == "cuda",  # one pass over weights, gradients and moments
        )
        self.steps_done = 0
        if optimiser.gradient_checkpointing:
            engine.network.gradient_checkpointing_enable({"use_reentrant": False})

    def learn_from_responses(self, pairs: Sequence[tuple[Prompt, tuple[int, ...]]]) -> dict[str, float]:
        """One supervised step; the loss is on the response's tokens only, averaged over the batch's. Neighbouring pairs with
        the same prompt are packed behind it together."""
        groups: list[Packed] = [
            (ids, [response for _, response in same])
            for ids, same in groupby(pairs, key=lambda pair: pair[0].token_ids)
        ]
        tokens = sum(len(response) for _, response in pairs)

        def share(_: list[int], scores: Scores) -> tuple[Tensor, dict[str, float]]:
            return -scores.logprobs.sum() / tokens, {"entropy": float(scores.entropies.sum()) / tokens}

        return self._step(groups, share, temperature=1.0)

    def learn_from_groups(self, groups: Sequence[Group]) -> dict[str, float]:
        """One or more policy-gradient steps on one batch of judged groups (`rlvr.epochs_per_batch`)."""
        assert self.rlvr is not None
        metrics: dict[str, float] = {}
        kept = [group for group in groups if any(group.advantages)] if self.reference is None else list(groups)
        whole = _counts(groups, self.rlvr, self.decoding)  # all-equal groups stay in the denominator
        packed = [_packed(group) for group in kept]
        temperature = self.decoding.temperature
        reference = self._reference_logprobs(packed, temperature)
        old: list[Tensor | None] = [None] * len(packed)  # filled in the first epoch: what sampled is what learns then
        for epoch in range(self.rlvr.epochs_per_batch):
            share = self._policy_share(kept, old, reference, whole, first=epoch == 0)
            metrics = self._step(packed, share, temperature=temperature)
        return metrics | _sampler_gap(kept, old)

    def save(self, folder: Path, progress: Mapping[str, Any]) -> None:
        save_checkpoint(folder, self.trained, self.adamw, {**progress, "optimiser_steps": self.steps_done})

    def resume(self, folder: Path) -> dict[str, Any]:
        progress = load_checkpoint(folder, self.trained, self.adamw)
        self.steps_done = progress["optimiser_steps"]
        return progress

    def _policy_share(
        self,
        groups: Sequence[Group],
        old: list[Tensor | None],
        reference: list[Tensor | None] | None,
        whole: Normaliser,
        *,
        first: bool,
    ) -> ShareOfLoss:
        """In the `first` epoch the log-probabilities computed on the way are kept in `old`: no pass of their own."""
        settings = self.rlvr
        assert settings is not None
        scored = max(
            1, _counts(groups, settings, self.decoding).tokens
        )  # groups without signal may not be scored at all

        def share(indices: list[int], scores: Scores) -> tuple[Tensor, dict[str, float]]:
            lengths = [completion.n_tokens for index in indices for completion in groups[index].completions]
            device = scores.logprobs.device
            mask_NT = _padded(
                torch.tensor([learnt for i in indices for learnt in _learnt(groups[i], settings)], device=device),
                lengths,
            )
            logprobs_NT = _padded(scores.logprobs, lengths)
            if first:
                tokens = [sum(completion.n_tokens for completion in groups[index].completions) for index in indices]
                for index, logprobs in zip(indices, scores.logprobs.detach().split(tokens), strict=True):
                    old[index] = logprobs
            old_NT = _padded(_together(old, indices), lengths)
            reference_NT = None if reference is None else _padded(_together(reference, indices), lengths)
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

    def _step(self, packed: Sequence[Packed], share: ShareOfLoss, *, temperature: float) -> dict[str, float]:
        """Gradients of all shards summed, clipped, one AdamW step under warm-up and cosine."""
        self.engine.network.train()
        self.trained.taken()
        shards = deal([packed_length(group) for group in packed], self.engine.shards)
        gradients, reports = TreeSum(added), {}
        for shard in self._held():
            reports[shard] = self._learn_shard(packed, shards[shard], shard, share, temperature)
            gradients.take(self.trained.taken())
        masters = self.trained.masters
        total = gradients.total() if self.cut else over_workers(gradients.total(), masters)
        for master, gradient in zip(masters, total, strict=True):
            master.grad = gradient
        norm = clipped(masters, self.settings.max_gradient_norm, self.engine.shards)
        rate = self._learning_rate()
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self.trained.show()
        self.steps_done += 1
        self.engine.network.eval()
        return {**_summed(reports), "gradient_norm": norm, "learning_rate": rate}

    def _held(self) -> range:
        """The shards of this worker, in the order of their sum: a block, or, where every shard's gradients are summed over workers at once,
        one of every neighbours' group."""
        world = current()
        block = world.block(self.engine.shards)
        return range(world.rank, self.engine.shards, world.size) if self.cut else block

    def _learn_shard(
        self, packed: Sequence[Packed], items: list[int], shard: int, share: ShareOfLoss, temperature: float
    ) -> dict[str, float]:
        """Gradients of a shard's share of the loss are added to the parameters'; returns what it has to report."""
        stage = "warmup" if self.rlvr is None else "rlvr"
        torch.manual_seed(
            question_key(self.engine.seed, f"drawn in {stage}", self.steps_done, str(shard))
        )  # whoever holds the shard
        report = {"loss": 0.0}
        batches = self._microbatches([packed[item] for item in items])
        for place, batch in enumerate(batches):
            indices = [items[index] for index in batch]
            if self.cut:
                sum_over_workers(self.engine.network, after_this=place + 1 == len(batches))
            with self.engine.autocast():
                scores = self._score(
                    self.engine.network, [packed[index] for index in indices] or [NOTHING], temperature
                )
            loss, sums = share(indices, scores) if indices else (0.0 * scores.logprobs.sum(), {})
            loss.backward()
            for name, value in {"loss": float(loss.detach()), **sums}.items():
                report[name] = report.get(name, 0.0) + value
        return report

    def _microbatches(self, groups: Sequence[Packed]) -> list[list[int]]:
        """Indices. Where workers wait for each other in every one, all have as many, empty ones at the end."""
        batches = list(microbatches(groups, self.settings.tokens_per_microbatch))
        most = max(current().gather(len(batches))) if self.cut else len(batches)
        return batches + [[]] * (most - len(batches))

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
        return settings.learning_rate * (
            settings.final_share + (1 - settings.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
        )

    def _reference_logprobs(self, packed: Sequence[Packed], temperature: float) -> list[Tensor | None] | None:
        if self.reference is None:
            return None
        if self.reference is self.engine.network:  # LoRA: the reference is the model with its adapter off
            with self.engine.network.disable_adapter():
                return self._logprobs(self.engine.network, packed, temperature)
        return self._logprobs(self.reference, packed, temperature)

    def _logprobs(self, network: Any, packed: Sequence[Packed], temperature: float) -> list[Tensor | None]:
        """Log-probabilities [tokens] of each group of this worker's shards, no gradients; None of the others'."""
        out: list[Tensor | None] = [None] * len(packed)
        shards = deal([packed_length(group) for group in packed], self.engine.shards)
        with torch.no_grad(), self.engine.autocast():
            for items in (shards[shard] for shard in self._held()):
                for batch in self._microbatches([packed[item] for item in items]):
                    groups = [packed[items[index]] for index in batch]
                    scores = self._score(network, groups or [NOTHING], temperature)
                    lengths = [sum(map(len, completions)) for _, completions in groups] or [1]
                    for index, logprobs in zip(batch, scores.logprobs.split(lengths), strict=False):
                        out[items[index]] = logprobs
        return out

    def _score(self, network: Any, groups: Sequence[Packed], temperature: float) -> Scores:
        return scorer(network)(groups, temperature=temperature, shared=self.engine.shared, pad_id=self.engine.pad_id)

    def _frozen_copy(self) -> Any:
        if self.engine.settings.lora is not None:
            return self.engine.network
        from copy import deepcopy

        return deepcopy(self.engine.network).eval().requires_grad_(False)


def _packed(group: Group) -> Packed:
    completions = [
        [token for segment in completion.segments for token in segment.token_ids] for completion in group.completions
    ]
    return group.prompt.token_ids, completions


def _sampler_gap(groups: Sequence[Group], learners: Sequence[Tensor | None]) -> dict[str, float]:
    """How far the sampler's log-probabilities are from the learner's for the same tokens, before it learns. Of groups that other workers
    hold, they know."""
    held = [(group, logprobs) for group, logprobs in zip(groups, learners, strict=True) if logprobs is not None]
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
        "sampler_gap": sum(count / tokens * mean for count, mean, _ in parts),
        "sampler_gap_max": max(most for _, _, most in parts),
    }


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


def _together(of_groups: Sequence[Tensor | None], indices: Sequence[int]) -> Tensor:
    """Of groups whose shard this worker holds."""
    return torch.cat([found for index in indices if (found := of_groups[index]) is not None])


def _summed(reports: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Over the shards of all workers, in the shards' order."""
    total: dict[str, float] = {}
    mine: list[Any] = [[shard, dict(report)] for shard, report in reports.items()]
    for _, report in sorted((pair for told in current().gather(mine) for pair in told), key=lambda pair: int(pair[0])):
        for name, value in report.items():
            total[name] = total.get(name, 0.0) + value
    return total
