"""The memory estimate against the measured peak of the same work, each case in a process of its own.

    python benchmarks/memory.py

The work is that of a run: greedy answers to `sampler_rows` prompts, a supervised step, a policy step. The peak is the
process's highest resident memory less what it held before the model was opened.
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

PROMPT, NEW_TOKENS, MEMBERS = 960, 64, 4
# name, layers, width, what the recipe changes
CASES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("64 M, activations", 8, 768, {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.0}}),
    ("64 M, autocast", 8, 768, {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.0}, "model": {"autocast": True}}),
    ("169 M, reference", 12, 1024, {"rlvr": {"tokens_per_microbatch": 4096, "kl": 0.01}}),
    ("169 M, two shards", 12, 1024, {"shards": 2, "rlvr": {"tokens_per_microbatch": 2048, "kl": 0.01}}),
    ("169 M, checkpointing", 12, 1024, {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.01, "gradient_checkpointing": True}}),
]


def measure(layers: int, width: int, changes: dict[str, Any]) -> dict[str, Any]:
    import psutil
    import torch
    from _models import groups_of, prompt_ids, write_model

    from ehrmind.config import parse_recipe
    from ehrmind.engines.local.engine import open_engine
    from ehrmind.engines.local.learner import LocalLearner  # noqa: F401  # before the level that counts
    from ehrmind.engines.local.memory import estimate, shape_of
    from ehrmind.types import Completion, Prompt, Segment

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_model(Path(scratch) / "warm", layers=1, width=64)
        warm = Path(scratch) / "warm"
        subprocess.run([sys.executable, __file__, "--write", str(folder), str(layers), str(width)], check=True)
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
        recipe = parse_recipe(tree)
        open_engine(recipe.model, warm, rows=4)
        before = psutil.Process().memory_info().rss
        shape = shape_of(folder, recipe.model)
        assert shape is not None
        found = estimate(shape, recipe)
        engine = open_engine(recipe.model, folder, rows=recipe.sampler_rows, tokens=recipe.sampler_tokens, shards=recipe.shards)
        engine.stop_ids = frozenset()
        asked = [Prompt(tuple(prompt_ids(number, PROMPT))) for number in range(8)]
        engine.sample(asked, list(range(8)), 1, recipe.decoding)
        pairs = [(prompt, tuple(prompt_ids(50, NEW_TOKENS))) for prompt in asked[:4]]
        engine.learner(recipe.warmup, 1).learn_from_responses(pairs)
        learner = engine.learner(recipe.rlvr, 2, rlvr=recipe.rlvr, decoding=recipe.decoding)
        one = Completion((Segment("assistant", tuple(prompt_ids(60, NEW_TOKENS)), (0.0,) * NEW_TOKENS),), "length", "")
        for _ in range(2):
            learner.learn_from_groups(groups_of(asked, [[one] * MEMBERS for _ in asked], MEMBERS))
        peak = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
        assert torch.isfinite(next(engine.network.parameters())).all()
    return {"estimate": found.total, "measured": peak - before, "parts": str(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        from _models import write_model

        write_model(Path(given.write[0]), layers=int(given.write[1]), width=int(given.write[2]))
        return
    if given.one:
        print(json.dumps(measure(*json.loads(given.one))), flush=True)
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {versions}\n")
    print("| case | estimate | measured peak | estimate above it | the estimate's parts |\n| --- | --- | --- | --- | --- |")
    for name, layers, width, changes in CASES:
        done = subprocess.run([sys.executable, __file__, "--one", json.dumps([layers, width, changes])], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        found = json.loads(done.stdout.splitlines()[-1])
        above = found["estimate"] / found["measured"] - 1
        sizes = f"{found['estimate'] / 2**30:.2f} GiB | {found['measured'] / 2**30:.2f} GiB"
        print(f"| {name} | {sizes} | {above:+.0%} | {found['parts']} |", flush=True)


if __name__ == "__main__":
    main()
