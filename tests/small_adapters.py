"""A small adapter as peft saves one, for the models of `tests/small_models.py` that have two layers
of width 32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def lora(folder: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    asked = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 2,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "../model",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**asked, **more}))
    shapes = {"A": (2, 32), "B": (32, 2)}
    place = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    tensors = {place.format(layer, side): torch.zeros(shape) for layer in range(2) for side, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
