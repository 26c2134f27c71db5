"""The paper's experiment on a real model and real rows: SmolLM2-135M-Instruct on two CPU cores.

    make real                                           # every part and seed, one after the other
    python benchmarks/real_model.py medcalc --seed 0    # one run; again: resumes it
    python benchmarks/real_model.py medcalc --model HUB-ID-OR-DIRECTORY
    python benchmarks/real_model.py --table             # the tables of what is finished
    python benchmarks/real_model.py --table --records benchmarks/real_model/records

real_model/plan.md is the plan of the study: what is run, why, and how it is judged. Each run's name
holds the commit of that plan. Each seed of a part is a run of its own, so that several machines can
share the work; a finished run leaves a record of numbers, without texts, and the tables are made of
records. Ours go into real_model/records. The model is that of `make smollm2`; the data are those of
EHRMIND_DATA.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq
from _real_records import CORRECTED, read_records, record_of, write_record
from _real_tables import SECOND_PILOT, tables

from ehrmind.runs import Run

ROOT = Path(__file__).resolve().parents[1]
STUDY = Path(__file__).resolve().parent / "real_model"
DATA = Path(os.environ.get("EHRMIND_DATA", ROOT.parent / "shared" / "data")).resolve()
MEDCALC, TREC = DATA / "medcalc-bench", DATA / "trec-clinical-trials"
SYNTHEA, MIMIC = DATA / "synthea-meds", DATA / "mimic-iv-demo-meds" / "meds"
SMOLLM2 = Path("~/.cache/ehrmind/smollm2/model").expanduser()
SHORT = 3200  # characters of a train note
FOUR = ("base", "rlvr", "sft", "sft_rlvr")
# The whole path in a minute or two, for tests.
SMALL = (
    "data.train.limit=12",
    "data.held_out.limit=6",
    "data.tuning.limit=2",
    "prompts.max_tokens=480",
    "decoding.max_new_tokens=24",
    "pilot.questions=2",
    "pilot.samples=2",
    "warmup.traces_per_stratum=1",
    "warmup.epochs=1",
    "rlvr.steps=2",
    "rlvr.questions_per_step=2",
    "rlvr.samples=2",
    "evaluate.general=null",
)
AUDITED = (
    "warmup.audited=true",
    "reward.extra={process: {function: 'ehrmind.process_audit:soundness', weight: 0.2}}",
)


class Part(NamedTuple):
    """One recipe, its arms, how many seeds (0, 1 …), and what it changes of the recipe's file."""

    recipe: str
    arms: Sequence[str]
    seeds: int = 1
    changes: Sequence[str] = ()


def history(meds: Path, task: str) -> tuple[str, ...]:
    return f"data.source.ehr.meds={meds}", f"data.source.ehr.labels={meds / 'labels' / task}"


# OUT stands for the folder of all runs, where `prepare` writes data files.
WITH_SYNTHETIC = ("data.train={cases: [OUT/data/medcalc_train.parquet, OUT/data/synthetic.parquet], recompute: true}",)
NO_TRANSFER = ("data.transfer={}",)
NO_PILOT = ("pilot.questions=1", "pilot.samples=1")
MORE_QUESTIONS = ("pilot.questions=60",)
ALL_ROWS = ("data.held_out.limit=null",)  # a seed draws some of them, and is compared with base on those
PARTS = {
    "medcalc": Part("medcalc", ("sft", "sft_rlvr"), 3, NO_TRANSFER),
    "medcalc-base": Part("medcalc", ("base", "base_open_book", "base_tool"), 1, (*NO_PILOT, *ALL_ROWS)),
    "medcalc-rlvr": Part("medcalc", ("rlvr",), 3, NO_TRANSFER),
    # An example and a question are longer than a question; all else is as in medcalc-base.
    "medcalc-few-shot": Part("medcalc", ("base_few_shot",), 1, (*NO_PILOT, *ALL_ROWS, "prompts.max_tokens=4096")),
    "trials": Part("trials", FOUR, 2),
    "readmission": Part("histories", FOUR, 2, history(SYNTHEA, "guo_readmission")),
    "long-stay": Part("histories", FOUR, 2, history(SYNTHEA, "long_stay_2d")),
    "anaemia": Part("histories", FOUR, 2, (*history(MIMIC, "lab_anemia"), "data.held_out.limit=200")),
    "medcalc-transfer": Part("medcalc", ("sft_rlvr", "sft_rlvr_open_book", "sft_rlvr_tool"), 1),
    "medcalc-audited": Part("medcalc", ("sft", "sft_rlvr"), 1, (*AUDITED, *NO_TRANSFER)),
    "medcalc-synthetic": Part("medcalc", ("sft", "sft_rlvr"), 1, (*WITH_SYNTHETIC, *NO_TRANSFER)),
    SECOND_PILOT: Part("medcalc", (), 3, MORE_QUESTIONS),  # of each seed's `sft`: what RLVR is expected to add to it
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--out", type=folder, default=ROOT / "runs" / "real", help="the folder of all runs")
    parser.add_argument("--records", type=folder, help="where the records are written and read; OUT/records by default")
    parser.add_argument("--model", default=str(SMOLLM2), help="a model directory or hub id")
    parser.add_argument("--seed", type=int, help="this seed only")
    parser.add_argument("--table", action="store_true", help="run nothing, print the tables")
    parser.add_argument("--small", action="store_true", help="a few questions and two steps: shows the path only")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a change of the recipe")
    given = parser.parse_args()
    given.records = given.records or given.out / "records"
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"no part is called {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    if not given.table:
        if not DATA.is_dir():
            parser.error(f"there are no data at {DATA}; set EHRMIND_DATA to the folder that has medcalc-bench")
        for name in given.parts or PARTS:
            for seed in range(PARTS[name].seeds):
                if given.seed in (None, seed):
                    run_part(name, seed, given)
    records = read_records(given.records)
    if not records:
        parser.error(f"no part is finished: there is no record in {given.records}")
    for line in tables(records):
        print(line)


def folder(text: str) -> Path:
    return Path(text).absolute()


def run_part(name: str, seed: int, given: argparse.Namespace) -> None:
    """Runs or resumes one seed of a part, and keeps its record."""
    part, out, model = PARTS[name], given.out / name / str(seed), given.model
    changes = [
        *files_of(part, given.out, transfer=not given.small),
        *(change.replace("OUT", str(given.out)) for change in part.changes),
        f"name={name_of(name, out, plan=not given.small)}",
        f"seed={seed}",
    ]
    if name == SECOND_PILOT:
        trained = Run(given.out / "medcalc" / str(seed))
        if trained.done("warmup") is None:
            raise SystemExit(f"Seed {seed} of {name} samples the model that medcalc trains; run that part first.")
        model = str(trained.model("sft"))
    else:
        changes.append(f"arms=[{', '.join(part.arms)}]")
    changes += [*(SMALL if given.small else ()), *given.set]
    prepare(given.out / "data", " ".join(changes))
    ehrmind("pilot" if name == SECOND_PILOT else "run", part.recipe, out, model, changes)
    record = record_of(Run(out), name, MEDCALC / CORRECTED)
    if record is not None:
        write_record(record, given.records)


def files_of(part: Part, out: Path, *, transfer: bool) -> list[str]:
    """Names the files of a part's family, and of its transfer sets if they are asked for."""
    rows = f"[{MEDCALC / 'test_v1.0_dev.csv.gz'}]"
    readmission = f"{{meds: {SYNTHEA}, labels: {SYNTHEA / 'labels' / 'guo_readmission'}}}"
    sets = {
        "medcalc": f"{{medcalc: {rows}, limit: 40}}",
        "trials": f"{{cases: [{out / 'data' / 'trec_2022.parquet'}], limit: 40}}",
        "readmission": f"{{ehr: {readmission}, limit: 40}}",
    }
    named = {
        "medcalc": [
            f"data.train.medcalc=[{out / 'data' / 'short.parquet'}]",
            f"data.held_out.medcalc={rows}",
        ],
        "trials": [
            *(f"data.{split}.cases=[{out / 'data' / 'trec_2021.parquet'}]" for split in ("train", "tuning")),
            f"data.held_out.cases=[{out / 'data' / 'trec_2022.parquet'}]",
        ],
        "histories": [],
    }
    own = {"histories": "readmission"}.get(part.recipe, part.recipe)
    others = ", ".join(f"{name}: {source}" for name, source in sets.items() if transfer and name != own)
    return [*named[part.recipe], f"data.transfer={{{others}}}"]


def prepare(data: Path, changes: str) -> None:
    """Makes those files in `data` that the changes of a recipe name: the train rows with short
    notes, and the Cases files that need options of `ehrmind data`."""
    data.mkdir(parents=True, exist_ok=True)
    short = data / "short.parquet"
    if not short.is_file():
        rows = pq.read_table(MEDCALC / "train_subset_v1.0.parquet")
        pq.write_table(rows.filter(pc.less_equal(pc.utf8_length(rows["Patient Note"]), SHORT)), short)
    for target, command in data_commands(data):
        if str(target) in changes and not target.is_file():
            subprocess.run([sys.executable, "-m", "ehrmind.cli", "data", *command, "--out", str(target)], check=True)


def data_commands(data: Path) -> Iterator[tuple[Path, list[str]]]:
    for year, shares in (("2021", ("0.85", "0.15", "0")), ("2022", ("0", "0", "1"))):
        records = [TREC / "ctgov_trials.parquet", TREC / "trialgpt_parsed_trials.jsonl.gz"]
        files = ["--topics", TREC / f"trec_{year}_queries.jsonl.gz", "--qrels", TREC / f"trec_{year}_qrels.tsv.gz"]
        files += [word for record in records for word in ("--trials", record)]
        yield data / f"trec_{year}.parquet", ["trials", *map(str, files), "--shares", *shares]
    yield data / "medcalc_train.parquet", ["medcalc", str(data / "short.parquet"), "--split", "train"]
    yield data / "synthetic.parquet", ["synthetic", "medcalc", "--n", "1100", "--seed", "23"]


def name_of(part: str, out: Path, *, plan: bool) -> str:
    """Names a run after its part and the plan's commit. A run that has begun keeps its name."""
    if (out / "recipe.yaml").is_file():
        return str(Run(out).recipe()["name"])
    if not plan:
        return part
    files = [str(path) for path in (STUDY / "plan.md", *sorted(STUDY.glob("*.yaml")))]
    if changed := git("status", "--porcelain", "--", *files):
        raise SystemExit(f"The plan has changes that are not committed; commit it before a run is scored:\n{changed}")
    commit = git("log", "-1", "--format=%h", "--", *files)
    return f"{part}, plan {commit or 'without a commit'}"


def git(*words: str) -> str:
    """Asks git; an empty text outside of a repository."""
    asked = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def ehrmind(verb: str, recipe: str, out: Path, model: str, changes: Sequence[str]) -> None:
    """Calls `ehrmind` as a user would; a run that is there is resumed."""
    command = [sys.executable, "-m", "ehrmind.cli", verb, str(STUDY / f"{recipe}.yaml"), "--out", str(out)]
    resume = ["--resume"] if (out / "recipe.yaml").is_file() else []
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, *resume, f"model.name={model}", *changes], check=True)


if __name__ == "__main__":
    main()
