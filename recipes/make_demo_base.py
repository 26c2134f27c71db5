"""Makes the demo's base models: small Llama-shaped ones that know a few things, misapply them, and
lack others.

    python recipes/make_demo_base.py scores --out recipes/demo_base
    python recipes/make_demo_base.py records --out build/records --steps 2400 --rate 3e-3
    python recipes/make_demo_base.py habits --start build/records --out recipes/demo_records \\
        --steps 200 --rate 1e-3

What each reads, and what it never reads, stands in `reading_scores.py`, `reading_records.py` and
`reading_habits.py`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import reading_habits
import reading_records
import reading_scores
import torch

from ehrmind.config import Model, Optimiser, TinyModel
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.tiny import build_tiny

READINGS = {"scores": reading_scores, "records": reading_records, "habits": reading_habits}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("reading", choices=list(READINGS))
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--start", type=Path, help="a model to go on from, instead of random weights")
    arguments.add_argument("--steps", type=int, default=1600)
    arguments.add_argument("--batch", type=int, default=24, help="readings a step")
    arguments.add_argument("--hidden", type=int, default=128)
    arguments.add_argument("--layers", type=int, default=4)
    arguments.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    given = arguments.parse_args()
    torch.manual_seed(0)
    shape = TinyModel(hidden=given.hidden, layers=given.layers, vocabulary=768, context=1024)
    read = READINGS[given.reading]
    if given.start is not None:
        shutil.copytree(given.start, given.out, dirs_exist_ok=True)
    else:
        build_tiny(shape, read.text(), given.out, seed=0)
    engine = open_engine(Model(name=str(given.out)), given.out, rows=512)
    learner = engine.learner(
        Optimiser(
            learning_rate=given.rate, warmup_share=0.05, final_share=0.02, weight_decay=0.01, tokens_per_microbatch=2048
        ),
        given.steps,
    )
    reading = read.reader(engine)
    started = time.monotonic()
    for step in range(given.steps):
        examples = [pair for index in range(step * given.batch, (step + 1) * given.batch) for pair in reading(index)]
        metrics = learner.learn_from_responses(examples)
        if step % 50 == 0 or step + 1 == given.steps:
            sys.stderr.write(f"step {step} loss {metrics['loss']:.4f} {time.monotonic() - started:.0f} s\n")
        if step % 300 == 299:
            engine.save(given.out)
    engine.save(given.out)


if __name__ == "__main__":
    main()
