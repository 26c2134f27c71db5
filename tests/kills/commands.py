"""Every command that writes, with inputs made on the spot. Record texts hold a canary, which shows
where they went.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ehrmind.report.review.sheet import ASKED
from tests.kills.starter import Ended, Starter

CANARY = "Zqkanary"
RECIPE = """
name: tiny
threads: 1
data: {source: {cases: [cases.parquet]}}
model: {tiny: {hidden: 16, layers: 1, heads: 2, vocabulary: 300, context: 512}}
decoding: {temperature: 1.0, max_new_tokens: 6}
pilot: {questions: 4, samples: 2, interventions: 0}
warmup: {epochs: 1, batch: 8, checkpoint_every: 1, learning_rate: 0.01}
rlvr: {steps: 2, questions_per_step: 4, samples: 2, checkpoint_every: 1, tuning_every: 1}
arms: [base, sft_rlvr]
evaluate: {decodings: [greedy]}
"""
ACES = """
predicates: {visit: {code: Visit/IP}, drug: {code: RxNorm/161}}
trigger: visit
windows:
  input: {start: null, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}
  target: {start: input.end, end: start + 30d, start_inclusive: false, end_inclusive: true, label: drug}
"""
ENTITIES = {
    "weight": [70, "kg"],
    "height": [170, "cm"],
    "creatinine": [1, "mg/dL"],
    "sex": "male",
    "age": [40, "years"],
}
COCKCROFT = "Creatinine Clearance (Cockcroft-Gault Equation)"
OMOP = {
    "PERSON": "person_id,gender_concept_id,year_of_birth\n1,8532,1960\n2,8507,1970\n",
    "VISIT_OCCURRENCE": "visit_occurrence_id,person_id,visit_concept_id,visit_start_date\n7,1,9201,2020-01-05\n",
    "NOTE": (
        "note_id,person_id,note_type_concept_id,note_date,note_text\n"
        f"1,1,8,2020-01-06,{CANARY} is well\n2,2,8,2020-02-06,{CANARY} coughs\n"
    ),
}


@dataclass(frozen=True)
class Command:
    """`arguments` are given in a copy of a folder that `inputs` fills. `resumes`: it goes on where
    it stopped, if `option` is given. `torch`: it opens a model. `records`: what it writes has a
    patient behind it.
    """

    name: str
    arguments: str
    inputs: Callable[[Path, Starter], None]
    resumes: bool = False
    option: str = "--resume"
    torch: bool = False
    records: bool = True

    @property
    def again(self) -> list[str]:
        return [*self.arguments.split(), *(self.option.split() if self.resumes else [])]


def rows(folder: Path, starter: Starter | None = None) -> None:
    """Tables of questions, with and without answers."""
    for name, many in (("rows.csv", 24), ("new.csv", 12)):
        with (folder / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["question", "answer", "record", "rationale", "group"])
            for number in range(many):
                level, answer = ((4.1, "no"), (5.6, "yes"))[number % 2]
                table.writerow(
                    [
                        "Is potassium high?",
                        answer,
                        f"{CANARY} {number}: potassium {level}",
                        f"It is {level}.",
                        f"p{number}",
                    ]
                )


def medcalc(folder: Path, starter: Starter | None = None) -> None:
    names = ["Row Number", "Calculator Name", "Patient Note", "Question", "Relevant Entities"]
    names += ["Ground Truth Answer", "Lower Limit", "Upper Limit", "Ground Truth Explanation"]
    with (folder / "medcalc.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(names)
        for number in range(1, 7):
            note = f"{CANARY} {number}, a man of 40 years, 70 kg, creatinine 1 mg/dL"
            table.writerow(
                [
                    number,
                    COCKCROFT,
                    note,
                    "What is it?",
                    str(ENTITIES),
                    "97.2",
                    "92.3",
                    "102.1",
                    f"{CANARY} is worked out",
                ]
            )


def trials(folder: Path, starter: Starter | None = None) -> None:
    topics = [{"_id": f"p{n}", "text": f"{CANARY} {n} wheezes"} for n in range(8)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(topic) + "\n" for topic in topics))
    criteria = {"title": "Walking", "inclusion_criteria": "asthma", "exclusion_criteria": "none"}
    records = [{"nct_id": f"NCT0000000{n}", **criteria} for n in range(3)]
    (folder / "trials.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    lines = [f"p{p}\tNCT0000000{n}\t{(p + n) % 3}" for p in range(8) for n in range(3)]
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")


def meds(folder: Path, starter: Starter | None = None) -> None:
    from tests.meds_data import write_meds

    write_meds(folder / "meds")


def aces(folder: Path, starter: Starter | None = None) -> None:
    """A data set whose times are no microseconds, which ACES gets in a temporary copy."""
    import polars as pl

    meds(folder)
    for shard in (folder / "meds" / "data").rglob("*.parquet"):
        pl.read_parquet(shard).with_columns(
            pl.col("time").cast(pl.Datetime("ms")), text_value=pl.lit(CANARY)
        ).write_parquet(shard)
    (folder / "task.yaml").write_text(ACES)


def times(folder: Path, starter: Starter | None = None) -> None:
    import polars as pl

    meds(folder)
    labels = pl.read_parquet(folder / "meds" / "labels" / "high_potassium" / "labels.parquet")
    labels.select("subject_id", "prediction_time").head(6).write_parquet(folder / "high_potassium.parquet")


def omop(folder: Path, starter: Starter | None = None) -> None:
    (folder / "omop").mkdir()
    for table, text in OMOP.items():
        (folder / "omop" / f"{table}.csv").write_text(text)


def gguf(folder: Path, starter: Starter | None = None) -> None:
    from tests.gguf_files import small_gguf

    small_gguf(folder / "model.gguf", "Q8_0")


def nothing(folder: Path, starter: Starter | None = None) -> None:
    del folder, starter


def recipe(folder: Path, starter: Starter) -> None:
    rows(folder)
    done(starter, folder, f"{TABLE} --out cases.parquet")
    (folder / "recipe.yaml").write_text(RECIPE)


def finished(folder: Path, starter: Starter) -> None:
    """A finished run; made once for all commands that begin with one."""
    stored = starter.folder / "finished"
    if not stored.is_dir():
        stored.mkdir()
        (stored / "tmp").mkdir()
        recipe(stored, starter)
        done(starter, stored, "run recipe.yaml --out run")
    shutil.copytree(stored, folder, dirs_exist_ok=True)


def stopped(folder: Path, starter: Starter) -> None:
    """A run whose last command was stopped before its models were scored."""
    finished(folder, starter)
    for mark in (folder / "run" / "stages").glob("evaluate-*.json"):
        mark.unlink()


def two_runs(folder: Path, starter: Starter) -> None:
    finished(folder, starter)
    shutil.copytree(folder / "run", folder / "other")


def asked(folder: Path, starter: Starter) -> None:
    finished(folder, starter)
    done(starter, folder, f"{NEW} --out new.parquet")


def histories(folder: Path, starter: Starter) -> None:
    finished(folder, starter)
    times(folder)
    done(starter, folder, "data new ehr --meds meds --times high_potassium.parquet --out new.parquet")


def reviewed(folder: Path, starter: Starter) -> None:
    finished(folder, starter)
    done(starter, folder, "review export run --n 6")
    with (folder / "run" / "protected" / "review.csv").open(encoding="utf-8-sig", newline="") as file:
        sheet = list(csv.DictReader(file))
    with (folder / "filled.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, sheet[0])
        table.writeheader()
        table.writerows(row | dict(zip(ASKED, ("a", "yes", "no", ""), strict=True)) for row in sheet)


def done(starter: Starter, folder: Path, arguments: str) -> Ended:
    ended = starter.run(arguments.split(), folder)
    if ended.code:
        raise RuntimeError(f"ehrmind {arguments}: {ended.code}, {ended.err[-600:]}")
    return ended


TABLE = "data table rows.csv --kind label --label no --label yes --record record --rationale rationale --group group"
HISTORIES = "data ehr --meds meds --labels meds/labels/high_potassium"
PAIRS = "data trials --topics queries.jsonl --qrels qrels.tsv --trials trials.jsonl"
NEW = "data new table new.csv --kind label --label no --label yes --record record --group group"

DEMO = (
    "demo trials threads=1 data.train.limit=24 data.tuning.limit=4 data.held_out.limit=8 data.transfer={}"
    " decoding.max_new_tokens=8 pilot.questions=4 pilot.samples=2 pilot.interventions=0 warmup.traces_per_stratum=4"
    " warmup.checkpoint_every=1 rlvr.steps=2 rlvr.questions_per_step=4 rlvr.samples=2 rlvr.checkpoint_every=1"
    " rlvr.tuning_every=1"
)

COMMANDS = (
    Command("demo", DEMO, nothing, resumes=True, option="", torch=True, records=False),
    Command("data table", f"{TABLE} --out cases.parquet", rows),
    Command("data table, into a new folder", f"{TABLE} --out deep/er/cases.parquet", rows),
    Command("data medcalc", "data medcalc medcalc.csv --out cases.parquet", medcalc),
    Command("data audit", "data audit medcalc.csv", medcalc),
    Command("data audit, packed", "data audit medcalc.csv --out corrected.csv.gz", medcalc),
    Command("data trials", f"{PAIRS} --out cases.parquet", trials),
    Command("data ehr", f"{HISTORIES} --out cases.parquet", meds),
    Command("data ehr, ACES", "data ehr --meds meds --aces task.yaml --out cases.parquet", aces),
    Command("data omop", "data omop omop --out meds", omop),
    Command("data synthetic medcalc", "data synthetic medcalc --n 20 --out cases.parquet", nothing),
    Command("data synthetic trials", "data synthetic trials --n 20 --out cases.parquet", nothing),
    Command(
        "data synthetic ehr",
        "data synthetic ehr --subjects 30 --events 20 --labels 1 --out meds",
        nothing,
        records=False,
    ),
    Command("data new table", f"{NEW} --out new.parquet", rows),
    Command("data new medcalc", "data new medcalc medcalc.csv --out new.parquet", medcalc),
    Command(
        "data new trials", "data new trials --topics queries.jsonl --trials trials.jsonl --out new.parquet", trials
    ),
    Command("data new ehr", "data new ehr --meds meds --times high_potassium.parquet --out new.parquet", times),
    Command("run", "run recipe.yaml --out run tracking.tensorboard=true", recipe, resumes=True, torch=True),
    Command("run, two seeds", "run recipe.yaml --out run seeds=2 arms=[base,sft]", recipe, resumes=True, torch=True),
    Command("resume", "resume run", stopped, resumes=True, option="", torch=True),
    Command("pilot", "pilot recipe.yaml --out run", recipe, resumes=True, torch=True),
    Command("evaluate", "evaluate recipe.yaml --out run", recipe, resumes=True, torch=True),
    Command("predict", "predict run new.parquet --out answers part=5", asked, resumes=True, torch=True),
    Command(
        "predict, jsonl and page",
        "predict run new.parquet --out answers --format jsonl --page",
        asked,
        resumes=True,
        torch=True,
    ),
    Command(
        "predict, histories",
        "predict run new.parquet --out answers --any-task part=2",
        histories,
        resumes=True,
        torch=True,
    ),
    Command("model convert", "model convert model.gguf --out converted/model", gguf, torch=True, records=False),
    Command("export model", "export model run --out model", finished, torch=True),
    Command("export verl", "export verl run --out verl", finished, torch=True),
    Command("export trl", "export trl run --out trl", finished, torch=True),
    Command("report", "report run", finished),
    Command("report, with text", "report run --with-text", finished),
    Command("report, compared", "report run other --compare both.html", two_runs),
    Command("compare", "compare run other --json matrix.json", two_runs),
    Command("review export", "review export run --n 6", finished),
    Command("review read", "review read run filled.csv", reviewed),
    Command("runs purge", "runs purge run --yes", finished),
)
