"""The memory that a run needs is said before it starts, and a run that cannot fit is refused with
the change that helps.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ehrmind.config import Model, Recipe, load_recipe, parse_recipe
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.forward import matmul
from ehrmind.engines.local.memory import (
    ALLOCATOR,
    GIB,
    Estimate,
    Shape,
    estimate,
    kept_on_cpu,
    memory_of,
    refuse_what_cannot_fit,
    shape_of,
)
from ehrmind.engines.local.scoring import score
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError
from tests.small_models import FAMILIES, small_model

BIG = Shape(3_200_000_000, 3_200_000_000, 3072, 8192, 28, 24, 8, 128, 128_256, 2, narrow=True, device="cuda")


def recipe(**more: object) -> Recipe:
    return parse_recipe(
        {
            "data": {split: {"synthetic": {"n": 5, "seed": seed}} for seed, split in enumerate(("train", "held_out"))},
            "model": {"name": "m"},
            **more,
        }
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_is_the_models_own(tmp_path: Path, family: str) -> None:
    folder = small_model(tmp_path / "model", family)
    shape = shape_of(folder, Model(name=str(folder), device="cpu"))
    network = open_engine(Model(name=str(folder)), folder, rows=4).network
    assert shape is not None
    assert shape.parameters == shape.trainable == sum(parameter.numel() for parameter in network.parameters())
    assert (shape.layers, shape.heads, shape.key_heads) == (3, 2, network.config.num_key_value_heads)
    assert shape.vocabulary == network.config.vocab_size


def test_a_configuration_that_is_not_known_gives_no_estimate(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba", "hidden_size": 4}')
    assert shape_of(tmp_path, Model(name="m")) is None


def test_what_a_recipe_asks_for_is_what_grows() -> None:
    base = estimate(BIG, recipe())
    assert base.reference == base.weights == 6_400_000_000
    assert base.gradients == 12_800_000_000 and base.optimiser == 3 * base.gradients, (
        "two moments and a master of each bf16 weight, fp32"
    )
    assert estimate(BIG, recipe(rlvr={"kl": 0.0})).reference == 0
    assert estimate(BIG, recipe(shards=2)).gradients == 2 * base.gradients
    assert estimate(BIG, recipe(shards=2), workers=2) == base, "of each worker, who holds one shard"
    cut = estimate(BIG, recipe(shards=4, cluster={"workers": 4, "strategy": "fsdp"}), workers=4)
    assert (cut.weights, cut.reference) == (base.weights // 4, base.reference // 4)
    assert cut.weights + cut.optimiser == base.optimiser // 4, "what is sharded are the masters"
    assert (
        base.gradients < cut.gradients == 1.25 * base.gradients
        and cut.keys_and_values == base.keys_and_values + base.weights
    )
    checkpointed = recipe(rlvr={"gradient_checkpointing": True}, warmup={"gradient_checkpointing": True})
    assert estimate(BIG, checkpointed).activations < base.activations / 4
    assert estimate(BIG, recipe(sampler_tokens=16384)).keys_and_values < base.keys_and_values / 4
    only_sampling = estimate(BIG, recipe(), warmup=False, rlvr=False)
    assert (only_sampling.optimiser, only_sampling.gradients, only_sampling.activations) == (0, 0, 0)
    adapters = dataclasses.replace(BIG, trainable=20_000_000)
    adapted = estimate(adapters, recipe(model={"name": "m", "lora": {}}))
    assert (adapted.optimiser, adapted.saving) == (160_000_000, adapted.weights), "fp32 on every base; merged in a copy"
    wide = dataclasses.replace(BIG, bytes=4)
    assert estimate(wide, recipe()).optimiser == 2 * estimate(wide, recipe()).gradients == 25_600_000_000, (
        "their own masters"
    )


def test_the_stage_that_holds_more_counts_and_a_reference_in_rlvr_only() -> None:
    warm = estimate(BIG, recipe(), rlvr=False)
    light = recipe(
        rlvr={"gradient_checkpointing": True, "tokens_per_microbatch": 256, "samples": 2},
        decoding={"max_new_tokens": 64},
    )
    both, warmup, rlvr = (
        estimate(BIG, light, warmup=w, rlvr=r) for w, r in ((True, True), (True, False), (False, True))
    )
    assert warm.reference == warmup.reference == 0 < rlvr.reference
    assert both.total == max(warmup.total, rlvr.total) and both == warmup
    sampling = estimate(BIG, recipe(sampler_tokens=1 << 22, sampler_rows=4096))
    assert (
        sampling.reference
        and sampling.total > sampling.gradients + sampling.activations + sampling.weights + sampling.optimiser
    )


def test_the_total_counts_the_largest_moment_once() -> None:
    assert Estimate(10, 10, 20, 10, 30, 100).total == int(140 * ALLOCATOR)
    assert Estimate(10, 10, 20, 10, 130, 100).total == int(180 * ALLOCATOR)


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (Estimate(9, 9, 2, 1, 1, 1), "rlvr.kl=0"),
        (Estimate(9, 0, 18, 9, 1, 1), "set model.lora"),
        (Estimate(9, 0, 2, 1, 1, 1), "use a smaller model or model.lora.$"),
        (Estimate(9, 0, 0, 0, 0, 1), "use a smaller model or model.dtype=bfloat16.$"),
        (Estimate(2, 0, 4, 2, 90, 1), "tokens_per_microbatch"),
        (Estimate(2, 0, 0, 0, 0, 90), "sampler_tokens"),
    ],
)
def test_a_run_that_cannot_fit_is_refused_with_what_helps(found: Estimate, advice: str) -> None:
    whole = Estimate(**{name: size * GIB for name, size in vars(found).items()})
    with pytest.raises(InputError, match=rf"needs about \d+\.\d GiB .* there are 8\.0 GiB; .*{advice}"):
        refuse_what_cannot_fit(whole, recipe(), 8 * GIB)
    refuse_what_cannot_fit(whole, recipe(), whole.total)


def test_a_run_says_its_estimate_and_stops_before_the_pilot_where_it_cannot_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {"tiny": {"hidden": 16, "layers": 1, "heads": 2, "vocabulary": 300}}
    vast = recipe(model=shape, sampler_rows=10**6, sampler_tokens=10**9)
    with pytest.raises(InputError, match="lower sampler_tokens"):
        run_pipeline(vast, tmp_path / "run")
    assert "memory (estimate): weights" in capsys.readouterr().err
    assert not (tmp_path / "run" / "stages" / "pilot.json").exists()


@pytest.mark.parametrize(
    ("onednn", "bf16", "model"),
    [
        (True, False, {"autocast": True}),
        (True, False, {}),
        (True, True, {"autocast": True}),
        (False, False, {"autocast": True}),  # such as ARM, of whose bf16 nothing is known
    ],
)
def test_bf16_in_software_is_said_to_be_slow(
    onednn: bool,
    bf16: bool,
    model: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matmul, "ONEDNN", onednn)
    monkeypatch.setattr(matmul, "BF16", bf16)
    shape = {"tiny": {"hidden": 16, "layers": 1, "heads": 2, "vocabulary": 300}, "device": "cpu"}
    with pytest.raises(InputError, match="lower sampler_tokens"):
        run_pipeline(recipe(model={**shape, **model}, sampler_rows=10**6, sampler_tokens=10**9), tmp_path / "run")
    said = capsys.readouterr().err
    assert ("set model.autocast=false" in said) == (onednn and not bf16 and bool(model))


def test_the_machines_memory_is_known() -> None:
    assert GIB < memory_of("cpu") < 1 << 50


@pytest.mark.parametrize("autocast", [False, True])
def test_what_counts_as_kept_for_a_token_is_what_a_model_keeps(tmp_path: Path, autocast: bool) -> None:
    folder = small_model(tmp_path / "model", "llama")
    settings = Model(name=str(folder), autocast=autocast, device="cpu")
    engine, shape = open_engine(settings, folder, rows=4), shape_of(folder, settings)
    assert shape is not None and engine.shared
    engine.network.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in engine.network.parameters()}

    def kept(prompt: int) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes.setdefault(storage.data_ptr(), 0 if storage.data_ptr() in weights else storage.nbytes())
            return tensor

        group = ([5] * prompt, [[6, 7], [8, 9]])
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), engine.autocast():
            scores = score(engine.network, [group], temperature=1.0, shared=True, pad_id=0)
        assert scores.logprobs.requires_grad
        return sum(sizes.values())

    a_token_of_a_layer = (kept(512) - kept(256)) / (256 * shape.layers)  # weights' copies are in both
    assert kept_on_cpu(shape) == pytest.approx(a_token_of_a_layer, rel=0.15)


@pytest.mark.parametrize("family", ["fp8", "mxfp4", "gemma3_images"])
def test_a_quantised_model_counts_as_what_it_is_in_memory(tmp_path: Path, family: str) -> None:
    folder = small_model(tmp_path / "model", family)
    shape = shape_of(folder, Model(name=str(folder), device="cpu"))
    network = open_engine(Model(name=str(folder)), folder, rows=4).network
    assert shape is not None and shape.parameters == sum(parameter.numel() for parameter in network.parameters())


H100 = 79 * GIB


@pytest.mark.parametrize(
    ("overrides", "workers", "gib"),
    [((), 1, 71), (("cluster.workers=8", "cluster.strategy=fsdp", "rlvr.kl=0.001"), 8, 36)],
)
def test_the_recipe_of_three_billion_parameters_fits_what_it_says(
    overrides: tuple[str, ...], workers: int, gib: int
) -> None:
    asked = load_recipe(Path("medcalc_3b"), overrides)
    found = estimate(BIG, asked, workers=workers)
    assert round(found.total / GIB) == gib
    refuse_what_cannot_fit(found, asked, H100)
    with pytest.raises(InputError):
        refuse_what_cannot_fit(found, asked, gib * GIB - GIB)
