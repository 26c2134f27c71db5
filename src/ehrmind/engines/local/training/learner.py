"""The learner: one AdamW step a call, on groups of judged answers (RLVR) or on gold responses
(warm-up).

The batch is dealt into `shards`. Their gradients are computed apart and summed as a tree, so that
the result does not depend on how many workers hold them. A shard is computed in micro-batches of a
fixed token budget. Every loss is normalised over the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ehrmind.config import Decoding, Optimiser, Rlvr
from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.model import LocalModel
from ehrmind.engines.local.scoring import Scores, microbatches, packed_length
from ehrmind.engines.local.training.checkpoint import load_checkpoint, save_checkpoint
from ehrmind.engines.local.training.masters import Trained
from ehrmind.engines.local.training.policy_batch import PolicyBatch, counts, packed, train_inference_mismatch
from ehrmind.engines.local.workers.fsdp import scorer, shard_among_workers, sum_over_workers
from ehrmind.engines.local.workers.reduction import added, clipped, over_workers
from ehrmind.engines.local.workers.sharding import TreeSum, deal
from ehrmind.engines.uniforms import question_key
from ehrmind.types import Group, Prompt
from ehrmind.world import current

# Given the indices of a micro-batch's groups and their scores: its share of the loss, and its share
# of the metrics
LossOf = Callable[[Sequence[int], Scores], tuple[Tensor, dict[str, float]]]
Logprobs = list[Tensor | None]  # [tokens] of each group, detached; None: another worker holds the group
FILLER: Packed = ((0,), [(0,)])  # is scored without a loss while other workers have one more micro-batch


class LocalLearner:
    """Owns the optimiser and, for a KL term, the frozen reference.

    The weights are the model's own.
    """

    def __init__(
        self,
        model: LocalModel,
        optimiser: Optimiser,
        total_steps: int,
        *,
        rlvr: Rlvr | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        self.model, self.settings, self.total_steps = model, optimiser, total_steps
        self.rlvr, self.decoding = rlvr, decoding or Decoding()
        self.sharded = model.strategy == "fsdp" and current().size > 1  # one worker alone has everything anyway
        self.reference = self._frozen_copy() if rlvr is not None and rlvr.kl > 0 else None
        if self.sharded:
            for network in {
                id(network): network for network in (model.network, self.reference) if network is not None
            }.values():
                shard_among_workers(network)
        self.trained = Trained(model.network)
        self.adamw = torch.optim.AdamW(
            self.trained.masters,
            lr=optimiser.learning_rate,
            betas=optimiser.betas,
            weight_decay=optimiser.weight_decay,
            fused=True,  # one pass over weights, gradients and moments
        )
        self.steps_done = 0
        if optimiser.gradient_checkpointing:
            model.network.gradient_checkpointing_enable({"use_reentrant": False})

    def learn_from_responses(self, pairs: Sequence[tuple[Prompt, tuple[int, ...]]]) -> dict[str, float]:
        """Takes one supervised step. The loss is averaged over the batch's response tokens.

        Neighbouring pairs with the same prompt are packed into one group.
        """
        groups: list[Packed] = [
            (ids, [response for _, response in same])
            for ids, same in groupby(pairs, key=lambda pair: pair[0].token_ids)
        ]
        tokens = sum(len(response) for _, response in pairs)
        metrics, _ = self._step(groups, partial(_response_loss, tokens), temperature=1.0)
        return metrics

    def learn_from_groups(self, groups: Sequence[Group]) -> dict[str, float]:
        """Takes `rlvr.epochs_per_batch` policy-gradient steps on one batch of judged groups."""
        assert self.rlvr is not None
        kept = [group for group in groups if any(group.advantages)] if self.reference is None else list(groups)
        prompts_and_answers, temperature = [packed(group) for group in kept], self.decoding.temperature
        batch = PolicyBatch(
            kept,
            self.rlvr,
            whole=counts(groups, self.rlvr, self.decoding),  # groups without a signal stay in the denominator
            tokens=max(1, counts(kept, self.rlvr, self.decoding).tokens),
            reference=self._reference_logprobs(prompts_and_answers, temperature),
        )
        metrics: dict[str, float] = {}
        old: Logprobs = []  # comes from the first epoch: the weights that sampled compute it on the way
        for epoch in range(self.rlvr.epochs_per_batch):
            metrics, logprobs = self._step(prompts_and_answers, partial(batch.loss, old=old), temperature=temperature)
            old = logprobs if epoch == 0 else old
        return metrics | train_inference_mismatch(kept, old)

    def save(self, folder: Path, progress: Mapping[str, Any]) -> None:
        save_checkpoint(folder, self.trained, self.adamw, {**progress, "optimiser_steps": self.steps_done})

    def resume(self, folder: Path) -> dict[str, Any]:
        progress = load_checkpoint(folder, self.trained, self.adamw)
        self.steps_done = progress["optimiser_steps"]
        return progress

    def _step(
        self, groups: Sequence[Packed], loss_of: LossOf, *, temperature: float
    ) -> tuple[dict[str, float], Logprobs]:
        """Sums the gradients of all shards, clips them and takes one AdamW step.

        Returns metrics, and each group's log-probabilities before the step.
        """
        self.model.network.train()
        self.trained.taken()
        shards = deal([packed_length(group) for group in groups], self.model.shards)
        gradients, reports = TreeSum(added), {}
        logprobs: Logprobs = [None] * len(groups)
        for shard in self._held():
            items = shards[shard]
            reports[shard], found = self._learn_shard(
                [groups[item] for item in items], items, shard, loss_of, temperature
            )
            for item, of_group in zip(items, found, strict=True):
                logprobs[item] = of_group
            gradients.take(self.trained.taken())
        masters = self.trained.masters
        total = gradients.total() if self.sharded else over_workers(gradients.total(), masters)
        for master, gradient in zip(masters, total, strict=True):
            master.grad = gradient
        norm = clipped(masters, self.settings.max_gradient_norm, self.model.shards)
        rate = self._learning_rate()
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self.trained.show()
        self.steps_done += 1
        self.model.network.eval()
        return {**_summed(reports), "gradient_norm": norm, "learning_rate": rate}, logprobs

    def _held(self) -> range:
        """Returns this worker's shards in the order of their sum.

        They are a block. With FSDP, which sums a shard's gradients over all workers at once, they
        are every `size`-th shard, so that neighbours are computed together.
        """
        world = current()
        block = world.block(self.model.shards)
        return range(world.rank, self.model.shards, world.size) if self.sharded else block

    def _learn_shard(
        self, groups: Sequence[Packed], items: Sequence[int], shard: int, loss_of: LossOf, temperature: float
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Adds the gradients of a shard's loss to the parameters'.

        `items` are the groups' numbers in the batch. Returns sums of metrics, and each group's
        log-probabilities.
        """
        stage = "warmup" if self.rlvr is None else "rlvr"
        torch.manual_seed(question_key(self.model.seed, f"drawn in {stage}", self.steps_done, str(shard)))
        report = {"loss": 0.0}
        logprobs: dict[int, Tensor] = {}
        batches = self._microbatches(groups)
        for place, batch in enumerate(batches):
            if self.sharded:
                sum_over_workers(self.model.network, after_this=place + 1 == len(batches))
            here = [groups[index] for index in batch]
            with self.model.autocast():
                scores = self._score(self.model.network, here or [FILLER], temperature)
            if here:
                loss, sums = loss_of([items[index] for index in batch], scores)
                logprobs |= zip(batch, _by_group(scores.logprobs.detach(), here), strict=True)
            else:
                loss, sums = 0.0 * scores.logprobs.sum(), {}
            loss.backward()
            for name, value in {"loss": float(loss.detach()), **sums}.items():
                report[name] = report.get(name, 0.0) + value
        return report, [logprobs[index] for index in range(len(groups))]

    def _microbatches(self, groups: Sequence[Packed]) -> list[list[int]]:
        """Splits groups into micro-batches of indices.

        With FSDP all workers get as many, empty ones at the end.
        """
        batches = list(microbatches(groups, self.settings.tokens_per_microbatch))
        most = max(current().gather(len(batches))) if self.sharded else len(batches)
        return batches + [[]] * (most - len(batches))

    def _learning_rate(self) -> float:
        """Computes the rate of the next step: linear warm-up, then constant or cosine."""
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

    def _reference_logprobs(self, groups: Sequence[Packed], temperature: float) -> Logprobs | None:
        if self.reference is None:
            return None
        if self.reference is self.model.network:  # LoRA: the reference is the model with its adapter off
            with self.model.network.disable_adapter():
                return self._logprobs(self.model.network, groups, temperature)
        return self._logprobs(self.reference, groups, temperature)

    def _logprobs(self, network: Any, groups: Sequence[Packed], temperature: float) -> Logprobs:
        """Scores the groups of this worker's shards without gradients."""
        out: Logprobs = [None] * len(groups)
        shards = deal([packed_length(group) for group in groups], self.model.shards)
        with torch.no_grad(), self.model.autocast():
            for items in (shards[shard] for shard in self._held()):
                for batch in self._microbatches([groups[item] for item in items]):
                    here = [groups[items[index]] for index in batch]
                    scores = self._score(network, here or [FILLER], temperature)
                    for index, logprobs in zip(batch, _by_group(scores.logprobs, here) if here else (), strict=True):
                        out[items[index]] = logprobs
        return out

    def _score(self, network: Any, groups: Sequence[Packed], temperature: float) -> Scores:
        return scorer(network)(groups, temperature=temperature, shared=self.model.shared, pad_id=self.model.pad_id)

    def _frozen_copy(self) -> Any:
        if self.model.settings.lora is not None:
            return self.model.network
        return deepcopy(self.model.network).eval().requires_grad_(False)


def _response_loss(tokens: int, indices: Sequence[int], scores: Scores) -> tuple[Tensor, dict[str, float]]:
    """Computes the share of −log p of a batch with that many response tokens."""
    return -scores.logprobs.sum() / tokens, {"entropy": float(scores.entropies.sum()) / tokens}


def _by_group(logprobs: Tensor, groups: Sequence[Packed]) -> tuple[Tensor, ...]:
    return logprobs.split([sum(map(len, completions)) for _, completions in groups])


def _summed(reports: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Sums metrics over the shards of all workers, in the order of the shards."""
    total: dict[str, float] = {}
    mine: list[Any] = [[shard, dict(report)] for shard, report in reports.items()]
    gathered = [pair for of_worker in current().gather(mine) for pair in of_worker]
    for _, report in sorted(gathered, key=lambda pair: int(pair[0])):
        for name, value in report.items():
            total[name] = total.get(name, 0.0) + value
    return total
