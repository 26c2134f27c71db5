"""Sums gradients over workers: the only message of a step that is as large as the model.

There is no wrapper such as DistributedDataParallel. It averages over workers and adds micro-batches
in the order in which they come. Our loss is a sum over the whole batch, and the order of sums is
that of its shards. One sum over workers at the end of a step is all that is left to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from ehrmind.world import current

BUCKET = 1 << 25  # bytes sent at once

Gradients = list[Tensor | None]


def added(left: Gradients, right: Gradients) -> Gradients:
    """Adds the right gradients to the left ones, in place."""
    return [b if a is None else a if b is None else a.add_(b) for a, b in zip(left, right, strict=True)]


def over_workers(gradients: Gradients, parameters: Sequence[Tensor]) -> Gradients:
    """Sums gradients over all workers. Every worker gets the same bits.

    A gradient that no worker has stays None, so that its parameter is not changed. One that only
    some workers have counts as 0 for the others.
    """
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
    """Scales gradients down to the norm `most`. Returns the norm before.

    For a batch in several shards the norm is summed in fp64. Then a sum in parts, over gradients
    that are sharded among workers, is rounded to the same number.
    """
    if shards == 1:
        return float(torch.nn.utils.clip_grad_norm_(parameters, most))
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    local = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
    mine = sum(float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2 for gradient in local)
    sharded = any(isinstance(gradient, DTensor) for gradient in gradients)
    norm = math.sqrt(sum(current().gather(mine)) if sharded else mine)
    if norm > most:
        for gradient in local:
            gradient.mul_(most / (norm + 1e-6))  # torch's own constant
    return norm


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups neighbours of one type, up to `BUCKET` bytes."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and (bucket[0].dtype != gradient.dtype or sum(g.nbytes for g in bucket) + gradient.nbytes > BUCKET):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
