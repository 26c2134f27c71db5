"""The memory estimate against the measured peak of the same work.

    python benchmarks/memory.py [--device cuda]

The work is that of a run: greedy answers to `sampler_rows` prompts, a supervised step, a policy
step. On CPU each case is a process of its own, and the peak is its highest resident memory less
what it held before the model was opened; on CUDA it is the allocator's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PROMPT, NEW_TOKENS, MEMBERS = 768, 64, 4  # groups of 1,024 tokens, of which micro-batches are full
# name, layers, width, what the recipe changes
CASES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("64 M, activations", 8, 768, {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.0}}),
    ("64 M, autocast", 8, 768, {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.0}, "model": {"autocast": True}}),
    ("169 M, reference", 12, 1024, {"rlvr": {"tokens_per_microbatch": 4096, "kl": 0.01}}),
    ("169 M, two shards", 12, 1024, {"shards": 2, "rlvr": {"tokens_per_microbatch": 2048, "kl": 0.01}}),
    (
        "169 M, checkpointing",
        12,
        1024,
        {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.01, "gradient_checkpointing": True}},
    ),
]


def recipe_of(folder: Path, changes: dict[str, Any]) -> Any:
    from ehrmind.config import parse_recipe

    tree: dict[str, Any] = {
        "data": {split: {"synthetic": {"n": 5, "seed": seed}} for seed, split in enumerate(("train", "held_out"))},
        "model": {"name": str(folder)} | changes.get("model", {}),
        "prompts": {"max_tokens": PROMPT},
        "decoding": {"max_new_tokens": NEW_TOKENS},
        "warmup": {"batch": 4, "tokens_per_microbatch": 2048},
        "rlvr": {"samples": MEMBERS, "questions_per_step": 8, "learning_rate": 1e-6} | changes["rlvr"],
        "sampler_rows": 8,
        "shards": changes.get("shards", 1),
    }
    return parse_recipe(tree)


def work(recipe: Any, folder: Path) -> None:
    """Does what a run does, on its own model."""
    import torch
    from _models import groups_of, prompt_ids

    from ehrmind.engines.local.engine import open_engine
    from ehrmind.types import Completion, Prompt, Segment

    engine = open_engine(
        recipe.model, folder, rows=recipe.sampler_rows, tokens=recipe.sampler_tokens, shards=recipe.shards
    )
    engine.stop_ids = frozenset()
    asked = [Prompt(tuple(prompt_ids(number, PROMPT))) for number in range(8)]
    engine.sample(asked, list(range(8)), 1, recipe.decoding)
    pairs = [(prompt, tuple(prompt_ids(50, NEW_TOKENS))) for prompt in asked[:4]]
    engine.learner(recipe.warmup, 1).learn_from_responses(pairs)
    learner = engine.learner(recipe.rlvr, 2, rlvr=recipe.rlvr, decoding=recipe.decoding)
    one = Completion((Segment("assistant", tuple(prompt_ids(60, NEW_TOKENS)), (0.0,) * NEW_TOKENS),), "length", "")
    for _ in range(2):
        learner.learn_from_groups(groups_of(asked, [[one] * MEMBERS for _ in asked], MEMBERS))
    assert torch.isfinite(next(engine.network.parameters())).all()


def measure(layers: int, width: int, changes: dict[str, Any]) -> dict[str, Any]:
    """On CPU, in a process that does nothing else."""
    import psutil
    from _models import shape_of as size_of
    from _models import write_model

    from ehrmind.engines.local.engine import open_engine
    from ehrmind.engines.local.memory import estimate, shape_of
    from ehrmind.engines.local.training.learner import LocalLearner  # noqa: F401  # before the level that counts

    with tempfile.TemporaryDirectory() as scratch:
        folder, warm = Path(scratch) / "model", Path(scratch) / "warm"
        write_model(warm, size_of(layers=1, width=64))
        subprocess.run([sys.executable, __file__, "--write", str(folder), str(layers), str(width)], check=True)
        recipe = recipe_of(folder, changes)
        open_engine(recipe.model, warm, rows=4)
        before = psutil.Process().memory_info().rss
        shape = shape_of(folder, recipe.model)
        assert shape is not None
        found = estimate(shape, recipe)
        work(recipe, folder)
        peak = (
            int(
                next(
                    line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
                ).split()[1]
            )
            * 1024
        )
    return {"estimate": found.total, "measured": peak - before, "parts": str(found)}


def measure_on_cuda(layers: int, width: int, changes: dict[str, Any]) -> dict[str, Any]:
    """The allocator's maximum, which other work of this process does not change."""
    import gc

    import torch
    from _models import shape_of as size_of
    from _models import write_model

    from ehrmind.engines.local.memory import estimate, shape_of

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_model(folder, size_of(layers, width), device="cuda")
        recipe = recipe_of(folder, changes | {"model": {"device": "cuda", **changes.get("model", {})}})
        shape = shape_of(folder, recipe.model)
        assert shape is not None
        found = estimate(shape, recipe)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work(recipe, folder)
    return {"estimate": found.total, "measured": torch.cuda.max_memory_allocated(), "parts": str(found)}


def apart(*case: Any) -> dict[str, Any]:
    """`measure` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(case)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        from _models import shape_of, write_model

        write_model(Path(given.write[0]), shape_of(int(given.write[1]), int(given.write[2])))
        return
    if given.one:
        print(json.dumps(measure(*json.loads(given.one))), flush=True)
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {versions}\n")
    print(
        "| case | estimate | measured peak | estimate above it | the estimate's parts |\n| --- | --- | --- | --- |"
        " --- |"
    )
    for name, layers, width, changes in CASES:
        found = measure_on_cuda(layers, width, changes) if given.device == "cuda" else apart(layers, width, changes)
        above = found["estimate"] / found["measured"] - 1
        sizes = f"{found['estimate'] / 2**30:.2f} GiB | {found['measured'] / 2**30:.2f} GiB"
        print(f"| {name} | {sizes} | {above:+.0%} | {found['parts']} |", flush=True)


if __name__ == "__main__":
    main()
