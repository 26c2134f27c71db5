"""TRL's settings that a benchmark tries: what there is to choose, and what fits into memory."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from _models import Case

OTHERS = 4 << 30  # bytes that the other sides keep while TRL makes its step


class Settings(NamedTuple):
    """TRL's: answers in a micro-batch, the cache of its generation, torch.compile in training."""

    microbatch: int
    cache: str | None = None
    compiled: bool = False

    def __str__(self) -> str:
        return ",".join([str(self.microbatch), self.cache or "dynamic", *["compile"] * self.compiled])


SEARCHED = [
    *(Settings(answers) for answers in (64, 16, 12, 8, 4, 2, 1)),
    *(Settings(answers, "static") for answers in (8, 4, 2, 1)),
]


def found_before(case: Case) -> Settings:
    """The fastest that `--search` found for the three cases. The static cache fails under autocast;
    on CUDA it was no faster on a small model and was not tried on the large one."""
    return Settings(4) if case.device == "cuda" else Settings(4 if case.length <= 512 else 2, "static")


def settings_from(text: str) -> Settings:
    """Reads `4`, `4,static` or `4,dynamic,compile`."""
    answers, *rest = text.split(",")
    unknown = set(rest) - {"static", "dynamic", "compile"}
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return Settings(int(answers), "static" if "static" in rest else None, "compile" in rest)


def memory_of_trl(config: Any, parameters: int, case: Case, settings: Settings) -> float:
    """Estimates bytes of TRL's step in fp32: weights, gradients, two moments, what its layers keep
    of a micro-batch for the backward pass, and the rollout's keys and values with their copy."""
    layer = 10 * config["hidden_size"] + 8 * config["hidden_size"] + 5.5 * config["intermediate_size"]
    kept = settings.microbatch * (case.length + case.new) * config["num_hidden_layers"] * layer
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    keys = 2 * config.get("num_key_value_heads", config["num_attention_heads"]) * width * config["num_hidden_layers"]
    cached = 2 * case.prompts * case.members * (case.length + case.new) * keys
    return 4 * (4 * parameters + max(kept, cached))


def candidates(folder: Path, case: Case, dtype: str, free: float) -> list[Settings]:
    """TRL's settings that divide the step and fit into `free` bytes; what is left out goes to
    standard error."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parameters = sum(file.stat().st_size for file in folder.glob("*.safetensors")) // 4
    kept = []
    for settings in SEARCHED:
        if (case.prompts * case.members) % settings.microbatch or (settings.cache and dtype == "bfloat16"):
            continue
        needs = memory_of_trl(config, parameters, case, settings)
        if needs > free - OTHERS:
            print(f"{case} {dtype} trl {settings}: needs {needs / 2**30:.0f} GiB", file=sys.stderr, flush=True)
            continue
        kept.append(settings)
    return kept
