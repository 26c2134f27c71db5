"""Verdicts a second on one core, on right answers: they take the longest, since a wrong one is
found out on the way.

python benchmarks/verdicts.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.prompts import gold_response
from ehrmind.types import Case
from ehrmind.verify.judge import judge

SECONDS = 2.0


def rate(pairs: Sequence[tuple[Case, str]]) -> float:
    done, started = 0, time.process_time()
    while (spent := time.process_time() - started) < SECONDS:
        for case, text in pairs:
            judge(case, text)
        done += len(pairs)
    return done / spent


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| family | texts | characters, mean | verdicts a second and core |\n| --- | --- | --- | --- |")
    families = {
        "medical calculation": synthetic_cases(300, seed=0, split="train"),
        "trial matching": synthetic_trials(300, seed=0, split="train"),
    }
    for name, cases in families.items():
        pairs = [(case, gold_response(case)) for case in cases]
        length = sum(len(text) for _, text in pairs) / len(pairs)
        print(f"| {name} | {len(pairs):,} | {length:.0f} | {rate(pairs):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
