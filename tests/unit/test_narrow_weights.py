"""bf16 weights learn as fp32 ones do: small steps add up, gradients are summed in fp32, and a
checkpoint keeps every bit of both.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ehrmind.config import Decoding, Lora, Model, Optimiser
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.saving.saved_model import save_model
from ehrmind.engines.local.training.learner import LocalLearner
from ehrmind.engines.local.training.masters import SPARE_BITS, Trained, in_between
from ehrmind.types import Prompt
from tests.small_models import small_model, tokens

PAIRS = [(Prompt(tuple(tokens(seed, 15))), tuple(tokens(seed + 9, 8))) for seed in range(4)]


def opened(folder: Path, dtype: str, **settings: object) -> LocalEngine:
    torch.set_num_threads(1)
    return open_engine(Model(name=str(folder), dtype=dtype, **settings), folder, rows=8)  # type: ignore[arg-type]


def learnt(engine: LocalEngine, steps: int, rate: float, **more: object) -> LocalLearner:
    settings = Optimiser(learning_rate=rate, warmup_share=0.0, schedule="constant", **more)  # type: ignore[arg-type]
    learner: LocalLearner = engine.learner(settings, steps)
    for _ in range(steps):
        learner.learn_from_responses(PAIRS)
    return learner


def moved(folder: Path, dtype: str, rate: float, **settings: object) -> float:
    """The mean way of the trained weights in ten steps."""
    engine = opened(folder, dtype, **settings)
    trained = {name: weight for name, weight in engine.network.named_parameters() if weight.requires_grad}
    before = {name: weight.detach().float().clone() for name, weight in trained.items()}
    learnt(engine, 10, rate)
    ways = [(weight.detach().float() - before[name]).abs() for name, weight in trained.items()]
    return float(torch.cat([way.flatten() for way in ways]).mean())


@pytest.mark.parametrize("rate", [1e-6, 1e-5, 1e-4])
def test_narrow_weights_move_as_far_as_wide_ones_however_small_the_steps(tmp_path: Path, rate: float) -> None:
    folder = small_model(tmp_path / "model", "tied")
    assert moved(folder, "bfloat16", rate) == pytest.approx(moved(folder, "float32", rate), rel=0.2)


def test_an_adapter_on_a_narrow_model_moves_as_on_a_wide_one(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "model", "tied")
    found = [moved(folder, dtype, 1e-6, lora=Lora(rank=4)) for dtype in ("bfloat16", "float32")]
    assert found[0] == pytest.approx(found[1], rel=0.05)
    adapted = opened(folder, "bfloat16", lora=Lora(rank=4)).network
    assert {weight.dtype for weight in adapted.parameters() if weight.requires_grad} == {torch.float32}


def test_a_small_adapter_is_not_lost_when_it_is_merged_into_narrow_weights(tmp_path: Path) -> None:
    """Rounded to the nearest, changes of less than half the way to the next bf16 number would all
    vanish."""
    engine = opened(small_model(tmp_path / "model", "tied"), "bfloat16", lora=Lora(rank=4))
    base = {name: weight.detach().clone() for name, weight in engine.network.get_base_model().state_dict().items()}
    learnt(engine, 4, 2e-5)
    save_model(engine, tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    changes = []
    for name, layer in engine.network.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            delta = layer.get_delta_weight("default").detach()
            changes.append(
                (
                    (saved[f"{name}.weight"].float() - base[f"{name}.base_layer.weight"].float()) * delta.sign(),
                    delta.abs(),
                )
            )
    change, wanted = (torch.cat([pair[place].flatten() for pair in changes]) for place in range(2))
    assert wanted.mean() < 2e-4, "far less than the way to the next number"
    assert change.mean() == pytest.approx(float(wanted.mean()), rel=0.3)


@pytest.mark.parametrize("dtype", SPARE_BITS)
def test_a_master_rounds_to_its_weight_and_lies_anywhere_around_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.cat([torch.randn(50_000) * scale for scale in (1e-3, 0.02, 1.0, 100.0)]).to(dtype)
    weight[:6] = torch.tensor([0.0, 1.0, -1.0, 0.5, -2.0, 4.0]).to(dtype)
    master = in_between("a name", weight)
    assert torch.equal(master.to(dtype), weight) and torch.equal(master, in_between("a name", weight))
    assert not torch.equal(master, in_between("another", weight))
    aside = (master - weight.float()) / weight.float().abs().clamp(min=1e-6)
    assert abs(float(aside.mean())) < 1e-5 and float(aside.abs().mean()) > 0.1 * torch.finfo(dtype).eps
    assert float(master[0]) == 0.0


def test_wide_weights_are_their_own_masters() -> None:
    network = nn.Linear(3, 3)
    assert all(master is weight for master, weight in zip(Trained(network).masters, network.parameters(), strict=True))


def test_gradients_of_micro_batches_are_added_up_in_fp32() -> None:
    """256 small gradients after a large one: in bf16 each would be rounded away."""
    network = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    trained = Trained(network)
    for value in [256.0, *[1.0] * 256]:
        network(torch.tensor([[value]], dtype=torch.bfloat16)).sum().backward()
    (gradient,) = trained.taken()
    assert gradient is not None and gradient.dtype == torch.float32 and float(gradient) == 512.0


class Scaled(nn.Embedding):
    """As Gemma's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's name
        return super().forward(input) * 2.0


@pytest.mark.parametrize(("kind", "times"), [(nn.Embedding, 1.0), (Scaled, 2.0)])
def test_a_token_that_comes_a_thousand_times_has_the_gradient_of_all_of_them(
    kind: type[nn.Embedding], times: float
) -> None:
    network = nn.Sequential(kind(5, 3, padding_idx=0)).to(torch.bfloat16)
    trained = Trained(network)
    for _ in range(2):
        network(torch.tensor([[3] * 1000 + [0, 1]])).float().sum().backward()
    (gradient,) = trained.taken()
    assert gradient is not None and gradient.dtype == torch.float32
    assert gradient[:, 0].tolist() == [0.0, 2 * times, 0.0, 2000 * times, 0.0]


def test_a_run_of_narrow_weights_resumes_to_the_same_bits(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "model", "tied")
    straight = learnt(opened(folder, "bfloat16"), 6, 1e-5)
    first = learnt(opened(folder, "bfloat16"), 3, 1e-5)
    first.save(tmp_path / "checkpoint", {"step": 3})
    again = opened(folder, "bfloat16").learner(Optimiser(learning_rate=1e-5, warmup_share=0.0, schedule="constant"), 6)
    assert again.resume(tmp_path / "checkpoint")["step"] == 3
    for _ in range(3):
        again.learn_from_responses(PAIRS)
    for name, master, other in zip(
        straight.trained.names, straight.trained.masters, again.trained.masters, strict=True
    ):
        assert torch.equal(master, other), name
    for weight, other in zip(straight.trained.weights, again.trained.weights, strict=True):
        assert weight.dtype == torch.bfloat16 and torch.equal(weight, other)


@pytest.mark.parametrize("shards", [1, 2])
def test_what_a_network_draws_while_it_learns_is_of_seed_step_and_shard_alone(tmp_path: Path, shards: int) -> None:
    """Two runs of one seed are the same whatever else drew numbers before, and another seed is
    another run."""
    folder = small_model(tmp_path / "model", "llama")

    def weights(seed: int, elsewhere: int) -> torch.Tensor:
        model = Model(name=str(folder), lora=Lora(rank=4, dropout=0.5))
        engine = open_engine(model, folder, rows=8, seed=seed, shards=shards)
        for weight in engine.network.parameters():  # the same adapter whatever the seed
            if weight.requires_grad:
                nn.init.constant_(weight, 0.01)
        torch.manual_seed(elsewhere)
        return torch.cat([master.detach().flatten() for master in learnt(engine, 3, 1e-3).trained.masters])

    assert torch.equal(weights(1, 5), weights(1, 6))
    assert not torch.equal(weights(1, 5), weights(2, 5))


def test_sampling_and_scoring_use_the_weights_that_are_saved(tmp_path: Path) -> None:
    engine = opened(small_model(tmp_path / "model", "tied"), "bfloat16")
    learnt(engine, 4, 1e-3)
    assert engine.save(tmp_path / "saved")["largest_gap"] < 0.2
    again = opened(tmp_path / "saved", "bfloat16")
    asked = [prompt for prompt, _ in PAIRS]
    how = Decoding(temperature=1.0, max_new_tokens=8)
    texts = [[[c.text for c in group] for group in e.sample(asked, [1, 2, 3, 4], 2, how)] for e in (engine, again)]
    assert texts[0] == texts[1]
