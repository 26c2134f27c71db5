"""Gradients of all workers, summed: the only thing of a step that is as large as the model and crosses the wire.

No wrapper such as DistributedDataParallel: it averages over workers and adds micro-batches in the order in which they come, while our
loss is a sum over the whole batch, and the order of sums is that of its shards. What is left to do is one sum over workers at a step's end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from ehrmind.world import current

BUCKET = 1 << 25  # bytes that go out at once

Gradients = list[Tensor | None]


def added(left: Gradients, right: Gradients) -> Gradients:
    """The sum, in the left ones' place."""
    return [b if a is None else a if b is None else a.add_(b) for a, b in zip(left, right, strict=True)]


def over_workers(gradients: Gradients, parameters: Sequence[Tensor]) -> Gradients:
    """Summed over all workers, the same bits on each of them. One that nobody has stays None, so that its parameter is left alone; one
    that only some have counts as 0 with the others."""
    world = current()
    if world.size == 1:
        return gradients
    there = [
        any(of_all) for of_all in zip(*world.gather([gradient is not None for gradient in gradients]), strict=True)
    ]
    found = [
        gradient if gradient is not None or not wanted else torch.zeros_like(parameter)
        for gradient, wanted, parameter in zip(gradients, there, parameters, strict=True)
    ]
    for bucket in _buckets([gradient for gradient in found if gradient is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        distributed.all_reduce(flat)
        for gradient, part in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))
    return found


def clipped(parameters: Sequence[Tensor], most: float, shards: int) -> float:
    """Gradients are scaled down to this norm; returns what it was. Of a batch in shards it is summed in fp64, so that a sum in parts, where
    gradients are cut among workers, is rounded to the same number."""
    if shards == 1:
        return float(torch.nn.utils.clip_grad_norm_(parameters, most))
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    local = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
    mine = sum(float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2 for gradient in local)
    is_cut = any(isinstance(gradient, DTensor) for gradient in gradients)
    norm = math.sqrt(sum(current().gather(mine)) if is_cut else mine)
    if norm > most:
        for gradient in local:
            gradient.mul_(most / (norm + 1e-6))  # torch's own constant
    return norm


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type together."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and (bucket[0].dtype != gradient.dtype or sum(g.nbytes for g in bucket) + gradient.nbytes > BUCKET):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
