"""Gated feed-forward layers as one node of autograd, only where they compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ehrmind.engines.local.forward.feed_forward import FeedForward, use_own_feed_forward
from ehrmind.engines.local.forward.matmul import (
    ONEDNN,
    Linear,
    _stays_fp32,
    batched_matmul,
    exact_in_bf16,
    packed_weights,
    use_own_linear,
)

pytestmark = pytest.mark.skipif(not ONEDNN, reason="layers are replaced where oneDNN is")


class Gated(torch.nn.Module):
    def __init__(self, act: Any = torch.nn.functional.silu, bias: bool = False, extra: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate_proj, self.up_proj = (torch.nn.Linear(24, 39, bias=bias) for _ in "12")
        self.down_proj, self.act = torch.nn.Linear(39, 24, bias=bias), act
        self.norm = torch.nn.LayerNorm(24) if extra else torch.nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.norm(self.down_proj(self.act(self.gate_proj(hidden)) * self.up_proj(hidden)))
        return out


def learned(layer: Any, rows: tuple[int, ...], dtype: torch.dtype | None = None) -> list[Tensor]:
    """Returns the result, and the gradients of the input and the weights."""
    draw = torch.Generator().manual_seed(1)
    hidden = torch.randn(*rows, 24, generator=draw).requires_grad_()
    slope = torch.randn(*rows, 24, generator=draw)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        out = layer(hidden)
    wanted = [hidden, *(weight for weight in layer.parameters() if weight.requires_grad)]
    return [out.detach().float(), *torch.autograd.grad((out * slope).sum(), wanted)]


def ours(**options: Any) -> Any:
    layer = torch.nn.ModuleList([Gated(**options)])
    use_own_linear(layer)
    assert use_own_feed_forward(layer) == 1
    return layer[0]


@pytest.mark.parametrize("rows", [(1, 37), (3,), (2, 1, 5), (0,)])
@pytest.mark.parametrize(("dtype", "near"), [(None, 1e-5), (torch.bfloat16, 0.02)])
def test_one_node_gives_the_results_and_gradients_of_single_layers(
    rows: tuple[int, ...], dtype: torch.dtype | None, near: float
) -> None:
    for found, wanted in zip(learned(ours(), rows, dtype), learned(Gated(), rows), strict=True):
        assert found.shape == wanted.shape
        assert (found - wanted).norm() <= near * wanted.norm()


def test_frozen_weights_get_no_gradient() -> None:
    layer = ours()
    layer.gate_proj.weight.requires_grad_(False)
    layer.down_proj.weight.requires_grad_(False)
    out = layer(torch.ones(2, 24))
    out.sum().backward()
    assert [weight.grad is None for weight in layer.parameters()] == [True, False, True]


def test_packed_or_wrapped_layers_are_called_one_by_one() -> None:
    class Wrapped(Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
            return super().forward(input) + 1

    layer, hidden = ours(), torch.randn(4, 24)
    plain = layer(hidden)
    with torch.no_grad(), packed_weights(layer):
        assert torch.allclose(layer(hidden), plain, atol=1e-5)
    layer.down_proj.__class__ = Wrapped
    assert torch.allclose(layer(hidden), plain + 1, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"act": torch.nn.functional.gelu}, {"bias": True}, {"extra": True}], ids=["gelu", "bias", "a norm"]
)
def test_a_layer_that_computes_something_else_stays_as_it_is(options: dict[str, Any]) -> None:
    layer = torch.nn.ModuleList([Gated(**options)])
    use_own_linear(layer)
    assert use_own_feed_forward(layer) == 0
    assert not isinstance(layer[0], FeedForward)


def test_matmuls_have_their_own_precision_again_after_one_in_bf16() -> None:
    backend: Any = torch.backends.mkldnn
    before = backend.matmul.fp32_precision
    with pytest.raises(ValueError, match="within"), exact_in_bf16(torch.bfloat16):
        assert backend.matmul.fp32_precision == "bf16"
        raise ValueError("within")
    assert backend.matmul.fp32_precision == before
    with exact_in_bf16(torch.float32):
        assert backend.matmul.fp32_precision == before


def test_a_batch_of_fp32_matmuls_is_not_rounded_to_bf16_and_leaves_the_setting_as_it_was() -> None:
    bmm, backend = batched_matmul(torch.device("cpu")), torch.backends.mkldnn
    before = backend.matmul.fp32_precision  # type: ignore[attr-defined]
    left, right = torch.randn(6, 24, 64), torch.randn(6, 600, 64).mT
    into = torch.zeros(6, 24, 616)[..., :600]
    bmm(left, right, out=into)
    assert (into - left.double() @ right.double()).abs().max() < 1e-4
    with pytest.raises(RuntimeError):
        bmm(left, left)
    assert backend.matmul.fp32_precision == before  # type: ignore[attr-defined]


def test_a_processor_that_would_round_a_batch_of_matmuls_keeps_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    _stays_fp32.cache_clear()
    try:
        assert batched_matmul(torch.device("cpu")) is torch.bmm
    finally:
        _stays_fp32.cache_clear()
