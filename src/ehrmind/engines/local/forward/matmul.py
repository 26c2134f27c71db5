"""Matrix products: fp32 on CPU through oneDNN, and linear layers with packed weights while answers
are sampled.

torch gives fp32 matmuls to MKL, which runs at less than half of oneDNN's rate on processors that
are not Intel's (215 against 490 GFLOP/s on two cores of an AMD EPYC with AVX-512). Its bf16 matmuls
go to oneDNN already. The choice depends on the build and the kind of processor, never on a
measurement, so that a resumed run computes the same bits.

Letters: `_M` rows, `_K` inner width, `_N` columns.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
# Whether the processor multiplies in bf16; if not, oneDNN refuses bf16, and torch is slow in it
BF16 = ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()
# Looking an operator up takes as long as a small one runs
LINEAR: Any = torch.ops.mkldnn._linear_pointwise.default if ONEDNN else None
LINEAR_WITH: Any = torch.ops.mkldnn._linear_pointwise.binary if ONEDNN else None
PRECISION: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
ROWS = 64  # weights are packed for this many input rows; only very few rows have another layout


def can_pack(*, narrow: bool) -> bool:
    """Tells whether oneDNN packs weights on this processor; `narrow` asks for bf16, else fp32."""
    return BF16 if narrow else ONEDNN


def matmul(left_MK: Tensor, right_NK: Tensor) -> Tensor:
    """Computes left · rightᵀ [M, N]."""
    fp32_on_cpu = left_MK.dtype == torch.float32 and left_MK.device.type == "cpu"
    if ONEDNN and fp32_on_cpu and left_MK.ndim == 2 and left_MK.numel():  # oneDNN refuses empty sums
        out: Tensor = torch.ops.mkldnn._linear_pointwise(left_MK, right_NK, None, "none", [], "")
        return out
    return left_MK @ right_NK.mT


def matmul_over_rows(left_MN: Tensor, right_MK: Tensor) -> Tensor:
    """Computes leftᵀ · right [N, K], the gradient of weights.

    On CPU the shorter side becomes oneDNN's columns, which is faster.
    """
    if left_MN.device.type == "cpu" and left_MN.shape[-1] > right_MK.shape[-1]:
        return matmul(right_MK.mT, left_MN.mT).mT
    return matmul(left_MN.mT, right_MK.mT)


def weight_gradient(grad_MN: Tensor, input_MK: Tensor, dtype: torch.dtype) -> Tensor:
    """Computes gradᵀ · input [N, K] in the order of the weight's memory, so that autograd keeps it
    without a copy.
    """
    if grad_MN.dtype == torch.float32:
        return matmul_over_rows(grad_MN, input_MK).to(dtype)
    return torch.mm(grad_MN.mT, input_MK).to(dtype)


@contextmanager
def exact_in_bf16(dtype: torch.dtype) -> Iterator[None]:
    """Says that the factors of fp32 matmuls are bf16 numbers, if `dtype` is bf16.

    A processor with AMX then multiplies them as such and adds up in fp32. Others ignore it.
    """
    if dtype != torch.bfloat16:
        yield
        return
    before = PRECISION.fp32_precision
    PRECISION.fp32_precision = "bf16"
    try:
        yield
    finally:
        PRECISION.fp32_precision = before


def batched_matmul(device: torch.device) -> Callable[..., Tensor]:
    """Returns `torch.bmm`, on CPU with fp32 given to oneDNN instead of MKL if it computes in fp32.

    torch gives it to oneDNN only where bf16 factors are allowed. A processor with AMX would then
    round them, and keeps MKL.
    """
    if device.type != "cpu" or not _stays_fp32():
        return torch.bmm
    before = PRECISION.fp32_precision

    def bmm(left_BMK: Tensor, right_BKN: Tensor, out: Tensor | None = None) -> Tensor:
        PRECISION.fp32_precision = "bf16"
        try:
            return torch.bmm(left_BMK, right_BKN, out=out)
        finally:
            PRECISION.fp32_precision = before

    return bmm


@cache
def _stays_fp32() -> bool:
    """Tells whether fp32 matmuls are exact although bf16 factors are allowed."""
    if not ONEDNN or torch.cpu._is_amx_tile_supported():
        return False
    left, right = torch.full((2, 24, 64), 1 + 2**-12), torch.ones(2, 64, 600)
    with exact_in_bf16(torch.bfloat16):
        return bool((torch.bmm(left, right) == 64 + 2**-6).all())


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input_MK: Tensor, weight_NK: Tensor) -> Tensor:
        ctx.save_for_backward(input_MK, weight_NK)
        return matmul(input_MK, weight_NK)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input_MK, weight_NK = ctx.saved_tensors
        to_input = matmul(gradients[0], weight_NK.mT) if ctx.needs_input_grad[0] else None
        to_weight = matmul_over_rows(gradients[0], input_MK) if ctx.needs_input_grad[1] else None
        return to_input, to_weight


class Linear(torch.nn.Linear):
    """A linear layer whose fp32 matmuls go to oneDNN on CPU, and whose weight may be packed."""

    bias: Tensor | None  # type: ignore[assignment]  # torch annotates it as always there
    packed: Tensor | None = None  # the weight in the layout of the matmul, while nothing is trained

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        if input.device.type != "cpu":
            return (
                super().forward(input)
                if self.packed is None
                else torch.nn.functional.linear(input, self.packed, self.bias)
            )
        narrow = torch.is_autocast_enabled("cpu")
        if self.packed is None and (input.dtype != torch.float32 or self.weight.dtype != torch.float32 or narrow):
            return super().forward(input)
        out: Tensor
        if torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad):
            flat_MK = input.reshape(-1, input.shape[-1])
            out = _Linear.apply(flat_MK, self.weight).view(*input.shape[:-1], -1)
        elif self.packed is not None:
            out = torch.ops.mkldnn._linear_pointwise(
                input.to(torch.bfloat16) if narrow else input, self.packed, None, "none", [], ""
            )
        else:
            out = torch.ops.mkldnn._linear_pointwise(input, self.weight, None, "none", [], "")
        return out if self.bias is None else out + self.bias.to(out.dtype)


def use_own_linear(network: Any) -> None:
    """Replaces the class of every plain linear layer.

    Each stays an `nn.Linear` with the same parameters.
    """
    kind = next(network.parameters()).device.type
    if kind == "cuda" or (kind == "cpu" and ONEDNN):
        for module in network.modules():
            if type(module) is torch.nn.Linear:
                module.__class__ = Linear


@contextmanager
def packed_weights(network: Any) -> Iterator[None]:
    """Keeps a second copy of the fp32 weights while answers are sampled, made once and not for
    every token.

    On CPU the copy has oneDNN's layout, so that no matmul converts the weight again: 64 rows take a
    quarter less time, 7 rows half. Under autocast it has autocast's type: on CUDA the conversion
    takes as long as a token's whole step.
    """
    layers = [
        module for module in network.modules() if isinstance(module, Linear) and module.weight.dtype == torch.float32
    ]
    try:
        for layer in layers:
            layer.packed = _packed(layer.weight.detach())
        yield
    finally:
        for layer in layers:
            layer.packed = None


def _packed(weight: Tensor) -> Tensor | None:
    kind = weight.device.type
    narrow = torch.is_autocast_enabled(kind)
    if kind == "cpu" and not can_pack(narrow=narrow):
        return None
    weight = weight.to(torch.get_autocast_dtype(kind)) if narrow else weight
    if kind == "cpu":
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        return packed
    return weight if narrow else None
