"""The demo under several seeds, each with its own synthetic cases, pilot, order and samples; the
base model is the one that ships.

    python benchmarks/demo_seeds.py --seeds 0 1 2 --out runs/demo-seeds

Prints the four arms' greedy and sampled accuracy on held-out cases, the gain of SFT + RLVR over
SFT, what RLVR alone reaches where the pilot saw no right answer, seconds and peak memory. A run
that was stopped resumes; one that is finished is only read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ehrmind.runs import Run
from ehrmind.runs.records import Comparison, Diagnosis, Results
from ehrmind.statistics import wilson

ROOT = Path(__file__).resolve().parents[1]
MEASURE = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[2:]); "
    "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; "
    "open(sys.argv[1], 'w').write(str(peak)); sys.exit(code)"
)
TIMED = (sys.executable, "-c", MEASURE)
PAIR = "sft_rlvr-sft"


@dataclass(frozen=True)
class Finished:
    """A finished demo: both decodings, the strata without a right pilot answer, and RLVR there."""

    greedy: Comparison
    sampled: Comparison
    unseen: list[str]
    right: int
    n: int
    seconds: float
    gigabytes: float


def demo(seed: int, out: Path, changes: Iterable[str]) -> Path:
    """Run or resume the demo under one seed; its run folder."""
    run = out / f"seed-{seed}"
    if not (run / "results.json").is_file():
        own = [
            f"data.{split}.synthetic.seed={3 * seed + place}"
            for place, split in enumerate(("train", "tuning", "held_out"), start=1)
        ]
        command = [sys.executable, "-m", "ehrmind.cli", "run", str(ROOT / "recipes" / "demo.yaml"), "--out", str(run)]
        out.mkdir(parents=True, exist_ok=True)
        resume = ["--resume"] if run.exists() else []
        subprocess.run(
            [*TIMED, str(out / f"seed-{seed}.kb"), *command, f"seed={seed}", *own, *changes, *resume], check=True
        )
    return run


def figures(run: Path) -> Finished:
    results = Run(run).read_record("results.json", Results)
    pilot = Run(run).read_record("pilot.json", Diagnosis)
    assert results is not None and results.sampled is not None and pilot is not None
    unseen = [stratum for stratum, found in pilot.by_stratum.items() if found.correct == 0]
    alone = [results.arms["rlvr"].by_stratum[stratum] for stratum in unseen]
    memory = run.with_suffix(".kb")
    return Finished(
        greedy=results,
        sampled=results.sampled,
        unseen=[stratum.rsplit("/", 1)[-1] for stratum in unseen],
        right=sum(row.correct for row in alone),
        n=sum(row.n for row in alone),
        seconds=sum(results.seconds.values()),
        gigabytes=int(memory.read_text()) / 1024**2 if memory.is_file() else float("nan"),
    )


def show(seeds: Iterable[int], found: Iterable[Finished]) -> Table:
    table = Table(
        "seed",
        "decoding",
        "base",
        "RLVR only",
        "SFT only",
        "SFT + RLVR",
        "gain over SFT",
        "RLVR only, pass@k 0",
        "minutes",
        "GB",
    )
    for seed, one in zip(seeds, found, strict=True):
        for decoding, view in (("greedy", one.greedy), ("sampled", one.sampled)):
            pair = view.pairs[PAIR]
            shares = [f"{100 * view.arms[arm].accuracy:.1f} %" for arm in ("base", "rlvr", "sft", "sft_rlvr")]
            low, high = (100 * end for end in pair.ci95)
            highest = f"{100 * wilson(one.right, one.n)[1]:.1f} %"
            alone = f"{one.right} of {one.n} (up to {highest}): {', '.join(one.unseen)}" if decoding == "greedy" else ""
            gain = f"{100 * pair.difference:+.1f} ({low:+.1f} to {high:+.1f})"
            table.add_row(str(seed), decoding, *shares, gain, alone, f"{one.seconds / 60:.1f}", f"{one.gigabytes:.1f}")
    return table


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--out", type=Path, default=ROOT / "runs" / "demo-seeds")
    arguments.add_argument("changes", nargs="*", help="overrides of the recipe, key=value")
    given = arguments.parse_args()
    found = [figures(demo(seed, given.out, given.changes)) for seed in given.seeds]
    Console(width=200).print(show(given.seeds, found))


if __name__ == "__main__":
    main()
