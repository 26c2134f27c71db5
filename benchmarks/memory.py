"""The memory estimate against the measured peak of the same work.

    python benchmarks/memory.py [--device cuda]
    python benchmarks/memory.py --shape smollm2-135m [--case rlvr-600-bf16]

The work is that of a run: greedy answers to `sampler_rows` prompts, a supervised step, a policy
step. At a shape, or with a model's directory, each stage is measured by itself: `sampling`,
`warmup` or `rlvr`, 600 or 2,048 tokens of a prompt, fp32 or bf16 autocast. On CPU each case is a
process of its own, and the peak is its highest resident memory less what it held before the model
was opened; on CUDA it is the allocator's.
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
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

NEW_TOKENS = 64
STAGES = ("warmup", "rlvr")


class Case(NamedTuple):
    """A stage or all of them ("run"), on a random model of so many layers and such a width, or on
    the one of the command line.
    """

    name: str
    changes: dict[str, Any]  # of the recipe
    layers: int = 0
    width: int = 0
    stage: str = "run"
    prompt: int = 768  # with 4 answers, groups of 1,024 tokens, of which micro-batches are full
    members: int = 4
    questions: int = 8


CASES = [
    Case("64 M, activations", {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.0}}, 8, 768),
    Case("64 M, autocast", {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.0}, "model": {"autocast": True}}, 8, 768),
    Case("169 M, reference", {"rlvr": {"tokens_per_microbatch": 4096, "kl": 0.01}}, 12, 1024),
    Case("169 M, two shards", {"shards": 2, "rlvr": {"tokens_per_microbatch": 2048, "kl": 0.01}}, 12, 1024),
    Case(
        "169 M, checkpointing",
        {"rlvr": {"tokens_per_microbatch": 8192, "kl": 0.01, "gradient_checkpointing": True}},
        12,
        1024,
    ),
]
OF_A_SHAPE = [
    Case(
        f"{stage}-{prompt}-{'bf16' if autocast else 'fp32'}",
        {"model": {"autocast": autocast}, "rlvr": {"tokens_per_microbatch": 4096, "kl": 0.0}},
        stage=stage,
        prompt=prompt,
        members=8,
        questions=4 if prompt == 600 else 2,  # two micro-batches
    )
    for stage, prompt, autocast in product(("sampling", *STAGES), (600, 2048), (False, True))
]


def recipe_of(folder: Path, case: Case) -> Any:
    from ehrmind.config import parse_recipe

    changes = case.changes
    tree: dict[str, Any] = {
        "data": {split: {"synthetic": {"n": 5, "seed": seed}} for seed, split in enumerate(("train", "held_out"))},
        "model": {"name": str(folder)} | changes.get("model", {}),
        "prompts": {"max_tokens": case.prompt},
        "decoding": {"max_new_tokens": NEW_TOKENS},
        "warmup": {"batch": 4, "tokens_per_microbatch": 2048},
        "rlvr": {"samples": case.members, "questions_per_step": case.questions, "learning_rate": 1e-6}
        | changes["rlvr"],
        "sampler_rows": 8,
        "shards": changes.get("shards", 1),
    }
    return parse_recipe(tree)


def estimate_of(folder: Path, recipe: Any, case: Case) -> Any:
    from ehrmind.engines.local.memory import estimate, shape_of

    shape = shape_of(folder, recipe.model)
    assert shape is not None
    return estimate(shape, recipe, warmup=case.stage in ("run", "warmup"), rlvr=case.stage in ("run", "rlvr"))


def work(recipe: Any, folder: Path, case: Case) -> None:
    """Does what a run, or one of its stages, does on its own model."""
    import torch
    from _models import groups_of, prompt_ids, vocabulary_of

    from ehrmind.engines.local.engine import open_engine
    from ehrmind.types import Completion, Prompt, Segment

    engine = open_engine(
        recipe.model, folder, rows=recipe.sampler_rows, tokens=recipe.sampler_tokens, shards=recipe.shards
    )
    engine.stop_ids = frozenset()
    vocabulary, members = vocabulary_of(folder), case.members
    asked = [Prompt(tuple(prompt_ids(number, case.prompt, vocabulary))) for number in range(8)]
    if case.stage in ("run", "sampling"):
        engine.sample(asked, list(range(8)), 1, recipe.decoding)
    response = tuple(prompt_ids(50, NEW_TOKENS, vocabulary))
    if case.stage in ("run", "warmup"):
        learner = engine.learner(recipe.warmup, 1)
        for prompts in (asked[:1], asked[:4]):  # the optimiser's moments are there from the second step on
            learner.learn_from_responses([(prompt, response) for prompt in prompts])
    if case.stage in ("run", "rlvr"):
        learner = engine.learner(recipe.rlvr, 2, rlvr=recipe.rlvr, decoding=recipe.decoding)
        one = Completion((Segment("assistant", response, (0.0,) * NEW_TOKENS),), "length", "")
        for prompts in (asked[:1], asked[: recipe.rlvr.questions_per_step]):
            learner.learn_from_groups(groups_of(prompts, [[one] * members for _ in prompts], members))
    assert torch.isfinite(next(engine.network.parameters())).all()


def measure(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """On CPU, in a process that does nothing else."""
    import psutil
    from _models import shape_of as size_of
    from _models import write_model

    from ehrmind.engines.local.engine import open_engine
    from ehrmind.engines.local.training.learner import LocalLearner  # noqa: F401  # before the level that counts

    with tempfile.TemporaryDirectory() as scratch:
        folder, warm = given.model or Path(scratch) / "model", Path(scratch) / "warm"
        write_model(warm, size_of(layers=1, width=64))
        if given.model is None:
            size = ["--shape", given.shape] if given.shape else [f"--layers={case.layers}", f"--hidden={case.width}"]
            subprocess.run([sys.executable, __file__, "--write", str(folder), *size], check=True)
        recipe = recipe_of(folder, case)
        open_engine(recipe.model, warm, rows=4)
        before = psutil.Process().memory_info().rss
        found = estimate_of(folder, recipe, case)
        work(recipe, folder, case)
        status = Path("/proc/self/status").read_text().splitlines()
        peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024
    return {"estimate": found.total, "measured": peak - before, "parts": str(found)}


def measure_on_cuda(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """The allocator's maximum, which other work of this process does not change."""
    import gc

    import torch
    from _models import model_in

    with tempfile.TemporaryDirectory() as scratch:
        given.layers, given.hidden = case.layers, case.width
        folder = model_in(Path(scratch), given, device="cuda")
        of_model = {"device": "cuda", **case.changes.get("model", {})}
        recipe = recipe_of(folder, case._replace(changes=case.changes | {"model": of_model}))
        found = estimate_of(folder, recipe, case)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work(recipe, folder, case)
    return {"estimate": found.total, "measured": torch.cuda.max_memory_allocated(), "parts": str(found)}


def apart(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a process of its own."""
    of_model = ["--shape", given.shape] * bool(given.shape) + ["--model", str(given.model)] * bool(given.model)
    done = subprocess.run(
        [sys.executable, __file__, *of_model, "--one", json.dumps(case)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    from _models import add_shape, model_in

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shape(parser)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", action="append", metavar="rlvr-600-bf16", help="only the cases whose name has this")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        model_in(given.write.parent, given)
        return
    if given.one:
        print(json.dumps(measure(Case(*json.loads(given.one)), given)), flush=True)
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {versions}\n")
    print(
        "| case | estimate | measured peak | estimate above it | the estimate's parts |\n| --- | --- | --- | --- |"
        " --- |"
    )
    for case in OF_A_SHAPE if given.shape or given.model else CASES:
        if given.case and not any(part in case.name for part in given.case):
            continue
        found = measure_on_cuda(case, given) if given.device == "cuda" else apart(case, given)
        above = found["estimate"] / found["measured"] - 1
        sizes = f"{found['estimate'] / 2**30:.2f} GiB | {found['measured'] / 2**30:.2f} GiB"
        print(f"| {case.name} | {sizes} | {above:+.0%} | {found['parts']} |", flush=True)


if __name__ == "__main__":
    main()
