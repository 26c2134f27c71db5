"""Keeps the numbers of a run of `real_model.py` in a small file without texts, of which the tables
are made. So the seeds of a part can run on machines of their own.

`stored` are the benchmark's labels. `recomputed` are those of the published formulas on the row's
entities; rows that cannot be computed have none. `corrected` are those of physicians, for the rows
that have one. Other families than MedCalc have stored labels only.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.relabel import recomputed
from ehrmind.runs import Run
from ehrmind.runs.records import HELD_OUT, LabelMeasures, Plan, ProcessFigures, Results, StageKey
from ehrmind.runs.records.base import Record
from ehrmind.stages.evaluation.baselines import baseline_outcomes
from ehrmind.stages.evaluation.comparison import Outcome, measures_by_task, outcomes
from ehrmind.stages.evaluation.results import scored_arms
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.types import Case
from ehrmind.verify.judge import judge

CORRECTED = "test_v1.0_physician_corrected_dev.csv.gz"
Marks = str  # one character per case, in the record's order: 1 is yes, 0 no, - there is no label
Labels = Mapping[str, Mapping[str, Case]]  # the cases with their labels, by kind of labels and id


class ArmRecord(Record):
    """The answers of an arm or a baseline. `right` is by kind of labels. A case that a baseline is
    not made for is - in `well_formed` too."""

    well_formed: Marks
    right: Mapping[str, Marks]
    tokens: int
    measures: Mapping[str, LabelMeasures] = {}
    process: ProcessFigures | None = None


class StudyRecord(Record):
    """One part under one seed. `groups` are the first digits of a hash of each case's note or
    patient. `expected` are the gains of RLVR that the part's pilot predicts, by stratum. `hours`
    are by stage, on `threads` threads."""

    part: str
    seed: int
    name: str
    date: str
    threads: int
    hours: Mapping[str, float]
    cases: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    arms: Mapping[str, ArmRecord] = {}
    baselines: Mapping[str, ArmRecord] = {}
    transfer: Mapping[str, Mapping[str, float]] = {}  # accuracy by set and arm
    expected: Mapping[str, float] = {}

    @property
    def file(self) -> str:
        return f"{self.part}-{self.seed}.json"


def write_record(record: StudyRecord, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / record.file).write_text(json.dumps(record.to_dict(), indent=1) + "\n")


def read_records(folder: Path) -> list[StudyRecord]:
    """Reads the records of a folder by part and seed. Raises InputError for one of another form."""
    files = sorted(folder.glob("*.json"))
    found = [StudyRecord.from_dict(json.loads(path.read_text()), str(path)) for path in files]
    return sorted(found, key=lambda record: (record.part, record.seed))


def record_of(run: Run, part: str, corrections: Path) -> StudyRecord | None:
    """Takes the numbers of a finished run; None if it is not finished. `corrections` is the file of
    the physicians' labels."""
    recipe = parse_recipe(run.recipe())
    plan, results = run.read_record("plan.json", Plan), run.read_record("results.json", Results)
    made = run.path / ("plan.json" if results is None else "results.json")
    if plan is None and results is None:
        return None
    marks_of_stages = {stage: run.done(stage) or {} for stage in run.finished()}
    about = StudyRecord(
        part=part,
        seed=recipe.seed,
        name=recipe.name,
        date=datetime.datetime.fromtimestamp(made.stat().st_mtime, tz=datetime.UTC).date().isoformat(),
        threads=recipe.threads or len(os.sched_getaffinity(0)),
        hours={stage: round(mark.get("seconds", 0.0) / 3600, 3) for stage, mark in marks_of_stages.items()},
        expected={} if plan is None else {name: gain.gain for name, gain in plan.expected.rlvr.items()},
    )
    if results is None:
        return about
    cases = run.load_split("held_out")
    labels = label_sets(cases, corrections)
    return about.model_copy(
        update={
            "cases": tuple(case.id for case in cases),
            "strata": tuple(case.stratum for case in cases),
            "groups": tuple(hashlib.sha256(case.group.encode()).hexdigest()[:8] for case in cases),
            "arms": {arm: arm_of(run, recipe, arm, labels, results) for arm in scored_arms(run, recipe)},
            "baselines": baselines_of(run, recipe, labels),
            "transfer": {
                name: {arm: found.accuracy for arm, found in compared.arms.items()}
                for name, compared in results.transfer.items()
            },
        }
    )


def label_sets(cases: Sequence[Case], corrections: Path) -> Labels:
    """Returns the cases by id with the labels of each kind, the stored ones first."""
    kinds = {"stored": list(cases)}
    if all(case.family == "medcalc" for case in cases):
        kinds["recomputed"], _ = recomputed(cases)
        physicians, _ = read_medcalc(corrections, split="held_out")
        by_row = {str(case.provenance["row"]): case.truth for case in physicians}
        kinds["corrected"] = [
            replace(case, truth=by_row[row]) for case in cases if (row := str(case.provenance["row"])) in by_row
        ]
    return {kind: {case.id: case for case in found} for kind, found in kinds.items()}


def arm_of(run: Run, recipe: Recipe, arm: str, labels: Labels, results: Results) -> ArmRecord:
    think = thinks(recipe, arm)
    asked = labels["stored"]
    texts = {row.case: row.text for row in run.rollout_rows(str(StageKey.scoring(arm, "greedy")))}
    rows = {row.case.id: row for row in outcomes(run, recipe, arm, "greedy", asked)}
    right = {
        kind: marks(asked, {name: judge(case, texts[name], think=think).correct for name, case in of_kind.items()})
        for kind, of_kind in labels.items()
    }
    found = results.arms[arm]
    return ArmRecord(
        well_formed=marks(asked, {name: row.well_formed for name, row in rows.items()}),
        right=right,
        tokens=found.cost.tokens,
        measures=found.measures,
        process=found.process,
    )


def baselines_of(run: Run, recipe: Recipe, labels: Labels) -> dict[str, ArmRecord]:
    asked = labels["stored"]
    by_kind = {kind: baseline_outcomes(run, recipe, list(cases.values()), HELD_OUT) for kind, cases in labels.items()}
    return {
        name: ArmRecord(
            well_formed=marks(asked, {row.case.id: row.well_formed for row in stored}),
            right={
                kind: marks(asked, {row.case.id: row.ehrmind for row in found[name]}) for kind, found in by_kind.items()
            },
            tokens=0,
            measures=measures_by_task(stored),
        )
        for name, stored in by_kind["stored"].items()
    }


def marks(cases: Mapping[str, Case], values: Mapping[str, bool]) -> Marks:
    return "".join(str(int(values[name])) if name in values else "-" for name in cases)


def outcomes_of(record: StudyRecord, arm: ArmRecord, kind: str) -> list[Outcome]:
    """Turns an arm's marks back into outcomes, for the statistics of `ehrmind`. Cases without a
    label of this kind are left out."""
    return [
        Outcome(
            case=Case(
                id=name,
                family=stratum.split("/")[0],
                task=stratum.split("/")[-1],
                stratum=stratum,
                split="held_out",
                group=group,
                fields={},
                truth={},
            ),
            stratum=stratum,
            well_formed=well_formed == "1",
            ehrmind=right == "1",
            benchmark=right == "1",
            answer=None,
            probabilities=None,
            tokens=0,
            prompt_tokens=0,
            seed=record.seed,
        )
        for name, stratum, group, well_formed, right in zip(
            record.cases, record.strata, record.groups, arm.well_formed, arm.right[kind], strict=True
        )
        if right != "-"
    ]
