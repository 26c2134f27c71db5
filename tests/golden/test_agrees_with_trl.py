"""rl against TRL 1.16's own GRPO code on the same tensors: TRL is the oracle, and a dependency of
tests only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ehrmind.rl.advantages import advantages
from ehrmind.rl.losses import Normaliser, PolicyLoss, policy_loss

trl = pytest.importorskip("trl", reason="TRL is not installed; `make setup` installs it")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
CLOSE = 1e-5
EPSILON, EPSILON_HIGH, BETA, TEMPERATURE, MAX_NEW = 0.1, 0.28, 0.04, 0.6, 24
ANSWERS, PROMPT, TOKENS, VOCABULARY = 8, 5, 20, 48


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Llama-shaped model with a tokenizer of single words, as `save_pretrained`
    writes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = ["<pad>", "<eos>", *(f"w{number}" for number in range(VOCABULARY - 2))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, initializer_range=0.3, pad_token_id=0, eos_token_id=1, **shape)
    ).save_pretrained(folder)
    return folder


def trainer(model_folder: Path, folder: Path, **settings: Any) -> Any:
    """A real GRPOTrainer, as a user would build it, that never trains."""
    from datasets import Dataset

    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": ANSWERS,
        "num_generations": 4,
        "max_completion_length": MAX_NEW,
        "epsilon": EPSILON,
        "epsilon_high": EPSILON_HIGH,
        "beta": BETA,
        "temperature": TEMPERATURE,
        "use_bias_correction_kl": False,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "model_init_kwargs": {"dtype": "float32"},
    }
    return trl.GRPOTrainer(
        model=str(model_folder),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=trl.GRPOConfig(**arguments | settings),
        train_dataset=Dataset.from_list([{"prompt": "w1 w2"}] * 8),
    )


def batch(seed: int = 3) -> dict[str, Tensor]:
    """Answers of different lengths, one of them masked whole, with an older policy and a reference
    some way off."""
    generator = torch.Generator().manual_seed(seed)
    lengths_N1 = torch.tensor([20, 7, 1, 13, 20, 0, 4, 16])[:, None]
    mask_NT = (torch.arange(TOKENS) < lengths_N1).long()
    rewards_PG = torch.tensor([[1.1, 0.0, -2.0, 1.1], [0.0, 0.0, 1.1, -2.0]])
    return {
        "prompt_ids": torch.randint(2, VOCABULARY, (ANSWERS, PROMPT), generator=generator),
        "prompt_mask": torch.ones(ANSWERS, PROMPT, dtype=torch.long),
        "completion_ids": torch.randint(2, VOCABULARY, (ANSWERS, TOKENS), generator=generator),
        "completion_mask": mask_NT,
        "advantages": advantages(rewards_PG, "grpo").flatten(),
        "num_items_in_batch": mask_NT.sum(),
        "noise_old": 0.3 * torch.randn(ANSWERS, TOKENS, generator=generator),
        "noise_reference": 0.3 * torch.randn(ANSWERS, TOKENS, generator=generator),
    }


def plain_logprobs(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Computes what a learner computes: the temperature-scaled log-softmax of the completion's
    tokens."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, PROMPT - 1 : -1].float() / TEMPERATURE
    return logits.log_softmax(-1).gather(2, inputs["completion_ids"][..., None])[..., 0]


def ours(logprobs_NT: Tensor, inputs: dict[str, Tensor], rows: slice, normalise: str, importance: str) -> PolicyLoss:
    whole = Normaliser(ANSWERS, int(inputs["num_items_in_batch"]), MAX_NEW)
    return policy_loss(
        logprobs_NT,
        inputs["old_per_token_logps"][rows],
        inputs["advantages"][rows],
        inputs["completion_mask"][rows],
        whole=whole,
        clip_low=EPSILON,
        clip_high=EPSILON_HIGH,
        importance=importance,
        normalise=normalise,
        reference_logprobs_NT=inputs["ref_per_token_logps"][rows],
        kl=BETA,
    )


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("importance", ["token", "sequence"])
@pytest.mark.parametrize("normalise", ["grpo", "dapo", "dr_grpo"])
def test_loss_and_gradient_are_those_of_trl(
    normalise: str, importance: str, model_folder: Path, tmp_path: Path
) -> None:
    """With respect to the log-probabilities themselves, and through a whole model's parameters."""
    peer = trainer(model_folder, tmp_path, loss_type=normalise, importance_sampling_level=importance)
    model = peer.model.train()
    peer.current_gradient_accumulation_steps = 1
    inputs = batch()
    with torch.no_grad():
        start_NT = plain_logprobs(model, inputs)
    inputs["old_per_token_logps"] = start_NT + inputs.pop("noise_old")
    inputs["ref_per_token_logps"] = start_NT + inputs.pop("noise_reference")

    model.zero_grad()
    theirs = peer._compute_loss(model, inputs)
    theirs.backward()
    their_gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    out = ours(plain_logprobs(model, inputs), inputs, slice(None), normalise, importance)
    out.loss.backward()
    our_gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(out.loss, theirs, rtol=CLOSE, atol=CLOSE)
    assert theirs.abs() > 100 * CLOSE and relative(our_gradient, their_gradient) < CLOSE

    leaf_NT = start_NT.clone().requires_grad_()
    peer._get_per_token_logps_and_entropies = lambda *_, **__: (leaf_NT, torch.zeros_like(leaf_NT), None)
    (their_leaf_gradient,) = torch.autograd.grad(peer._compute_loss(model, inputs), leaf_NT)
    mine = ours(leaf_NT, inputs, slice(None), normalise, importance)
    (our_leaf_gradient,) = torch.autograd.grad(mine.loss, leaf_NT)
    assert relative(our_leaf_gradient, their_leaf_gradient) < CLOSE
    assert_metrics_agree(mine, peer, inputs, importance)


def assert_metrics_agree(mine: PolicyLoss, peer: Any, inputs: dict[str, Tensor], importance: str) -> None:
    """The KL always; clipping where TRL too counts tokens (with sequence ratios it counts answers,
    empty ones included)."""
    tokens = int(inputs["num_items_in_batch"])
    reported = peer._metrics["train"]
    assert float(mine.kl_sum) / tokens == pytest.approx(reported["kl"][-1], rel=1e-4)
    if importance == "token":
        assert float(mine.clipped_sum) / tokens == pytest.approx(reported["clip_ratio/region_mean"][-1], rel=1e-4)
        assert 0 < float(mine.clipped_sum) < tokens


@pytest.mark.parametrize("importance", ["token", "sequence"])
@pytest.mark.parametrize("normalise", ["grpo", "dapo", "dr_grpo"])
def test_micro_batches_add_up_to_the_loss_trl_gives_the_whole_batch(
    normalise: str, importance: str, model_folder: Path, tmp_path: Path
) -> None:
    peer = trainer(model_folder, tmp_path, loss_type=normalise, importance_sampling_level=importance)
    peer.model.train()
    peer.current_gradient_accumulation_steps = 1
    inputs = batch(seed=8)
    leaf_NT = (-2.0 + inputs["noise_old"].roll(1, 0)).requires_grad_()
    inputs["old_per_token_logps"] = -2.0 + inputs.pop("noise_old")
    inputs["ref_per_token_logps"] = -2.0 + inputs.pop("noise_reference")
    peer._get_per_token_logps_and_entropies = lambda *_, **__: (leaf_NT, torch.zeros_like(leaf_NT), None)
    theirs = peer._compute_loss(peer.model, inputs)
    (their_gradient,) = torch.autograd.grad(theirs, leaf_NT)
    parts = [
        ours(leaf_NT[rows], inputs, rows, normalise, importance) for rows in (slice(0, 3), slice(3, 4), slice(4, 8))
    ]
    total = torch.stack([part.loss for part in parts]).sum()
    (our_gradient,) = torch.autograd.grad(total, leaf_NT)
    torch.testing.assert_close(total, theirs, rtol=CLOSE, atol=CLOSE)
    assert relative(our_gradient, their_gradient) < CLOSE


def test_group_advantages_are_those_trl_computes_from_rewards(model_folder: Path, tmp_path: Path) -> None:
    """The real generation and scoring path, with planned rewards."""
    rewards = [1.1, 0.0, -2.0, 1.1, 0.0, 0.0, 0.0, 1.1]
    peer = trainer(model_folder, tmp_path, max_completion_length=2)
    peer.reward_funcs = [lambda completions, **_: rewards]
    scored = peer._generate_and_score_completions([{"prompt": "w1 w2"}] * 4 + [{"prompt": "w3"}] * 4)
    torch.testing.assert_close(
        scored["advantages"], advantages(torch.tensor(rewards).view(2, 4), "grpo").flatten(), rtol=CLOSE, atol=CLOSE
    )
