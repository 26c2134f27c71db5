"""rl/losses: what holds whatever the numbers; agreement with TRL is proven in tests/golden."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ehrmind.rl.advantages import advantages
from ehrmind.rl.losses import Normaliser, policy_loss

NORMALISERS, IMPORTANCES = ("grpo", "dapo", "dr_grpo"), ("token", "sequence")
MASK_NT = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
WHOLE = Normaliser(answers=3, tokens=8, max_new_tokens=6)


def loss(logprobs_NT: Tensor, old_NT: Tensor, advantages_N: Tensor, mask_NT: Tensor = MASK_NT, **settings: Any) -> Any:
    return policy_loss(
        logprobs_NT, old_NT, advantages_N, mask_NT, **{"whole": WHOLE, "clip_low": 0.2, "clip_high": 0.2} | settings
    )


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("normalise", NORMALISERS)
@pytest.mark.parametrize("padding", [float("-inf"), float("nan"), float("inf"), 1e9])
def test_padding_changes_neither_loss_nor_gradient_whatever_it_holds(
    padding: float, normalise: str, importance: str
) -> None:
    def at(fill: float) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        tensors = [torch.randn(3, 4).masked_fill(MASK_NT == 0, fill) for _ in range(3)]
        leaf_NT = tensors[0].requires_grad_()
        settings = {"reference_logprobs_NT": tensors[2], "kl": 0.1, "normalise": normalise, "importance": importance}
        out = loss(leaf_NT, tensors[1], torch.tensor([1.0, -0.5, 0.3]), **settings)
        out.loss.backward()
        assert leaf_NT.grad is not None
        return torch.stack([out.loss.detach(), out.kl_sum, out.clipped_sum]), leaf_NT.grad

    for poisoned, clean in zip(at(padding), at(0.0), strict=True):
        torch.testing.assert_close(poisoned, clean, rtol=0, atol=0)


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("normalise", NORMALISERS)
def test_a_batch_masked_whole_gives_zero_and_not_nan(normalise: str, importance: str) -> None:
    leaf_NT = torch.randn(3, 4, requires_grad=True)
    nothing = torch.zeros(3, 4)
    out = loss(
        leaf_NT, nothing, torch.ones(3), nothing, whole=Normaliser(3, 0, 6), normalise=normalise, importance=importance
    )
    out.loss.backward()
    assert out.loss.item() == 0.0 and leaf_NT.grad is not None and not leaf_NT.grad.any()


def test_on_policy_rloo_is_its_closed_form() -> None:
    """−1/(N·M) · Σ_i (r_i − mean of the others) · Σ_t ∇ log π (arXiv 2402.14740, eq. 7), with Dr.
    GRPO's constant M."""
    torch.manual_seed(0)
    rewards = [1.1, 0.0, -2.0]
    logits_NTV = torch.randn(3, 4, 5, requires_grad=True)
    ids_NT = torch.randint(0, 5, (3, 4))
    logprobs_NT = logits_NTV.log_softmax(-1).gather(2, ids_NT[..., None])[..., 0]
    advantages_N = advantages(torch.tensor([rewards]), "rloo")[0]
    (got,) = torch.autograd.grad(
        loss(logprobs_NT, logprobs_NT.detach(), advantages_N, normalise="dr_grpo").loss, logits_NTV, retain_graph=True
    )
    closed = -sum((r - (sum(rewards) - r) / 2) * (logprobs_NT[i] * MASK_NT[i]).sum() for i, r in enumerate(rewards)) / (
        3 * 6
    )
    (expected,) = torch.autograd.grad(closed, logits_NTV)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"), [(1.4, 1.0, False), (1.4, -1.0, True), (0.6, -1.0, False), (0.6, 1.0, True)]
)
def test_clipping_stops_only_steps_that_go_further_the_same_way(ratio: float, advantage: float, moves: bool) -> None:
    leaf_NT = torch.tensor([[ratio]]).log().requires_grad_()
    out = loss(leaf_NT, torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1), clip_high=0.3)
    out.loss.backward()
    assert leaf_NT.grad is not None and bool(leaf_NT.grad.any()) is moves
    assert bool(out.clipped_sum) is not moves


def test_the_two_clips_are_apart() -> None:
    def clipped(ratio: float, advantage: float) -> bool:
        tensors = torch.tensor([[ratio]]).log(), torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1)
        return bool(loss(*tensors, clip_low=0.1, clip_high=0.4).clipped_sum)

    assert [clipped(1.3, 1.0), clipped(1.5, 1.0), clipped(0.95, -1.0), clipped(0.8, -1.0)] == [False, True, False, True]


def test_kl_is_k3_added_plainly_and_0_without_a_reference() -> None:
    logprobs_NT, reference_NT = torch.full((1, 2), -1.0), torch.full((1, 2), -1.5)
    k3 = torch.tensor(-0.5).exp().item() + 0.5 - 1
    tensors = (
        logprobs_NT,
        torch.full((1, 2), -3.0),
        torch.zeros(1),
        torch.ones(1, 2),
    )  # no advantage, a ratio far from 1
    whole = Normaliser(1, 2, 2)
    out = loss(*tensors, reference_logprobs_NT=reference_NT, kl=0.5, whole=whole)
    assert out.loss.item() == pytest.approx(0.5 * k3) and out.kl_sum.item() == pytest.approx(2 * k3)
    assert loss(*tensors, whole=whole).kl_sum.item() == 0.0


def test_unknown_options_are_refused_by_name() -> None:
    tensors = torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3)
    with pytest.raises(ValueError, match="bnpo"):
        loss(*tensors, normalise="bnpo")
    with pytest.raises(ValueError, match="word"):
        loss(*tensors, importance="word")
