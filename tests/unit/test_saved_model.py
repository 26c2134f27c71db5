"""A run saves what it trained: every family, all weights or an adapter, is read back by
`transformers` alone and answers alike.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ehrmind.config import Lora, Model, Optimiser
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.opening.quantised import keeps_from_learning
from ehrmind.engines.local.saving import saved_model
from ehrmind.types import InputError, Prompt
from tests.small_models import EVERY_FAMILY, small_model, tokens

IDS = torch.tensor([tokens(seed, 30) for seed in range(3)])


@pytest.fixture(scope="module", params=EVERY_FAMILY)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return small_model(tmp_path_factory.mktemp(request.param) / request.param, request.param)


def trained(folder: Path, rate: float = 1e-2, **settings: object) -> LocalEngine:
    """After three steps that move every token's likelihood."""
    engine = open_engine(Model(name=str(folder), **settings), folder, rows=8)  # type: ignore[arg-type]
    before = logprobs(engine.network)
    learner = engine.learner(Optimiser(learning_rate=rate, warmup_share=0.0, schedule="constant"), 3)
    for _ in range(3):
        learner.learn_from_responses(
            [(Prompt(tuple(tokens(seed, 12))), tuple(tokens(seed + 9, 8))) for seed in range(3)]
        )
    assert (logprobs(engine.network) - before).abs().max() > 0.05, "it has learnt"
    return engine


def logprobs(network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits = network.eval()(input_ids=IDS, use_cache=False).logits[:, :-1].float()
    return torch.log_softmax(logits, -1).gather(2, IDS[:, 1:, None])


def plain(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    network, found = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"], found
    return network


@pytest.mark.parametrize("how", ["all weights", "adapter"])
def test_the_saved_model_is_the_one_that_was_trained(family: Path, how: str, tmp_path: Path) -> None:
    engine = trained(family, lora=Lora(rank=4) if how == "adapter" else None)
    said = engine.save(tmp_path / "saved")
    assert said["proof"] == "weights and log-probabilities" and said["largest_gap"] < 1e-4
    assert (logprobs(plain(tmp_path / "saved")) - logprobs(engine.network)).abs().max() < 1e-4
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "float32"


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "both"])
@pytest.mark.parametrize("name", ["tied", "untied", "llama"])
def test_an_adapter_of_a_tied_layer_unties_what_is_saved(tmp_path: Path, name: str, target: str) -> None:
    ends = ["lm_head", "embed_tokens"] if target == "both" else [target]
    engine = trained(small_model(tmp_path / name, name), lora=Lora(rank=4, targets=["q_proj", *ends]))
    engine.save(tmp_path / "saved")
    saved = plain(tmp_path / "saved")
    assert (logprobs(saved) - logprobs(engine.network)).abs().max() < 1e-4
    assert not saved.config.tie_word_embeddings
    assert engine.network.config.tie_word_embeddings == (name != "untied"), "memory keeps its own"


@pytest.mark.parametrize("how", ["all weights", "adapter"])
@pytest.mark.parametrize("name", ["tied", "fp8", "mxfp4", "gpt_oss", "gemma3_images"])
def test_a_narrow_model_is_saved_as_it_computes(tmp_path: Path, name: str, how: str) -> None:
    engine = trained(
        small_model(tmp_path / name, name), dtype="bfloat16", lora=Lora(rank=4) if how == "adapter" else None
    )
    said = engine.save(tmp_path / "saved")
    assert said["proof"] == "weights and log-probabilities"
    saved = plain(tmp_path / "saved", torch.bfloat16)
    assert (logprobs(saved) - logprobs(engine.network)).abs().mean() < 0.1
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "bfloat16"


def quantises_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehrmind.engines.local.saving.saved_model.was_dequantised", lambda _: False)


def writes_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    own = saved_model.write_model

    def write(network: Any, weights: Any, folder: Path, dtype: torch.dtype) -> None:
        own(
            network,
            {key: value * 1.01 if "layers.1.mlp.up_proj" in key else value for key, value in weights.items()},
            folder,
            dtype,
        )

    monkeypatch.setattr(saved_model, "write_model", write)


def says_another_config(monkeypatch: pytest.MonkeyPatch) -> None:
    own = saved_model.write_model

    def write(network: Any, weights: Any, folder: Path, dtype: torch.dtype) -> None:
        own(network, weights, folder, dtype)
        config = json.loads((folder / "config.json").read_text())
        config["rope_parameters"]["rope_theta"] = 500.0
        (folder / "config.json").write_text(json.dumps(config))

    monkeypatch.setattr(saved_model, "write_model", write)


def leaves_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    own = saved_model.write_model

    def write(network: Any, weights: Any, folder: Path, dtype: torch.dtype) -> None:
        own(network, {key: value for key, value in weights.items() if "layers.1.mlp.up_proj" not in key}, folder, dtype)

    monkeypatch.setattr(saved_model, "write_model", write)


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("fp8", quantises_again, "is not whole: .* unexpected keys, such as"),
        ("tied", writes_other_numbers, r"layers\.1\.mlp\.up_proj\.weight was read back as other numbers"),
        ("tied", says_another_config, "log-probabilities differ by"),
        ("untied", leaves_one_out, "is not whole: 1 missing keys"),
    ],
)
def test_what_is_not_the_model_in_memory_is_one_sentence_and_what_stood_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, spoil: Any, said: str
) -> None:
    engine = trained(small_model(tmp_path / name, name))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "before.txt").write_text("of an earlier step")
    spoil(monkeypatch)
    with pytest.raises(InputError, match=f"^The model written as saved .*{said}"):
        engine.save(tmp_path / "saved")
    assert [file.name for file in (tmp_path / "saved").iterdir()] == ["before.txt"] and not list(tmp_path.glob(".*"))


def test_numbers_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    engine = trained(small_model(tmp_path / "tied", "tied"))
    with torch.no_grad():
        next(engine.network.parameters())[:] = float("nan")
    with pytest.raises(InputError, match="numbers that are not finite in memory; train with a lower learning_rate"):
        engine.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("name", ["tied", "gpt_oss", "gemma3_images"])
def test_without_room_for_a_second_copy_files_are_compared_with_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    engine = trained(small_model(tmp_path / name, name))
    monkeypatch.setattr("ehrmind.engines.local.saving.proof.is_room", lambda _: False)
    said = engine.save(tmp_path / "saved")
    assert said == {"proof": "weights", "tensors": said["tensors"]} and said["tensors"] >= 5
    writes_other_numbers(monkeypatch)
    if name == "tied":
        with pytest.raises(InputError, match=r"up_proj\.weight was read back as other numbers"):
            engine.save(tmp_path / "again")


def test_weights_in_several_files_are_read_by_their_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = trained(small_model(tmp_path / "untied", "untied"))
    own = type(engine.network).save_pretrained
    monkeypatch.setattr(
        type(engine.network),
        "save_pretrained",
        lambda self, *args, **more: own(self, *args, max_shard_size="20KB", **more),
    )
    engine.save(tmp_path / "saved")
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 2
    assert (logprobs(plain(tmp_path / "saved")) - logprobs(engine.network)).abs().max() < 1e-4


def test_a_model_that_stays_quantised_is_not_trained() -> None:
    quantiser = SimpleNamespace(quantization_config=SimpleNamespace(quant_method="bitsandbytes"))
    assert "stay quantised (bitsandbytes)" in str(keeps_from_learning(SimpleNamespace(hf_quantizer=quantiser)))
    assert keeps_from_learning(SimpleNamespace()) is None


def test_two_ends_that_differ_are_saved_as_two_whatever_the_config_says(tmp_path: Path) -> None:
    """`transformers` unties them when it reads both; a server that believes the config would
    not."""
    folder = small_model(tmp_path / "untied", "untied")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    engine = trained(folder)
    engine.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["tie_word_embeddings"] is False
    assert (logprobs(plain(tmp_path / "saved")) - logprobs(engine.network)).abs().max() < 1e-4
