"""Coded histories at scale: a synthetic MEDS data set becomes Cases, and every Case's history is
cut and rendered to its prompt.

    python benchmarks/histories.py --subjects 162 1617 6739

Each event counts once, however many Cases look at it. The data set is made first and not timed;
every size runs in a process of its own, so that its peak memory is its own. The last size is
EHRSHOT's: 6,739 subjects, 41.7 million events, 10 labels a subject.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ehrmind.config import EhrFiles, History
from ehrmind.data.ehr import read_ehr
from ehrmind.data.synthetic.cohort import write_cohort
from ehrmind.prompts import messages
from ehrmind.prompts.records import with_histories

TASK = "next_creatinine_high"


def measured(folder: Path) -> dict[str, float]:
    """Cases and prompts of one data set; seconds, and this process's peak memory in GB."""
    started = time.perf_counter()
    cases, _ = read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / TASK))
    made = time.perf_counter()
    filled, counts = with_histories(cases, History())
    written = sum(len(messages(case)[0].content) for case in filled)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "cases": len(cases),
        "cases_s": made - started,
        "prompts_s": done - made,
        "gb": peak,
        "characters": written,
        "cut": float(counts["findings_cut"]),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--subjects", type=int, nargs="+", default=[162, 1617, 6739])
    arguments.add_argument("--events", type=int, default=6930, help="events a subject, about")
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure)))
        return
    print(
        "| subjects | events | cases | to Cases, s | to prompts, s | million events/s | peak GB | characters a prompt |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for subjects in given.subjects:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            events = write_cohort(folder, subjects, events_per_subject=given.events)["events"]
            command = [sys.executable, __file__, "--measure", str(folder)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rate = events / (found["cases_s"] + found["prompts_s"]) / 1e6
            per = f"{found['characters'] / max(1, found['cases']):,.0f}"
            print(
                f"| {subjects:,} | {events:,} | {found['cases']:,.0f} | {found['cases_s']:.1f} |"
                f" {found['prompts_s']:.1f} | {rate:.2f} | {found['gb']:.2f} | {per} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
