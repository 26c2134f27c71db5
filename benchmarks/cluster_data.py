"""Files to Cases, here and by Ray Data on a local cluster: the same bytes, and how long both take.

    python benchmarks/cluster_data.py                 # a synthetic MEDS data set, 5 million events
    python benchmarks/cluster_data.py --data FOLDER   # and the development data

The development data are synthea-meds, medcalc-bench and trec-clinical-trials.

Ray Data reads twice: the first time its workers start and import what they need.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ehrmind.cluster.data import each_on_ray
from ehrmind.cluster.joined import joined
from ehrmind.config import Cluster, EhrFiles, TrialFiles
from ehrmind.data import save_cases
from ehrmind.data.cases import Counts
from ehrmind.data.ehr import read_ehr
from ehrmind.data.map_files import done_by
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.synthetic.cohort import write_cohort
from ehrmind.data.trec import read_trials
from ehrmind.types import Case

Reader = Callable[[], tuple[list[Case], Counts]]


def readers(synthetic: Path, data: Path | None) -> dict[str, Reader]:
    """Returns the readers by name."""
    found: dict[str, Reader] = {}
    if data is not None:
        medcalc, trec = data / "medcalc-bench", data / "trec-clinical-trials"
        for labels in sorted((data / "synthea-meds" / "labels").iterdir()):
            found[f"synthea-meds, {labels.name}"] = partial(
                read_ehr, EhrFiles(meds=data / "synthea-meds", labels=labels)
            )
        tables = [str(medcalc / "train_subset_v1.0.parquet"), str(medcalc / "test_v1.0_dev.csv.gz")]
        found["MedCalc-Bench, two tables"] = partial(read_medcalc, tables, split="train")
        trials = [trec / "ctgov_trials.parquet", trec / "trialgpt_parsed_trials.jsonl.gz"]
        pairs = TrialFiles(
            topics=trec / "trec_2021_queries.jsonl.gz", qrels=trec / "trec_2021_qrels.tsv.gz", trials=trials
        )
        found["TREC 2021, two files of records"] = partial(read_trials, pairs)
    for task in ("high_potassium", "next_creatinine_high"):
        if (synthetic / "labels" / task).is_dir():
            found[f"synthetic, {task}"] = partial(
                read_ehr, EhrFiles(meds=synthetic, labels=synthetic / "labels" / task)
            )
    return found


def timed(read: Reader, out: Path) -> tuple[float, int, bytes]:
    """(seconds to read, cases, the Cases file)"""
    started = time.perf_counter()
    cases, _ = read()
    seconds = time.perf_counter() - started
    save_cases(cases, out)
    return seconds, len(cases), out.read_bytes()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--subjects", type=int, default=14_000)
    arguments.add_argument("--events", type=int, default=400, help="events a subject, about")
    arguments.add_argument("--nodes", type=int, default=2)
    arguments.add_argument("--data", type=Path, help="the folder of development data")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "meds", Path(name) / "cases.parquet"
        counts = write_cohort(folder, given.subjects, events_per_subject=given.events)
        print(
            f"made up {counts['events']:,} events of {given.subjects:,} subjects in"
            f" {len(list((folder / 'data').iterdir()))} shards\n"
        )
        todo = readers(folder, given.data)
        here = {what: timed(read, out) for what, read in todo.items()}
        print("| read | cases | here, s | Ray Data, first, s | Ray Data, again, s | the same bytes |")
        print("| --- | --- | --- | --- | --- | --- |")
        with joined(Cluster(address=f"local:{given.nodes}", workers=given.nodes)), done_by(each_on_ray):
            for what, read in todo.items():
                first, again = timed(read, out), timed(read, out)
                same = "yes" if here[what][2] == first[2] == again[2] else "NO"
                print(
                    f"| {what} | {first[1]:,} | {here[what][0]:.1f} | {first[0]:.1f} | {again[0]:.1f} | {same} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
