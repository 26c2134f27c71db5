"""FSDP2 around a model (torch's `fully_shard`): parameters, gradients and the optimiser's state are cut among the workers while they learn.

Left out on purpose: sampling from cut weights. Workers decode different numbers of steps, so that one would wait in vain for another's
part; while answers are sampled every worker holds all weights.
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
from ehrmind.engines.local.trained import SPARE_BITS, add_up_in_fp32, in_between
from ehrmind.types import InputError
from ehrmind.world import current


def cut_among_workers(network: Any) -> None:
    """Shards the network among workers in place, each layer on its own, only once. `score` becomes
    a method of the network, so that its weights are gathered before it runs. Gradients are summed
    over workers, not averaged: every loss is a share of the whole batch's. Each worker keeps its
    shard of narrow trained weights in fp32 (the masters of `trained.py`). They are gathered rounded
    to the narrow type."""
    if isinstance(network, FSDPModule):
        return
    policy = _masters_kept(network)
    count = network.config.get_text_config().num_hidden_layers
    lists = [module for module in network.modules() if isinstance(module, ModuleList) and len(module) == count]
    for layer in lists[0] if lists else ():
        fully_shard(layer, mp_policy=policy)
    fully_shard(network, mp_policy=policy)
    for module in _cut_modules(network):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    network.score = MethodType(score, network)
    register_fsdp_forward_method(network, "score")


def _masters_kept(network: Any) -> MixedPrecisionPolicy:
    """Makes narrow weights that are trained fp32 masters. Gradients are computed in the weights' type and added up in fp32. Raises
    InputError where FSDP2 would compute in another type than the model does."""
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    kinds = {weight.dtype for weight in trained.values()}
    if len(kinds) > 1:
        raise InputError(
            "The model has weights of several types, which FSDP2 cannot shard; set cluster.strategy=ddp or model.dtype=float32."
        )
    if not kinds & SPARE_BITS.keys():
        return MixedPrecisionPolicy()
    add_up_in_fp32(network)
    for name, weight in trained.items():
        weight.data = in_between(name, weight)
    return MixedPrecisionPolicy(param_dtype=kinds.pop(), reduce_dtype=torch.float32, cast_forward_inputs=False)


def scorer(network: Any) -> Callable[..., Scores]:
    """`scoring.score` of this network, cut or not."""
    return cast(Any, network).score if isinstance(network, FSDPModule) else partial(score, network)


def sum_over_workers(network: Any, *, after_this: bool) -> None:
    """Whether the next backward pass ends a shard: then its gradients, which were added up in full until now, are summed and cut."""
    network.set_requires_gradient_sync(after_this)


@contextmanager
def whole(network: Any) -> Iterator[None]:
    """Every worker has all weights, and waits for no other. Nothing where they are not cut."""
    if not isinstance(network, FSDPModule):
        yield
        return
    for module in _cut_modules(network):
        module.unshard()
    network.set_reshard_after_forward(False)
    try:
        yield
    finally:
        network.set_reshard_after_forward(True)
        network.set_reshard_after_forward(False, recurse=False)  # its weights are wanted again at once, as torch has it
        for module in _cut_modules(network):
            module.reshard()


def joined_up(tensor: Tensor) -> Tensor:
    """What is cut among workers, whole; with others than the first nothing, who need it for no file."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    found: Tensor = cast(DTensor, tensor.detach()).full_tensor().cpu()
    return found if current().first else found.new_empty(0)


def cut_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that every worker has, where and how `like` is."""
    tensor = tensor.to(like.device, like.dtype)
    return (
        distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
        if isinstance(like, DTensor)
        else tensor
    )


def full_weights(network: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """All weights by name, as the network computes with them (masters rounded to `dtype`), tied ones as one tensor. Where they are sharded
    the first worker has them."""
    state = cast(Any, network).state_dict(keep_vars=True)
    joined = {id(weight): joined_up(weight) for weight in state.values()}
    if isinstance(network, FSDPModule):
        joined = {key: weight.to(dtype) if weight.is_floating_point() else weight for key, weight in joined.items()}
    return {name: joined[id(weight)] for name, weight in state.items()}


def _cut_modules(network: Any) -> Iterator[FSDPModule]:
    return (module for module in network.modules() if isinstance(module, FSDPModule))
