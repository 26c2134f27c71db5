"""Estimates the memory of a run before it starts.

The largest of four moments counts: sampling (KV cache), supervised steps, policy steps
(activations, gradients, optimiser), saving (an adapter is merged in a copy). AdamW's moments and
the sums of gradients are fp32. Trained bf16 weights also have fp32 masters, counted with the
optimiser. The copy that proves a saved model is made only if there is room, and is not counted.
Activations are those that Llama-like layers keep for the backward pass. All terms are counted;
`tests/unit/test_memory.py` holds those of activations against the tensors that a model keeps. Two
factors are measured (`benchmarks/memory.py`): what the allocator holds beyond, on CPU and on CUDA.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from safetensors import safe_open

from ehrmind.config import Model, Optimiser, Recipe
from ehrmind.engines.local.forward.lm_head import KEPT, chunk_size
from ehrmind.engines.local.forward.matmul import can_pack
from ehrmind.engines.local.model import device_of
from ehrmind.engines.local.opening.gate import read_json, weight_files
from ehrmind.engines.local.sampling.cuda_graphs import GROWTH
from ehrmind.files import lines_of
from ehrmind.types import InputError

GIB = 2**30
FP32, BF16 = 4, 2
PREFILLED = 4096  # tokens; without gradients only one layer's activations exist
ALLOCATOR = 1.05  # the allocator holds more than it is asked for
PASSING = 1.1  # on CUDA a layer's backward pass holds more for a moment
NORM, FEED_FORWARD = 1, 2  # on CPU: tensors that a norm keeps of its input's type; of the inner width
HEAP = 0.7  # on CPU freed blocks stay in the heap: of what is kept in fp32, in narrow types too


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only model.

    `bytes` is the size of a weight, `trainable` counts all or the adapter's parameters.
    """

    parameters: int
    trainable: int
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    key_heads: int
    width: int
    vocabulary: int
    bytes: int
    narrow: bool
    device: str


@dataclass(frozen=True)
class Estimate:
    """Bytes by purpose.

    Weights, reference and optimiser stay; of the others the largest moment counts.
    """

    weights: int
    reference: int
    optimiser: int
    gradients: int
    activations: int
    keys_and_values: int
    saving: int = 0

    @property
    def total(self) -> int:
        largest_moment = max(self.gradients + self.activations, self.keys_and_values, self.saving)
        return int(ALLOCATOR * (self.weights + self.reference + self.optimiser + largest_moment))

    def __str__(self) -> str:
        parts = vars(self) | {"total": self.total}
        return ", ".join(
            f"{name.replace('_', ' ')} {_size(size)}" for name, size in parts.items() if size or name == "total"
        )


def shape_of(folder: Path, model: Model) -> Shape | None:
    """Reads a model's sizes from its files; None if its config is of an unknown kind.

    Raises InputError.
    """
    config = read_json(folder / "config.json", folder)
    try:
        config = config.get("text_config") or config
        hidden, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
        feed_forward, vocabulary = config["intermediate_size"], config["vocab_size"]
        sizes = hidden, layers, heads, feed_forward, vocabulary
    except (KeyError, TypeError):
        return None
    if not all(type(size) is int and size > 0 for size in sizes):
        return None  # widths by layer, as in OpenELM; opening the model says what is wrong
    weight = 2 if model.dtype == "bfloat16" else FP32
    parameters = sum(_parameters(file) for file in weight_files(folder))
    width = config.get("head_dim") or hidden // heads
    key_heads = config.get("num_key_value_heads") or heads
    adapters = (
        layers * (hidden * 2 * 4 + (hidden + feed_forward) * 3) * model.lora.rank if model.lora is not None else 0
    )
    return Shape(
        parameters=parameters + adapters,
        trainable=adapters or parameters,
        hidden=hidden,
        feed_forward=feed_forward,
        layers=layers,
        heads=heads,
        key_heads=key_heads,
        width=width,
        vocabulary=vocabulary,
        bytes=weight,
        narrow=model.autocast or weight < FP32,
        device=device_of(model),
    )


def estimate(shape: Shape, recipe: Recipe, *, warmup: bool = True, rlvr: bool = True, workers: int = 1) -> Estimate:
    """Estimates one worker's memory in the stage that takes most.

    Evaluation and pilot only sample.
    """
    prompt, new = recipe.prompts.max_tokens, recipe.decoding.max_new_tokens
    group = prompt + recipe.rlvr.samples * new  # a longer group goes alone
    tokens = min(max(recipe.warmup.tokens_per_microbatch, prompt + new), recipe.warmup.batch * (prompt + new))
    tokens_of_groups = min(max(recipe.rlvr.tokens_per_microbatch, group), recipe.rlvr.questions_per_step * group)
    sums = (recipe.shards // workers).bit_length()  # the tree over a worker's shards keeps one sum a level
    weights, trained = shape.parameters * shape.bytes, shape.trainable * FP32
    sharded = workers if recipe.cluster.strategy == "fsdp" else 1
    narrow = recipe.model.lora is None and shape.bytes < FP32
    # FSDP2 shards the masters
    masters = shape.trainable * (FP32 - (shape.bytes if sharded > 1 else 0)) if narrow else 0
    copy = weights if recipe.rlvr.kl > 0 and recipe.model.lora is None else 0
    # Sharded tensors are gathered for a while: all weights in sampling, some layers' in training,
    # gradients until a shard ends
    layers = shape.vocabulary * shape.hidden * shape.bytes + 2 * weights // shape.layers
    sampling = Estimate(
        weights // sharded, 0, 0, 0, 0, _keys_and_values(shape, recipe, prompt, new) + (weights if sharded > 1 else 0)
    )

    def learning(reference: int, activations: int) -> Estimate:
        return replace(
            sampling,
            reference=reference // sharded,
            optimiser=(2 * trained + masters) // sharded,
            gradients=sums * trained // sharded + (trained if sharded > 1 else 0),
            activations=activations + (layers if sharded > 1 else 0),
            saving=weights if recipe.model.lora is not None else 0,
        )

    stages = [sampling]
    if warmup:
        stages.append(learning(0, _activations(shape, tokens, recipe.warmup)))
    if rlvr:
        stages.append(learning(copy, _activations(shape, tokens_of_groups, recipe.rlvr)))
    return max(stages, key=lambda stage: stage.total)


def refuse_what_cannot_fit(found: Estimate, recipe: Recipe, available: int) -> None:
    """Raises InputError that names the largest part and the change that shrinks it."""
    if found.total <= available:
        return
    adapts, learns = recipe.model.lora is not None, found.optimiser > 0
    smaller = ["use a smaller model"]
    # bf16 weights that are trained have fp32 masters
    smaller += ["model.dtype=bfloat16"] if recipe.model.dtype == "float32" and (adapts or not learns) else []
    smaller += ["model.lora"] if learns and not adapts else []
    smaller += ["rlvr.kl=0"] if found.reference else []
    advice = {
        found.weights + found.reference + (found.saving if adapts else 0): " or ".join(smaller),
        found.optimiser + found.gradients: "lower model.lora.rank" if adapts else "set model.lora",
        found.activations: (
            "lower rlvr.tokens_per_microbatch and warmup.tokens_per_microbatch, "
            "or set gradient_checkpointing=true in both"
        ),
        found.keys_and_values: "lower sampler_tokens or sampler_rows",
    }
    raise InputError(
        f"This run needs about {_size(found.total)} of memory ({found}) and there are {_size(available)}; "
        f"{advice[max(advice)]}."
    )


def memory_of(device: str) -> int:
    """Returns the bytes that a device has in all, on CPU within the control group's limit."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[1])
    limits = [int(psutil.virtual_memory().total)]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):
            continue  # no such group, or no limit
    return min(limits)


def free_memory() -> int:
    """Returns the free bytes of the machine, within the control group's limit.

    The group's count of used bytes includes cached files, which make room when asked.
    """
    free = int(psutil.virtual_memory().available)
    try:
        group = Path("/sys/fs/cgroup")
        counts = dict(line.split() for line in lines_of((group / "memory.stat").read_text()))
        used = int((group / "memory.current").read_text()) - int(counts.get("file", 0))
        return min(free, int((group / "memory.max").read_text()) - used)
    except (OSError, ValueError):
        return free  # no such group, or no limit


def _activations(shape: Shape, tokens: int, settings: Optimiser) -> int:
    if shape.device == "cuda":
        layer = PASSING * tokens * kept_on_cuda(shape)
    else:
        layer = tokens * (kept_on_cpu(shape) + HEAP * kept_on_cpu(replace(shape, bytes=FP32, narrow=False)))
    kept = (
        tokens * shape.hidden * FP32 * shape.layers + layer if settings.gradient_checkpointing else layer * shape.layers
    )
    return int(kept + _lm_head(shape, tokens) + _narrow_copies(shape) + tokens * shape.hidden * FP32 * 4)


def _lm_head(shape: Shape, tokens: int) -> int:
    """Counts a chunk's logits, two fp32 tensors of their size, the slopes that are kept, and the
    weight's gradient before it is added.
    """
    number = BF16 if shape.narrow else shape.bytes
    logits = min(chunk_size(shape.device, shape.vocabulary), tokens) * shape.vocabulary * (number + 2 * FP32)
    slopes = min(KEPT.get(shape.device, 0), tokens * shape.vocabulary * number)
    return logits + slopes + shape.vocabulary * shape.hidden * (FP32 + number)


def _narrow_copies(shape: Shape) -> int:
    """Counts autocast's copies of fp32 weights."""
    return shape.parameters * BF16 if shape.narrow and shape.bytes == FP32 else 0


def kept_on_cpu(shape: Shape) -> int:
    """Counts the bytes kept for a token in a layer.

    They are both norms' input and result; queries and attention's result in fp32, and its copy for
    the next matmul; keys in fp32 and values; the feed-forward gate and its values.
    """
    stream, number = shape.bytes, BF16 if shape.narrow else shape.bytes
    norms = 2 * shape.hidden * (NORM * stream + number)
    attention = shape.heads * shape.width * (2 * FP32 + number) + shape.key_heads * shape.width * (FP32 + number)
    return norms + attention + FEED_FORWARD * shape.feed_forward * number


def kept_on_cuda(shape: Shape) -> int:
    """Counts the bytes kept for a token in a layer.

    They are both norms' input and result; queries, keys, values, attention's result and its copy
    for the next matmul; the feed-forward gate before and after its function, its values, and their
    product.
    """
    stream, number = shape.bytes, BF16 if shape.narrow else shape.bytes
    heads = 3 * shape.heads + 2 * shape.key_heads
    return 2 * shape.hidden * (stream + number) + (heads * shape.width + 4 * shape.feed_forward) * number


def _keys_and_values(shape: Shape, recipe: Recipe, prompt: int, new: int) -> int:
    """Estimates keys and values of the fullest stage, and the weights that are packed while it
    samples.

    The fullest stage is greedy evaluation, where every row has a prompt of its own, within
    `sampler_tokens`.
    """
    on_cpu = shape.device == "cpu"
    room = new if on_cpu else -(-new // GROWTH) * GROWTH
    tokens = min(recipe.sampler_rows * (prompt + room), max(recipe.sampler_tokens, prompt + recipe.rlvr.samples * room))
    number = FP32 if on_cpu else BF16 if shape.narrow else shape.bytes
    working = PREFILLED * (3 * shape.feed_forward + 6 * shape.hidden) * FP32
    packs = shape.bytes == FP32 and (can_pack(narrow=shape.narrow) if on_cpu else shape.narrow)
    packed = shape.parameters * (BF16 if shape.narrow else FP32) if packs else 0
    return tokens * 2 * shape.key_heads * shape.width * number * shape.layers + working + packed


def _parameters(file: Path) -> int:
    """Counts the parameters of a safetensors file from its header, for a quantised file after
    dequantising.
    """
    with safe_open(file, framework="pt") as tensors:
        sizes = {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118  # no mapping
    scales = {name for name in sizes if name.endswith(("_scale_inv", "_scales"))}
    return sum(size * (2 if name.endswith("_blocks") else 1) for name, size in sizes.items() if name not in scales)


def _size(size: Any) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"
