"""Checkpoints: safetensors and JSON only, written to a sibling folder and renamed, so that there is never half of one. They are the same
however many workers there are and whatever is cut among them, so that others may go on with one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ehrmind.engines.local.fsdp import cut_as, joined_up
from ehrmind.engines.local.trained import Trained
from ehrmind.files import written_whole
from ehrmind.world import current

WEIGHT, OPTIMISER, RANDOM = "weight/", "optimiser/", "random/"


def save_checkpoint(
    folder: Path, trained: Trained, optimiser: torch.optim.Optimizer, progress: Mapping[str, Any]
) -> None:
    """Master weights, optimiser state, random state and `progress` (JSON), all or nothing, by the first worker."""
    masters = dict(zip(trained.names, trained.masters, strict=True))
    tensors: dict[str, Tensor] = {WEIGHT + name: joined_up(master) for name, master in masters.items()}
    names = {master: name for name, master in masters.items()}
    for master, state in optimiser.state.items():
        tensors |= {f"{OPTIMISER}{names[master]}/{key}": joined_up(value) for key, value in state.items()}
    tensors[RANDOM + "cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state()

    def write() -> None:
        with written_whole(folder, private=True) as partial:
            save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, partial / "state.safetensors")
            (partial / "progress.json").write_text(json.dumps(dict(progress)), encoding="utf-8")

    current().from_first(write)


def load_checkpoint(folder: Path, trained: Trained, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's state in place and return its progress."""
    tensors = load_file(folder / "state.safetensors")
    for name, master in zip(trained.names, trained.masters, strict=True):
        with torch.no_grad():
            master.copy_(cut_as(tensors[WEIGHT + name], master))
        prefix = f"{OPTIMISER}{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            steps_at = master.device if optimiser.defaults["fused"] else "cpu"
            optimiser.state[master] = {
                key: value.to(steps_at) if key == "step" else cut_as(value, master) for key, value in state.items()
            }
    trained.show()
    torch.set_rng_state(tensors[RANDOM + "cpu"])
    if RANDOM + "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[RANDOM + "cuda"])
    progress: dict[str, Any] = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    return progress
