"""Makes a Case of each judged pair of patient and trial. Pairs without the trial's text are
counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind.config import TrialFiles
from ehrmind.data.cases import Counts
from ehrmind.data.demographics import age_and_sex
from ehrmind.data.files import stem
from ehrmind.data.labels import balanced, label_truth, labels_by_split
from ehrmind.data.splits import SPLITS, note_group, split_of_groups
from ehrmind.data.trec.formats import Trial
from ehrmind.data.trec.keys import refuse_other_years
from ehrmind.data.trec.qrels import Judgment, read_qrels
from ehrmind.data.trec.records import Records, read_records
from ehrmind.data.trec.topics import Topic, TopicIndex, read_topics
from ehrmind.types import Case, InputError

LABELS = ("not relevant", "excluded", "eligible")


def read_trials(files: TrialFiles) -> tuple[list[Case], Counts]:
    """Returns Cases in the order of the judgments, and counts.

    `split_by="patient"` keeps a patient's pairs in one split (inductive). "pair" divides the pairs
    of each patient, so that all patients are seen in training, with other trials. `balance` drops
    training cases of frequent labels, by seed, until none is more than this many times as frequent
    as the rarest.
    """
    topics, topics_file = read_topics(files.topics)
    judgments, qrels_file, repeated = read_qrels(files.qrels)
    if not files.any_year:
        refuse_other_years(
            files.topics,
            [topic.year for topic in topics.values()],
            files.qrels,
            [judgment.topic for judgment in judgments],
        )
    index = TopicIndex(topics, any_year=files.any_year)
    named = [(judgment, index.find(judgment.topic, f"{files.qrels}, row {judgment.row}")) for judgment in judgments]
    trials = read_records(files.trials, {judgment.trial for judgment in judgments})
    pairs = _with_records(named, trials, files.qrels)
    name = files.name or collection_name(files.topics)
    cases = [
        pair_case(name, topic, trial, label_truth(judgment.label, LABELS), files.split_by, _cell(files.qrels, judgment))
        for judgment, topic, trial in pairs.values()
    ]
    if not cases:
        raise InputError(
            f"None of the {len(judgments):,} pairs of {files.qrels} has its trial's text in the records given; add the"
            " records."
        )
    shares = dict(zip(SPLITS, files.shares, strict=True))
    by_patient = (lambda case: case.provenance["topic"]) if files.split_by == "pair" else None
    cases = split_of_groups(cases, shares, files.seed, within=by_patient)
    absent = sum(trials.find(judgment.trial) is None for judgment in judgments)
    left_out = Counter({"the trial's text is not in the files": absent})
    if files.balance is not None:
        cases, left_out["train: more than balance allows"] = balanced(cases, files.balance, files.seed)
    notes = {
        "patients": len({case.provenance["topic"] for case in cases}),
        "trials": len({case.provenance["trial"] for case in cases}),
        **criteria_notes(cases),
        "judgments given twice": repeated + len(judgments) - absent - len(pairs),
        **trials.notes,
    }
    counts = Counts(
        kept=len(cases),
        left_out={reason: count for reason, count in left_out.items() if count},
        notes={note: count for note, count in notes.items() if count},
        by_stratum=Counter(case.stratum for case in cases),
        by_split=labels_by_split(cases),
        files=(topics_file, qrels_file, *trials.files),
    )
    return cases, counts


def _with_records(
    named: Sequence[tuple[Judgment, Topic]], trials: Records, qrels: Path
) -> dict[tuple[str, str], tuple[Judgment, Topic, Trial]]:
    """Keeps judgments whose trial has a record, by topic and trial.

    Raises InputError if a trial has two grades under two numbers.
    """
    pairs: dict[tuple[str, str], tuple[Judgment, Topic, Trial]] = {}
    for judgment, topic in named:
        trial = trials.find(judgment.trial)
        if trial is None:
            continue
        first = pairs.setdefault((topic.id, trial.id), (judgment, topic, trial))[0]
        if first.label != judgment.label:
            raise InputError(
                f"{qrels}, rows {first.row} and {judgment.row}: two grades for one topic and trial; keep one."
            )
    return pairs


def criteria_notes(cases: Sequence[Case]) -> dict[str, int]:
    """Counts cases whose criteria could not be split, by reason."""
    mixed = sum(case.provenance["criteria_mixed"] for case in cases)
    return {
        "criteria kept whole, no headings to split them by": (
            sum(not case.provenance["criteria_split"] for case in cases) - mixed
        ),
        "criteria kept whole, exclusions stand among what is under inclusion, or the reverse": mixed,
    }


def collection_name(topics: Path) -> str:
    return (
        re.sub(r"[^a-z0-9]+", "-", stem(topics).lower()).removesuffix("-queries").removesuffix("-topics").strip("-")
        or "trials"
    )


def pair_case(
    collection: str,
    topic: Topic,
    trial: Trial,
    truth: Mapping[str, Any],
    split_by: str,
    cell: Mapping[str, Any] | None = None,
) -> Case:
    """Makes the Case that asks if `topic` may enter `trial`. `cell` is the judgment's place."""
    patient = note_group(topic.text).replace("note-", "patient-")
    criteria = trial.criteria
    return Case(
        id=f"{topic.id if topic.id.startswith('trec') else f'{collection}-{topic.id}'}-{trial.id}",
        family="trials",
        task="eligibility",
        stratum=f"trials/{collection}/eligibility",
        split="train",
        group=patient if split_by == "patient" else f"{patient}-{trial.id}",
        fields={
            "note": topic.text,
            "title": trial.title,
            "conditions": ", ".join(trial.conditions),
            "sex": trial.sex,
            "minimum_age": trial.minimum_age,
            "maximum_age": trial.maximum_age,
            "inclusion": "\n".join(criteria.inclusion),
            "exclusion": "\n".join(criteria.exclusion),
            "criteria": "\n".join(criteria.other),
        },
        truth=truth,
        provenance={
            "collection": collection,
            "topic": topic.id,
            "trial": trial.id,
            "criteria_split": criteria.split,
            "criteria_mixed": criteria.mixed,
            **age_and_sex(topic.text),
            **({"cell": cell} if cell else {}),
        },
    )


def _cell(qrels: Path, judgment: Judgment) -> dict[str, Any]:
    return {"file": qrels.name, "row": judgment.row, "column": "grade", "cell": str(judgment.label)}
