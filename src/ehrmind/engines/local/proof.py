"""The proof that a model on disk is the one in memory: it is opened as `transformers` opens it, its weights are compared bit by bit, and
its log-probabilities of a few tokens with those that memory gives.

A second copy of the weights is made on the CPU, where there is room for one. Elsewhere the files are compared with memory a tensor at a
time, and no log-probabilities are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import safe_open
from torch import Tensor

from ehrmind.types import InputError

ROWS, TOKENS = 4, 24  # of the tokens that are tried
ROOM = 1.3  # times the files' size: weights, and what opening them takes beside
# Nats; fp32 at the most, narrower types on average, because they round on every way and merged adapters are rounded once more
TOLERANCE, NARROW_TOLERANCE = 1e-3, 0.1


def tried_tokens(tokenizer: Any, vocabulary: int) -> Tensor:
    """[ROWS, TOKENS] ids spread over the tokenizer's, its last among them: those that were added stand there."""
    special = set(tokenizer.all_special_ids)
    plain = [token for token in range(min(len(tokenizer), vocabulary)) if token not in special] or [0]
    count = ROWS * TOKENS
    chosen = [plain[place * (len(plain) - 1) // (count - 1)] for place in range(count)]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return torch.tensor(chosen)[order].view(ROWS, TOKENS)


@torch.no_grad()
def logprobs(network: Any, ids: Tensor) -> Tensor:
    """[ROWS, TOKENS − 1] of each token after those before it, by the model's own forward pass without dropout; fp32, on the CPU."""
    training = network.training
    network.eval()
    logits = network(input_ids=ids.to(next(network.parameters()).device), use_cache=False).logits[:, :-1].float()
    network.train(training)
    return torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None].to(logits.device))[..., 0].cpu()


def prove(folder: Path, name: str, weights: Mapping[str, Tensor], wanted: Tensor, ids: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    """Compare what lies in `folder`, to be called `name`, with `weights` by name and `wanted` log-probabilities of `ids`; says what was
    compared. Raises InputError where it is another model."""
    _refuse_odd(name, wanted, "in memory")
    if not is_room(folder):
        return {"proof": "weights", "tensors": _compare_files(folder, name, weights)}
    network = reopened(folder, name, dtype)
    _compare(name, dict(network.state_dict()), weights)
    found = logprobs(network, ids)
    _refuse_odd(name, found, "on disk")
    gap = (found - wanted).abs()
    near = gap.max() <= TOLERANCE if dtype.itemsize >= torch.float32.itemsize else gap.mean() <= NARROW_TOLERANCE
    if not near:
        raise InputError(
            f"The model written as {name} is not the one in memory: log-probabilities differ by {float(gap.max()):.2g} nats, so it was not "
            "kept; this model's kind cannot be saved as it was trained, take another base, or its unquantised original."
        )
    return {"proof": "weights and log-probabilities", "tensors": len(weights), "largest_gap": float(gap.max())}


def reopened(folder: Path, name: str, dtype: torch.dtype) -> Any:
    """The model as `transformers` opens it, on the CPU. Raises InputError where its files do not fit it."""
    from transformers import AutoConfig

    from ehrmind.engines.local.opening import OURS_ALONE, architecture_of

    try:
        architecture = architecture_of(AutoConfig.from_pretrained(folder, **OURS_ALONE), folder)
        network, found = architecture.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **OURS_ALONE
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise InputError(f"The model written as {name} cannot be opened: {' '.join(str(error).split())[:300]}") from None
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found.get(kind):
            first = sorted(map(str, found[kind]))[0]
            raise InputError(f"The model written as {name} is not whole: {len(found[kind])} {kind.replace('_', ' ')}, such as {first}.")
    return network.eval()


def is_room(folder: Path) -> bool:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) * ROOM < psutil.virtual_memory().available


def _refuse_odd(name: str, values: Tensor, where: str) -> None:
    if not values.isfinite().all():
        raise InputError(f"The model for {name} gives numbers that are not finite {where}; train with a lower learning_rate.")


def _compare(name: str, found: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    if found.keys() != weights.keys():
        others = sorted(found.keys() ^ weights.keys())
        raise InputError(f"The model written as {name} has other weights than the one in memory, such as {others[0]}.")
    for key, weight in weights.items():
        if not _same(found[key], weight):
            raise InputError(f"The model written as {name} is not the one in memory: {key} was read back as other numbers.")


def _compare_files(folder: Path, name: str, weights: Mapping[str, Tensor]) -> int:
    """How many tensors have their names in memory and were compared: experts that memory joins lie apart on disk."""
    compared = 0
    for key, tensor in _tensors(folder):
        if key in weights:
            compared += 1
            if not _same(tensor, weights[key]):
                raise InputError(f"The model written as {name} is not the one in memory: {key} was read back as other numbers.")
    if not compared:
        raise InputError(f"The model written as {name} shares no weight with the one in memory.")
    return compared


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  # no mapping
                yield key, tensors.get_tensor(key)


def _same(found: Tensor, weight: Tensor) -> bool:
    return found.dtype == weight.dtype and found.shape == weight.shape and torch.equal(found, weight.to(found.device))
