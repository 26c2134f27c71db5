"""The case generator at scale: how fast it is on one core, whether the verifier proves every case,
whether splits share a note.

python benchmarks/synthetic_cases.py [--each 1000] [--difficulty medium]
"""

from __future__ import annotations

import argparse
import os
import time

from ehrmind.calculators import CALCULATORS
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.verify.audit import check_cases


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--each", type=int, default=1000, help="cases of every calculator")
    arguments.add_argument(
        "--difficulty", choices=["easy", "medium", "hard"], nargs="+", default=["easy", "medium", "hard"]
    )
    given = arguments.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    synthetic_cases(55, 0, "train")  # units and patterns are read once
    print(
        "| difficulty | 10,000 cases in | cases checked | gold right | corruptions right | notes shared by three"
        " splits |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for difficulty in given.difficulty:
        started = time.perf_counter()
        synthetic_cases(10_000, 1, "train", difficulty=difficulty)
        seconds = time.perf_counter() - started
        count = given.each * len(CALCULATORS)
        report = check_cases(synthetic_cases(count, 2, "train", difficulty=difficulty))
        notes = [
            {case.group for case in synthetic_cases(count, seed, "train", difficulty=difficulty)} for seed in (1, 2, 3)
        ]
        shared = sum(map(len, notes)) - len(set.union(*notes))
        row = (difficulty, f"{seconds:.1f} s", f"{report.gold.total:,}", f"{report.gold.passed:,}")
        print(f"| {' | '.join(row)} | {report.corrupted.passed} of {report.corrupted.total:,} | {shared} |")


if __name__ == "__main__":
    main()
