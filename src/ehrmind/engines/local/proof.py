"""The proof that a model on disk is the one in memory: it is opened as `transformers` opens it, its weights are compared bit by bit, and
its log-probabilities of a few tokens with those that memory gives.

A second copy of the weights is made on the CPU, where there is room for one. Elsewhere the files are compared with memory a tensor at a
time, and no log-probabilities are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from ehrmind.types import InputError

ROWS, TOKENS = 4, 24  # of the tokens that are tried
ROOM = 1.3  # times the files' size: weights, and what opening them takes as well
# In standard deviations of what is compared, and in nats where those are less than one; fp32 at the most, on a GPU more loosely, and
# narrower types on average, because they round on every way and merged adapters are rounded once more
TOLERANCE, TOLERANCE_OF_GPU, NARROW_TOLERANCE = 1e-3, 1e-2, 0.1


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


class Memory(NamedTuple):
    """The model in memory: its weights by name, and the log-probabilities `wanted` that it gives of `ids`."""

    network: Any
    weights: Mapping[str, Tensor]
    wanted: Tensor
    ids: Tensor
    dtype: torch.dtype


def prove(folder: Path, name: str, memory: Memory) -> dict[str, Any]:
    """Compare what lies in `folder`, to be called `name`, with memory; says what was compared. Raises InputError where it is another
    model."""
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
            f"The model written as {name} is not the one in memory: log-probabilities differ by {float(gap.max()):.2g} nats, so it was not "
            "kept; this kind of model cannot be saved as it was trained, so take another base."
        )
    return {"proof": "weights and log-probabilities", "tensors": len(found), "largest_gap": float(gap.max())}


def reopened(folder: Path, name: str, dtype: torch.dtype) -> Any:
    """The model as `transformers` opens it, on the CPU. Raises InputError where its files do not fit it."""
    from ehrmind.engines.local.gate import admit_model, short
    from ehrmind.engines.local.opening import OURS_ALONE, architecture_of, opened_config

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
    except Exception as error:  # noqa: BLE001 - whatever a library makes of it
        raise InputError(f"The model written as {name} cannot be opened: {short(error)}.") from None
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found.get(kind):
            first = sorted(map(str, found[kind]))[0]
            raise InputError(
                f"The model written as {name} is not whole: {len(found[kind])} {kind.replace('_', ' ')}, such as {first}."
            )
    return network.eval()


def is_room(folder: Path) -> bool:
    """Tells whether the model's weights fit into the memory that is free."""
    from ehrmind.engines.local.memory import free_memory

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
    """Compares one tensor at a time, by the names under which `save_pretrained` writes them;
    returns how many. Of tied ones a file holds one."""
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
