"""fp32 master weights: the network computes with narrow weights, the optimiser changes their
masters.

A bf16 weight of 0.02 has neighbours 1e-4 away, so a step of 1e-6 rounds to nothing. Such a weight
has an fp32 master: gradients are added up in fp32, AdamW changes the master, and the weight is the
master rounded. A master starts at a random number that rounds to its weight. So the chance to cross
to the next bf16 number is proportional to the distance moved, and on average weights move as far as
fp32 weights from the first step. A master that started at the weight itself would first have to
move half the distance to its neighbour.

An fp32 weight is its own master. If weights are sharded, FSDP2 keeps the masters and rounds them
(`workers/fsdp.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ehrmind.engines.uniforms import question_key

SPARE_BITS = {torch.bfloat16: 16, torch.float16: 13}  # bits of fp32's mantissa beyond the narrow type's


class Trained:
    """The trained weights of a network by name, and their masters in the same order."""

    def __init__(self, network: Any) -> None:
        trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        add_up_in_fp32(network)
        self.names, self.weights = list(trained), list(trained.values())
        self.masters = [_master(name, weight) for name, weight in trained.items()]

    def taken(self) -> list[Tensor | None]:
        """Returns the gradients since the last call and clears them."""
        found = [weight.grad for weight in self.weights]
        for weight in self.weights:
            weight.grad = None
        return found

    @torch.no_grad()
    def show(self) -> None:
        """Rounds masters into the weights that the network computes with."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            if master is not weight:
                weight.copy_(master)


def _master(name: str, weight: Parameter) -> Parameter:
    """Makes the fp32 master of a weight.

    Gradients of a narrow weight are added up in fp32 from now on.
    """
    if weight.dtype not in SPARE_BITS:
        return weight
    weight.grad_dtype = torch.float32
    return Parameter(in_between(name, weight))


class _Rows(torch.autograd.Function):
    """Looks up rows of a weight. Gradients of a repeated row are added up in fp32 and rounded once.

    torch itself does so on CUDA only.
    """

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight_VE: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.padding, ctx.dtype = weight_VE.shape, padding, weight_VE.dtype
        return torch.nn.functional.embedding(ids, weight_VE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        total_VE = torch.zeros(ctx.shape, device=ids.device)
        total_VE.index_add_(0, ids.flatten(), gradients[0].flatten(0, -2).float())
        if ctx.padding is not None:
            total_VE[ctx.padding] = 0.0
        return None, total_VE.to(ctx.dtype), None


class Embedding(torch.nn.Embedding):
    """An embedding whose gradient is added up in fp32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        rows: Tensor = _Rows.apply(input, self.weight, self.padding_idx)
        return rows


def add_up_in_fp32(network: Any) -> None:
    """Makes narrow trained embeddings sum their gradients in fp32, in place.

    In bf16 a token's 257th gradient would no longer count.
    """
    for module in network.modules():
        plain = isinstance(module, torch.nn.Embedding) and not isinstance(module, Embedding) and module.max_norm is None
        if plain and module.weight.requires_grad and module.weight.dtype in SPARE_BITS:
            kind = type(module)  # a model's own class keeps what it does to the rows
            module.__class__ = Embedding if kind is torch.nn.Embedding else type(kind.__name__, (kind, Embedding), {})


@torch.no_grad()
def in_between(name: str, weight: Tensor) -> Tensor:
    """Draws for each narrow number a random fp32 number that rounds to it.

    The same name, shape and kind of device give the same numbers.
    """
    fine = weight.detach().float()
    half = 1 << (SPARE_BITS[weight.dtype] - 1)
    generator = torch.Generator(weight.device).manual_seed(question_key(0, "in between", 0, name) >> 1)
    places = torch.randint(1 - half, half, weight.shape, dtype=torch.int16, generator=generator, device=weight.device)
    places[(fine == 0) | ~fine.isfinite()] = 0
    fine.view(torch.int32).add_(places)  # neighbours of one sign are neighbours as integers
    return fine
