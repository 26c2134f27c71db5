"""Trial matching and prediction from coded histories on every real file at hand: into Cases,
checked, and through the whole recipe.

    EHRMIND_DATA=../shared/data python benchmarks/real_files.py [--only synthea]

A whole run is pilot, warm-up, RLVR and evaluation of all arms with a tiny model of random weights,
cut down: it shows the path only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("EHRMIND_DATA", ROOT.parent / "shared" / "data"))
SMALL = [
    "data.train.limit=40",
    "data.tuning.limit=4",
    "data.held_out.limit=20",
    "model.tiny.hidden=32",
    "model.tiny.layers=2",
]
SMALL += [
    "pilot.questions=8",
    "pilot.samples=2",
    "rlvr.steps=1",
    "rlvr.questions_per_step=4",
    "rlvr.samples=2",
    "decoding.max_new_tokens=32",
]
Source = tuple[str, list[str], str, list[str]]  # its name, options of `ehrmind data`, a recipe, what is named in it


def sources() -> Iterator[Source]:
    trec = DATA / "trec-clinical-trials"
    records = [trec / "ctgov_trials.parquet", trec / "trialgpt_parsed_trials.jsonl.gz"]
    for year in ("2021", "2022"):
        topics, qrels = trec / f"trec_{year}_queries.jsonl.gz", trec / f"trec_{year}_qrels.tsv.gz"
        options = [
            "trials",
            "--topics",
            topics,
            "--qrels",
            qrels,
            *(word for path in records for word in ("--trials", path)),
        ]
        named = {"topics": topics, "qrels": qrels, "trials": f"[{','.join(map(str, records))}]"}
        yield (
            f"TREC {year}",
            [str(word) for word in options],
            "trials.yaml",
            [f"data.source.trials.{key}={value}" for key, value in named.items()],
        )
    for folder in (DATA / "synthea-meds", DATA / "mimic-iv-demo-meds" / "meds"):
        for labels in sorted((folder / "labels").iterdir()):
            options = ["ehr", "--meds", str(folder), "--labels", str(labels)]
            named = [
                f"data.source.ehr.meds={folder}",
                f"data.source.ehr.labels={labels}",
                "prompts.history.max_tokens=200",
            ]
            yield f"{folder.relative_to(DATA).parts[0]} {labels.name}", options, "ehr.yaml", named
    release = DATA / "synthea-ehrshot-format"
    for labels in sorted((release / "benchmark").iterdir()):
        options = ["ehr", "--ehrshot", str(release), "--task", labels.name]
        ehr = f"data.source.ehr={{ehrshot: {release}, task: {labels.name}, balance: 1.0}}"
        yield f"{release.name} {labels.name}", options, "ehr.yaml", [ehr, "prompts.history.max_tokens=200"]


def ehrmind(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ehrmind.cli", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"ehrmind {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default="", help="sources whose name holds this")
    only = arguments.parse_args().only
    print(
        "| source | kept | train / tuning / held out | gold right | corruptions let through | whole run | arms scored |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, options, recipe, named in sources():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            cases, run = Path(folder) / "cases.parquet", Path(folder) / "run"
            counts = json.loads(ehrmind("data", *options, "--out", cases, "--json"))
            check = json.loads(ehrmind("check", cases, "--json"))
            started = time.monotonic()
            ehrmind("run", ROOT / "recipes" / recipe, "--out", run, *named, *SMALL)
            seconds = time.monotonic() - started
            arms = json.loads((run / "results.json").read_text())["arms"]
            left = sum(counts["left_out"].values())
            kept = f"{counts['kept']:,}" + (f" ({left:,} left out)" if left else "")
            splits = " / ".join(f"{sum(labels.values()):,}" for labels in counts["by_split"].values())
            gold, corrupted = check["gold"], check["corrupted"]
            print(
                f"| {name} | {kept} | {splits} | {gold['passed']:,} of {gold['total']:,} | "
                f"{corrupted['passed']:,} of {corrupted['total']:,} | {seconds:.0f} s | {len(arms)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
