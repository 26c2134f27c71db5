"""The options of the loss reach it: clips on their own sides, GSPO's ratio, the reference that KL
asks for. GSPO in its closed form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ehrmind.config import Decoding, Rlvr
from ehrmind.engines.local.engine import open_engine
from ehrmind.prompts import messages
from ehrmind.rl.losses import Normaliser, policy_loss
from ehrmind.types import Group, Verdict
from tests.small_models import cases, small_engine

SHORT = Decoding(temperature=1.0, max_new_tokens=12)
MIXED, ALL_GOOD, ALL_BAD = (1.0, -0.5, -0.5), (1.0, 0.6, 0.3), (-1.0, -0.6, -0.3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("options")
    small_engine(folder / "model", "llama")
    return folder / "model"


def two_epochs(model: Path, advantages: tuple[float, ...], **settings: Any) -> dict[str, float]:
    """Metrics of the second of two steps on one batch: only there do ratios differ from 1."""
    from ehrmind.config import Model

    engine = open_engine(Model(name=str(model)), model, rows=16)
    chosen = cases(3)
    prompts = [engine.prompt(messages(case)) for case in chosen]
    answers = engine.sample(prompts, [5, 6, 7], 3, SHORT)
    verdict = Verdict(False, 0.0, {"format": 0.0, "outcome": 0.0})
    groups = [Group(c, p, a, [verdict] * 3, advantages) for c, p, a in zip(chosen, prompts, answers, strict=True)]
    rlvr = Rlvr(**{"learning_rate": 2e-3, "kl": 0.0, "warmup_share": 0.0, "epochs_per_batch": 2, **settings})
    learner = engine.learner(rlvr, 1, rlvr=rlvr, decoding=SHORT)
    return learner.learn_from_groups(groups)


def test_the_upper_clip_is_for_good_answers_and_the_lower_for_bad_ones(model: Path) -> None:
    upper, lower = {"clip_high": 0.0, "clip_low": 0.99}, {"clip_high": 1e6, "clip_low": 0.0}
    assert (
        two_epochs(model, ALL_GOOD, **upper)["clipped"] > 0.3 and two_epochs(model, ALL_GOOD, **lower)["clipped"] == 0
    )
    assert two_epochs(model, ALL_BAD, **lower)["clipped"] > 0.3 and two_epochs(model, ALL_BAD, **upper)["clipped"] == 0


def test_clip_higher_lets_good_answers_grow_further(model: Path) -> None:
    """DAPO, arXiv 2503.14476, eq. 10: 0.28 above, 0.2 below."""
    clipped = [two_epochs(model, ALL_GOOD, clip_high=high)["clipped"] for high in (0.0002, 0.2, 0.28)]
    assert clipped[0] > clipped[1] >= clipped[2]


def test_sequence_importance_reaches_the_loss(model: Path) -> None:
    token, sequence = (two_epochs(model, MIXED, importance=kind, loss="grpo")["loss"] for kind in ("token", "sequence"))
    assert token != pytest.approx(sequence, rel=1e-4)


def test_a_kl_of_0_keeps_no_reference_and_one_above_pulls_back(model: Path) -> None:
    assert "kl" not in two_epochs(model, MIXED, kl=0.0)
    held = two_epochs(model, MIXED, kl=0.1)
    assert held["kl"] > 0
    assert held["loss"] - two_epochs(model, MIXED, kl=1e-9)["loss"] == pytest.approx(0.1 * held["kl"], rel=0.05)


def test_gspo_is_its_closed_form() -> None:
    """arXiv 2507.18071, eqs. 5, 7 and 10: one clipped ratio an answer, the geometric mean of its
    tokens' ratios; with loss=grpo."""
    torch.manual_seed(2)
    mask_NT = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
    logprobs_NT = torch.randn(4, 4).mul(0.05).sub(1).requires_grad_()
    old_NT = torch.full((4, 4), -1.0)
    advantages_N, low, high = torch.tensor([1.0, -1.0, 0.5, -0.5]), 0.01, 0.02
    out = policy_loss(
        logprobs_NT,
        old_NT,
        advantages_N,
        mask_NT,
        whole=Normaliser(4, int(mask_NT.sum()), 4),
        clip_low=low,
        clip_high=high,
        importance="sequence",
        normalise="grpo",
    )
    (gradient,) = torch.autograd.grad(out.loss, logprobs_NT)
    expected, expected_gradient = 0.0, torch.zeros(4, 4)
    for row in range(4):
        length = int(mask_NT[row].sum())
        ratio = float(((logprobs_NT.detach() - old_NT)[row, :length].sum() / length).exp())
        good = float(advantages_N[row])
        clipped = min(max(ratio, 1 - low), 1 + high)
        expected -= min(ratio * good, clipped * good) / 4
        if ratio * good <= clipped * good:  # not clipped: A · s · the mean of the tokens' gradients
            expected_gradient[row, :length] = -good * ratio / length / 4
    assert out.loss.item() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gradient, expected_gradient)
    assert 0 < int((expected_gradient.abs().sum(1) == 0).sum()) < 4  # some were clipped, some not
