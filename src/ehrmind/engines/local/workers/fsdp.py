"""FSDP2 (torch's `fully_shard`): weights, gradients and optimiser state are sharded while workers
learn.

Left out on purpose: sampling from sharded weights. Workers decode different numbers of steps, so
one would wait in vain for another's part. While answers are sampled, every worker holds all
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import ModuleList

from ehrmind.engines.local.scoring import Scores, score
from ehrmind.engines.local.training.masters import SPARE_BITS, add_up_in_fp32, in_between
from ehrmind.types import InputError
from ehrmind.world import current


def shard_among_workers(network: Any) -> None:
    """Shards a network among workers in place, layer by layer. Does nothing the second time.

    `score` becomes a method of the network, so that weights are gathered before it runs. Gradients
    are summed over workers, not averaged: every loss is a share of the whole batch's. Each worker
    keeps its shard of narrow trained weights in fp32 (`training/masters.py`). They are gathered
    rounded to the narrow type.
    """
    if isinstance(network, FSDPModule):
        return
    policy = _masters_kept(network)
    count = network.config.get_text_config().num_hidden_layers
    lists = [module for module in network.modules() if isinstance(module, ModuleList) and len(module) == count]
    for layer in lists[0] if lists else ():
        fully_shard(layer, mp_policy=policy)
    fully_shard(network, mp_policy=policy)
    for module in _sharded_modules(network):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    network.score = MethodType(score, network)
    register_fsdp_forward_method(network, "score")


def _masters_kept(network: Any) -> MixedPrecisionPolicy:
    """Turns narrow trained weights into fp32 masters. Gradients are computed narrow and added up in
    fp32.

    Raises InputError if FSDP2 would compute in another type than the model does.
    """
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    kinds = {weight.dtype for weight in trained.values()}
    if len(kinds) > 1:
        raise InputError(
            "The model has weights of several types, which FSDP2 cannot shard; set cluster.strategy=ddp or "
            "model.dtype=float32."
        )
    if not kinds & SPARE_BITS.keys():
        return MixedPrecisionPolicy()
    add_up_in_fp32(network)
    for name, weight in trained.items():
        weight.data = in_between(name, weight)
    return MixedPrecisionPolicy(param_dtype=kinds.pop(), reduce_dtype=torch.float32, cast_forward_inputs=False)


def scorer(network: Any) -> Callable[..., Scores]:
    """Returns `scoring.score` of this network, sharded or not."""
    return cast(Any, network).score if isinstance(network, FSDPModule) else partial(score, network)


def sum_over_workers(network: Any, *, after_this: bool) -> None:
    """Tells the network whether the next backward pass ends a shard of the batch.

    If so, the gradients added up until now are summed over workers and sharded.
    """
    network.set_requires_gradient_sync(after_this)


@contextmanager
def whole(network: Any) -> Iterator[None]:
    """Gives every worker all weights, so that none waits for another.

    Does nothing if they are not sharded.
    """
    if not isinstance(network, FSDPModule):
        yield
        return
    for module in _sharded_modules(network):
        module.unshard()
    network.set_reshard_after_forward(False)
    try:
        yield
    finally:
        network.set_reshard_after_forward(True)
        # The root keeps its weights, as torch does by default: they are needed again at once
        network.set_reshard_after_forward(False, recurse=False)
        for module in _sharded_modules(network):
            module.reshard()


def full_tensor_of(tensor: Tensor) -> Tensor:
    """Gathers a sharded tensor on the first worker, which writes files.

    Other workers get an empty one.
    """
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    found: Tensor = cast(DTensor, tensor.detach()).full_tensor().cpu()
    return found if current().first else found.new_empty(0)


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Brings a full tensor, which every worker has, to the device, type and sharding of `like`."""
    tensor = tensor.to(like.device, like.dtype)
    return (
        distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
        if isinstance(like, DTensor)
        else tensor
    )


def full_weights(network: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns all weights by name, as the network computes with them: masters are rounded to
    `dtype`.

    Tied weights are one tensor. Sharded weights are full on the first worker only.
    """
    state = cast(Any, network).state_dict(keep_vars=True)
    joined = {id(weight): full_tensor_of(weight) for weight in state.values()}
    if isinstance(network, FSDPModule):
        joined = {key: weight.to(dtype) if weight.is_floating_point() else weight for key, weight in joined.items()}
    return {name: joined[id(weight)] for name, weight in state.items()}


def _sharded_modules(network: Any) -> Iterator[FSDPModule]:
    return (module for module in network.modules() if isinstance(module, FSDPModule))
