"""A model's own norms exchanged for torch's fused one, only where they compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ehrmind.engines.local.forward.norms import RmsNorm, use_fused_norms

SHAPE = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.2}


def network(family: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE), dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(("family", "norms"), [("llama", 5), ("qwen3", 9), ("gemma3_text", 13), ("mistral", 5)])
def test_fused_norms_change_neither_results_nor_gradients(family: str, norms: int) -> None:
    model, ids = network(family), torch.arange(20)[None]
    found = []
    for fused in (False, True):
        if fused:
            names = [name for name, _ in model.named_parameters()]
            assert use_fused_norms(model) == norms
            assert [name for name, _ in model.named_parameters()] == names
        model.zero_grad()
        logits = model(ids).logits
        logits.square().mean().backward()
        found.append((logits.detach(), torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])))
    (plain, plain_gradient), (fused_logits, gradient) = found
    assert (fused_logits - plain).abs().max() < 1e-4
    assert (gradient - plain_gradient).norm() / plain_gradient.norm() < 1e-5


def test_a_norm_that_computes_something_else_stays_as_it_is() -> None:
    class OddRMSNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.weight * hidden / hidden.abs().mean(-1, keepdim=True)

    odd = torch.nn.Sequential(OddRMSNorm(), torch.nn.LayerNorm(8))
    assert use_fused_norms(odd) == 0
    assert not any(isinstance(module, RmsNorm) for module in odd.modules())


def test_under_autocast_the_result_is_what_the_products_after_it_read() -> None:
    model = network("llama")
    use_fused_norms(model)
    norm = model.model.norm
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(torch.randn(3, 32)).dtype == torch.bfloat16
    assert norm(torch.randn(3, 32)).dtype == torch.float32
