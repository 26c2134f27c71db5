"""Limits of the machine at a model's shape: the rate of its products, and the time to read its
weights.

The rate of an update is a weighted harmonic mean: operations of all products of weights over the
seconds that they take alone. The products are those of a micro-batch's rows with every weight
(queries, keys, values, output, gate, up, down), forward and both backward products, and the LM
head's. Each is timed by itself, as our layers compute it, the best of a few times.

A decoding step has two limits: the time to read the weights once, in the type in which it computes,
and the time of its products at the rate measured at that shape. There a weight is used again and
again, so that a cache holds it where it can. The larger of the two is the step's floor. Attention,
norms and drawing are in neither limit.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from _models import Case, now, prompt_ids

FORWARD, TO_INPUT, TO_WEIGHT = "forward", "to input", "to weight"
KINDS = (FORWARD, TO_INPUT, TO_WEIGHT)
LM_HEAD_ROWS = {"cpu": 512, "cuda": 2048}
DECODED_ROWS = (64, 32, 16)  # in this order: rows leave
DECODED_GROUP = 8
DECODING_TABLE = (
    "| case | dtype | rows | decoding step | reading the weights | products | step over the larger |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


class Weight(NamedTuple):
    """A weight [columns, inner] that `rows` rows are multiplied with, `times` times."""

    rows: int
    inner: int
    columns: int
    times: float

    @property
    def operations(self) -> float:
        """Operations of one product: forward and both backward products have as many."""
        return 2.0 * self.rows * self.inner * self.columns


def weights_of_layer(config: Any) -> Counter[tuple[int, int]]:
    """How often a layer has a weight of so many columns and so much inner width."""
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    hidden, wide = config.hidden_size, config.intermediate_size
    return Counter(
        [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries), *[(wide, hidden)] * 2, (hidden, wide)]
    )


def rows_of_microbatch(case: Case, budget: int) -> int:
    """Tokens of the largest micro-batch: whole groups within the budget, one at least."""
    group = case.length + case.members * case.new
    return group * min(case.prompts, max(1, budget // group))


def weights_of_update(config: Any, case: Case, budget: int) -> list[Weight]:
    rows, answered = rows_of_microbatch(case, budget), case.prompts * case.members * case.new
    times = config.num_hidden_layers * (case.prompts * case.length + answered) / rows
    layers = [
        Weight(rows, inner, columns, count * times) for (columns, inner), count in weights_of_layer(config).items()
    ]
    at_once = min(LM_HEAD_ROWS[case.device], answered)
    return [*layers, Weight(at_once, config.hidden_size, config.vocab_size, answered / at_once)]


def weights_of_step(config: Any, rows: int) -> list[Weight]:
    layers = [
        Weight(rows, inner, columns, count * config.num_hidden_layers)
        for (columns, inner), count in weights_of_layer(config).items()
    ]
    return [*layers, Weight(rows, config.hidden_size, config.vocab_size, 1)]


def weighted_rate(measured: Iterable[tuple[Weight, float]]) -> float:
    """Operations a second of all products together; each comes with the seconds of one."""
    operations, took = 0.0, 0.0
    for weight, seconds in measured:
        operations += weight.times * weight.operations
        took += weight.times * seconds
    return operations / took


def update_rate(config: Any, case: Case, budget: int, dtype: str, *, repeats: int = 2) -> float:
    """Operations a second of an update's products, measured now."""
    found = []
    for weight in weights_of_update(config, case, budget):
        seconds = _seconds_of(weight, dtype, case.device, repeats)
        found += [(weight, seconds[kind]) for kind in KINDS]
    return weighted_rate(found)


def _seconds_of(weight: Weight, dtype: str, device: str, repeats: int) -> dict[str, float]:
    """The best time of each of a weight's three products."""
    from ehrmind.engines.local.forward.matmul import matmul, matmul_over_rows

    left_MK, grad_MN, weight_NK = (
        _random(shape, dtype, device)
        for shape in ((weight.rows, weight.inner), (weight.rows, weight.columns), (weight.columns, weight.inner))
    )
    products: dict[str, Callable[[], Any]] = {
        FORWARD: lambda: matmul(left_MK, weight_NK),
        TO_INPUT: lambda: matmul(grad_MN, weight_NK.mT),
        TO_WEIGHT: lambda: matmul_over_rows(grad_MN, left_MK),
    }
    return {kind: best(product, device, repeats) for kind, product in products.items()}


def step_seconds(config: Any, rows: int, dtype: str, *, repeats: int = 10) -> float:
    """The time of a decoding step's products at the rate of each shape, measured now on CPU.

    The faster of a packed and a plain weight counts.
    """
    import torch

    from ehrmind.engines.local.forward.matmul import can_pack, matmul

    total = 0.0
    for weight in weights_of_step(config, rows):
        left, right = _random((rows, weight.inner), dtype, "cpu"), _random((weight.columns, weight.inner), dtype, "cpu")
        ways: list[Callable[[], Any]] = [lambda left=left, right=right: matmul(left, right)]
        if can_pack(narrow=dtype == "bfloat16"):
            packed = torch.ops.mkldnn._reorder_linear_weight(right, rows)
            ways.append(
                lambda left=left, packed=packed: torch.ops.mkldnn._linear_pointwise(left, packed, None, "none", [], "")
            )
        total += weight.times * min(best(way, "cpu", repeats) for way in ways)
    return total


def bytes_of_weights(network: Any, dtype: str) -> int:
    """Counts what a decoding step reads: every weight once, in the type of its products."""
    return sum(parameter.numel() for parameter in network.parameters()) * (2 if dtype == "bfloat16" else 4)


def reading_seconds(size: int, *, repeats: int = 3) -> float:
    """The best time to read so many bytes from memory once."""
    import torch

    numbers = torch.ones(size // 4)
    return best(numbers.amax, "cpu", repeats)


def best(work: Callable[[], Any], device: str, repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        begun = now(device)
        work()
        seconds.append(now(device) - begun)
    return min(seconds)


def _random(shape: tuple[int, int], dtype: str, device: str) -> Any:
    import torch

    return torch.randn(shape, device=device).to(getattr(torch, dtype))


def decoding(engine: Any, case: Case, dtype: str, *, rounds: int = 3, steps: int = 3) -> dict[str, Any]:
    """A decoding step at 64, 32 and 16 rows against its floor, by rows; milliseconds.

    Rows are groups of 8 answers to prompts of the case's length; a step includes the drawing of its
    tokens. In each round some steps are timed, then the two limits; medians over rounds.
    """
    import numpy as np
    import torch

    from ehrmind.config import Decoding
    from ehrmind.engines.local.sampling.decoder import Decoder
    from ehrmind.engines.local.sampling.plain_layers import rollout_weights
    from ehrmind.engines.local.sampling.sampler import draw

    config, size = engine.network.config, bytes_of_weights(engine.network, dtype)
    prompts = [prompt_ids(number, case.length, config.vocab_size) for number in range(DECODED_ROWS[0] // DECODED_GROUP)]
    found: dict[str, Any] = {}
    with torch.inference_mode(), engine.autocast(), rollout_weights(engine.network):
        decoder = Decoder(engine.network, len(prompts), DECODED_GROUP, case.length)
        tokens = draw(
            decoder.admit(prompts).repeat_interleave(DECODED_GROUP, 0), Decoding(), _uniforms(DECODED_ROWS[0])
        )[0]
        for rows in DECODED_ROWS:
            gone = np.arange(len(tokens)) >= rows
            if gone.any():
                tokens = tokens[torch.from_numpy(decoder.drop(gone))]
            tokens = draw(decoder.step(tokens), Decoding(), _uniforms(rows))[0]
            took, reading, products = [], [], []
            for _ in range(rounds):
                for _ in range(steps):
                    begun = now("cpu")
                    tokens = draw(decoder.step(tokens), Decoding(), _uniforms(rows))[0]
                    took.append(now("cpu") - begun)
                reading.append(reading_seconds(size))
                products.append(step_seconds(config, rows, dtype))
            step, read, product = (statistics.median(seconds) * 1e3 for seconds in (took, reading, products))
            found[str(rows)] = {
                "step_ms": step,
                "read_ms": read,
                "products_ms": product,
                "ratio": step / max(read, product),
            }
    return found


def _uniforms(rows: int) -> Any:
    import numpy as np

    return np.linspace(0.01, 0.99, rows)


def decoding_rows(case: Case, dtype: str, decoded: dict[str, Any]) -> list[str]:
    return [
        f"| {case} | {dtype} | {rows} | {one['step_ms']:.1f} ms | {one['read_ms']:.1f} ms |"
        f" {one['products_ms']:.1f} ms | **{one['ratio']:.1f}** |"
        for rows, one in reversed(decoded.items())
    ]
