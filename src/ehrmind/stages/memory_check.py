"""Memory check before a run: an estimate for each worker, and a refusal if the run cannot fit. Also
warns of bf16 on a processor that computes it in software."""

from __future__ import annotations

import sys
from pathlib import Path

from ehrmind.config import Recipe
from ehrmind.runs import Run
from ehrmind.stages.models import STARTS_FROM, models_of
from ehrmind.world import current, workers_here

SLOW_BF16 = (
    "slow: this processor computes bf16 in software, several times slower than float32; set model.autocast=false and "
    "model.dtype=float32\n"
)


def check_memory(run: Run, recipe: Recipe, folder: Path, wanted: tuple[str, ...]) -> None:
    """Prints what the coming stages need of each worker, and refuses a run that cannot fit. Skips
    finished runs and models whose configuration is unknown."""
    from ehrmind.engines.local.forward.matmul import BF16, ONEDNN
    from ehrmind.engines.local.memory import estimate, memory_of, refuse_what_cannot_fit, shape_of

    shape, world = shape_of(folder, recipe.model), current()
    if shape is None or run.read_json("results.json") is not None:
        return
    models = models_of(recipe)
    warms = "warmup" in wanted and bool({"sft", "sft_rlvr"} & models) and run.done("warmup") is None
    reinforces = "rlvr" in wanted and any(arm in models and run.done(f"rlvr-{arm}") is None for arm in STARTS_FROM)
    found = estimate(shape, recipe, warmup=warms, rlvr=reinforces, workers=world.size)
    available = min(world.gather(memory_of(shape.device) // (workers_here() if shape.device == "cpu" else 1)))
    who = f", every one of {world.size} workers" if world.size > 1 else ""
    if world.first:
        sys.stderr.write(
            f"memory (estimate{who}): {found}; the {shape.device} has {available / 2**30:.1f} GiB for it\n"
        )
        asks_bf16 = recipe.model.autocast or recipe.model.dtype == "bfloat16"
        if asks_bf16 and shape.device == "cpu" and ONEDNN and not BF16:  # without oneDNN it is not known
            sys.stderr.write(SLOW_BF16)
    refuse_what_cannot_fit(found, recipe, available)
