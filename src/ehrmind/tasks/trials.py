"""Patient-trial matching: a patient's description, a trial's eligibility criteria, and one of TREC's three grades.

Labels are TREC Clinical Trials' (2021-2023): 0 not relevant, the trial is about something else; 1 excluded, it is about the
patient's condition but the criteria keep the patient out; 2 eligible. The released code of arXiv 2505.24105 swaps the words of
0 and 1 between prompt, reward and warm-up; here word and number come from one list everywhere (`tasks.labelled`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.measures import label_measures, ranking_measures
from ehrmind.tasks.labelled import answer_example, check, corruptions, gold_answer, options, read, same_truth
from ehrmind.types import Case

__all__ = [
    "answer_example",
    "check",
    "corruptions",
    "eligibility_scores",
    "gold_answer",
    "hints",
    "measures",
    "options",
    "question",
    "read",
    "record",
    "same_truth",
    "worked",
]

_TICKED = (("inclusion", "must be met"), ("exclusion", "must not be met"), ("criteria", "criterion"))
_LISTS = (
    ("inclusion", "Inclusion criteria"),
    ("exclusion", "Exclusion criteria"),
    ("criteria", "Eligibility criteria"),
)


def record(case: Case) -> str:
    """Patient, then trial: title, conditions, who may take part, criteria."""
    fields = case.fields
    lines = ["Patient:", fields["note"], "", f"Trial: {fields['title']}"]
    if fields["conditions"]:
        lines.append(f"Conditions: {fields['conditions']}")
    if who := _who(fields):
        lines.append(f"Open to: {who}")
    for name, heading in _LISTS:
        if fields[name]:
            lines += [f"{heading}:", *(f"- {statement}" for statement in fields[name].split("\n"))]
    return "\n".join(lines)


def hints(case: Case) -> Mapping[str, str]:
    """`criteria`: a list to tick off, one criterion after the other."""
    asked = [(word, statement) for name, word in _TICKED for statement in case.fields[name].split("\n") if statement]
    if not asked:
        return {}
    lines = [f"{number}. {word}: {statement}" for number, (word, statement) in enumerate(asked, start=1)]
    return {
        "criteria": "\n".join(["Decide for each whether it is met, not met or not stated, before you answer:", *lines])
    }


def _who(fields: Mapping[str, str]) -> str:
    """The registry's own limits of sex and age; "" where it states none."""
    limits = [] if fields["sex"].lower() in ("", "all", "both") else [fields["sex"].lower()]
    limits += [f"{word} {age}" for word, age in (("from", fields["minimum_age"]), ("to", fields["maximum_age"])) if age]
    return ", ".join(limits)


def question(case: Case) -> str:
    first, second, third = (f'"{label}"' for label in case.truth["labels"])
    asked = (
        f"Is this patient eligible for this trial? Answer {first} if the trial is not about the patient's condition, {second} if it is "
        f"but the patient does not meet its criteria, {third} if the patient may take part."
    )
    return f"{asked} {case.fields['rule']}" if "rule" in case.fields else asked


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    """Of the labels, and of each patient's trials ranked by the grade the model expects."""
    scores = eligibility_scores(answers, probabilities)
    topics = [case.provenance["topic"] for case in cases]
    trials = [case.provenance["trial"] for case in cases]
    grades = [case.truth["value"] for case in cases]
    labels = label_measures(grades, answers, cases[0].truth["labels"])
    return {**labels, "ranking": ranking_measures(topics, trials, grades, scores)}


def eligibility_scores(answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]) -> list[float]:
    """The expected grade, sum of grade times probability; the grade answered where there are no probabilities; 0 for a malformed answer."""
    return [
        float(answer or 0) if shares is None else sum(grade * share for grade, share in enumerate(shares))
        for answer, shares in zip(answers, probabilities, strict=True)
    ]


def worked(case: Case, draw: random.Random) -> Case | None:
    """The case itself where its source says how the label comes about, as made-up pairs do; None elsewhere: grades come without reasons."""
    del draw
    return case if case.rationale else None
