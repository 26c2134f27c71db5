"""Proves that a model on disk is the one in memory.

The directory is opened as `transformers` opens it. Weights are compared bit by bit, and
log-probabilities of a few tokens with those of the model in memory. This makes a second copy of the
weights on the CPU. If there is no room for one, files are compared with memory tensor by tensor,
and log-probabilities are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from ehrmind.engines import Proof
from ehrmind.engines.local.memory import free_memory
from ehrmind.engines.local.opening.config import OURS_ALONE, architecture_of, opened_config
from ehrmind.engines.local.opening.gate import admit_model, short
from ehrmind.types import InputError

ROWS, TOKENS = 4, 24  # of the sequences that are scored
ROOM = 1.3  # times the files' size: weights and what opening them takes
# In standard deviations of the log-probabilities, or in nats if these are below one. fp32: the
# largest difference, on a GPU more loosely. Narrower types: the mean, because they round
# everywhere, and merged adapters once more.
TOLERANCE, TOLERANCE_OF_GPU, NARROW_TOLERANCE = 1e-3, 1e-2, 0.1


def tried_tokens(tokenizer: Any, vocabulary: int) -> Tensor:
    """Chooses [ROWS, TOKENS] ids from all over the vocabulary, up to its end, where added tokens
    lie.
    """
    special = set(tokenizer.all_special_ids)
    plain = [token for token in range(min(len(tokenizer), vocabulary)) if token not in special] or [0]
    count = ROWS * TOKENS
    chosen = [plain[place * (len(plain) - 1) // (count - 1)] for place in range(count)]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return torch.tensor(chosen)[order].view(ROWS, TOKENS)


@torch.no_grad()
def logprobs(network: Any, ids: Tensor) -> Tensor:
    """Scores each token after those before it by the model's own forward pass: [ROWS, TOKENS − 1],
    fp32, on the CPU.
    """
    training = network.training
    network.eval()
    logits = network(input_ids=ids.to(next(network.parameters()).device), use_cache=False).logits[:, :-1].float()
    network.train(training)
    return torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None].to(logits.device))[..., 0].cpu()


class Memory(NamedTuple):
    """The model in memory: its weights by name, and its log-probabilities `wanted` of `ids`."""

    network: Any
    weights: Mapping[str, Tensor]
    wanted: Tensor
    ids: Tensor
    dtype: torch.dtype


def prove(folder: Path, name: str, memory: Memory) -> Proof:
    """Compares the model in `folder`, to be called `name`, with memory.

    Raises InputError if it is another model.
    """
    _refuse_odd(name, memory.wanted, "in memory")
    if not is_room(folder):
        return {"proof": "weights", "tensors": _compare_files(folder, name, memory)}
    network = reopened(folder, name, memory.dtype)
    found = dict(network.state_dict())
    if others := sorted(found.keys() ^ memory.weights.keys()):
        raise InputError(f"The model written as {name} has other weights than the one in memory, such as {others[0]}.")
    for key, weight in memory.weights.items():
        _refuse_other(name, key, found[key], weight)
    values = logprobs(network, memory.ids)
    _refuse_odd(name, values, "on disk")
    gap = (values - memory.wanted).abs()
    spread = max(1.0, float(memory.wanted.std()))
    wide = TOLERANCE if next(memory.network.parameters()).device.type == "cpu" else TOLERANCE_OF_GPU
    if (
        gap.max() > wide * spread
        if memory.dtype.itemsize >= torch.float32.itemsize
        else gap.mean() > NARROW_TOLERANCE * spread
    ):
        raise InputError(
            f"The model written as {name} is not the one in memory: log-probabilities differ by {float(gap.max()):.2g} "
            "nats, so it was not "
            "kept; this kind of model cannot be saved as it was trained, so take another base."
        )
    return {"proof": "weights and log-probabilities", "tensors": len(found), "largest_gap": float(gap.max())}


def reopened(folder: Path, name: str, dtype: torch.dtype) -> Any:
    """Opens a model as `transformers` does, on the CPU.

    Raises InputError if its files do not fit.
    """
    admit_model(folder)
    try:
        config = opened_config(folder)
        network, found = architecture_of(config, folder).from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **OURS_ALONE,
        )
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - the library can raise anything
        raise InputError(f"The model written as {name} cannot be opened: {short(error)}.") from None
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found.get(kind):
            first = sorted(map(str, found[kind]))[0]
            raise InputError(
                f"The model written as {name} is not whole: {len(found[kind])} {kind.replace('_', ' ')}, such as "
                f"{first}."
            )
    return network.eval()


def is_room(folder: Path) -> bool:
    """Tells whether the model's weights fit into the memory that is free."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) * ROOM < free_memory()


def _refuse_odd(name: str, values: Tensor, where: str) -> None:
    if not values.isfinite().all():
        raise InputError(
            f"The model for {name} gives numbers that are not finite {where}; train with a lower learning_rate."
        )


def _refuse_other(name: str, key: str, found: Tensor, weight: Tensor) -> None:
    if found.dtype != weight.dtype or found.shape != weight.shape or not torch.equal(found, weight.to(found.device)):
        raise InputError(f"The model written as {name} is not the one in memory: {key} was read back as other numbers.")


def _compare_files(folder: Path, name: str, memory: Memory) -> int:
    """Compares tensor by tensor, under the names that `save_pretrained` writes. Returns how many.

    A file holds one of several tied weights.
    """
    from transformers.core_model_loading import revert_weight_conversion

    wanted = revert_weight_conversion(memory.network, dict(memory.weights))
    seen = set()
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  # no mapping
                if key not in wanted:
                    raise InputError(f"The model written as {name} has a weight that memory has not: {key}.")
                _refuse_other(name, key, tensors.get_tensor(key), wanted[key])
                seen.add(key)
    written = {wanted[key].data_ptr() for key in seen}
    if missing := sorted(key for key in wanted.keys() - seen if wanted[key].data_ptr() not in written):
        raise InputError(
            f"The model written as {name} is not whole: {len(missing)} missing keys, such as {missing[0]}."
        )
    return len(seen)
