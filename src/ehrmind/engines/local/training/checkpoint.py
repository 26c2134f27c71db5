"""Checkpoints: safetensors and JSON, written to a sibling folder and renamed, so that none is ever
partial.

They do not depend on the number of workers nor on how weights are sharded, so that other workers
can resume from one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ehrmind.engines.local.training.masters import Trained
from ehrmind.engines.local.workers.fsdp import full_tensor_of, sharded_like
from ehrmind.files import written_whole
from ehrmind.world import current

WEIGHT, OPTIMISER, RANDOM = "weight/", "optimiser/", "random/"


def save_checkpoint(
    folder: Path, trained: Trained, optimiser: torch.optim.Optimizer, progress: Mapping[str, Any]
) -> None:
    """Writes master weights, optimiser state, random state and `progress` (JSON), all or nothing,
    on the first worker.
    """
    masters = dict(zip(trained.names, trained.masters, strict=True))
    tensors: dict[str, Tensor] = {WEIGHT + name: full_tensor_of(master) for name, master in masters.items()}
    names = {master: name for name, master in masters.items()}
    for master, state in optimiser.state.items():
        tensors |= {f"{OPTIMISER}{names[master]}/{key}": full_tensor_of(value) for key, value in state.items()}
    tensors[RANDOM + "cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state()

    def write() -> None:
        with written_whole(folder, private=True) as partial:
            save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, partial / "state.safetensors")
            (partial / "progress.json").write_text(json.dumps(dict(progress)), encoding="utf-8")

    current().from_first(write)


def load_checkpoint(folder: Path, trained: Trained, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Restores a checkpoint's state and returns its progress."""
    tensors = load_file(folder / "state.safetensors")
    for name, master in zip(trained.names, trained.masters, strict=True):
        with torch.no_grad():
            master.copy_(sharded_like(tensors[WEIGHT + name], master))
        prefix = f"{OPTIMISER}{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            steps_at = master.device if optimiser.defaults["fused"] else "cpu"
            optimiser.state[master] = {
                key: value.to(steps_at) if key == "step" else sharded_like(value, master)
                for key, value in state.items()
            }
    trained.show()
    torch.set_rng_state(tensors[RANDOM + "cpu"])
    if RANDOM + "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[RANDOM + "cuda"])
    progress: dict[str, Any] = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    return progress
