"""Patient-trial matching: a patient's description, a trial's eligibility criteria, and one of
TREC's three grades.

Labels are those of TREC Clinical Trials (2021-2023). 0, not relevant: the trial is about something
else. 1, excluded: it is about the patient's condition, but the criteria exclude the patient. 2:
eligible. The released code of arXiv 2505.24105 swaps the words of 0 and 1 between prompt, reward
and warm-up. Here word and number come from one list (`tasks.labelled`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.measures import label_measures, ranking_measures
from ehrmind.tasks.task import Task
from ehrmind.types import Case

_TICKED = (("inclusion", "must be met"), ("exclusion", "must not be met"), ("criteria", "criterion"))
_LISTS = (
    ("inclusion", "Inclusion criteria"),
    ("exclusion", "Exclusion criteria"),
    ("criteria", "Eligibility criteria"),
)


def record(case: Case) -> str:
    """The patient, then the trial."""
    return f"{patient(case)}\n\n{trial(case)}"


def patient(case: Case) -> str:
    return f"Patient:\n{case.fields['note']}"


def trial(case: Case) -> str:
    """The trial: title, conditions, who may take part, criteria."""
    fields = case.fields
    lines = [f"Trial: {fields['title']}"]
    if fields["conditions"]:
        lines.append(f"Conditions: {fields['conditions']}")
    if who := _who(fields):
        lines.append(f"Open to: {who}")
    for name, heading in _LISTS:
        if fields[name]:
            lines += [f"{heading}:", *(f"- {statement}" for statement in fields[name].split("\n"))]
    return "\n".join(lines)


def hints(case: Case) -> Mapping[str, str]:
    """`criteria`: a numbered list of the criteria, to decide one by one."""
    asked = [(word, statement) for name, word in _TICKED for statement in case.fields[name].split("\n") if statement]
    if not asked:
        return {}
    lines = [f"{number}. {word}: {statement}" for number, (word, statement) in enumerate(asked, start=1)]
    return {
        "criteria": "\n".join(["Decide for each whether it is met, not met or not stated, before you answer:", *lines])
    }


def _who(fields: Mapping[str, str]) -> str:
    """The registry's limits of sex and age; "" if it states none."""
    limits = [] if fields["sex"].lower() in ("", "all", "both") else [fields["sex"].lower()]
    limits += [f"{word} {age}" for word, age in (("from", fields["minimum_age"]), ("to", fields["maximum_age"])) if age]
    return ", ".join(limits)


def question(case: Case) -> str:
    first, second, third = (f'"{label}"' for label in case.truth["labels"])
    asked = (
        f"Is this patient eligible for this trial? Answer {first} if the trial is not about the patient's condition,"
        f" {second} if it is but the patient does not meet its criteria, {third} if the patient may take part."
    )
    return f"{asked} {case.fields['rule']}" if "rule" in case.fields else asked


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    """Label measures, and ranking measures of each patient's trials by their expected grade."""
    scores = eligibility_scores(answers, probabilities)
    topics = [case.provenance["topic"] for case in cases]
    trials = [case.provenance["trial"] for case in cases]
    grades = [case.truth["value"] for case in cases]
    labels = label_measures(grades, answers, cases[0].truth["labels"])
    return {**labels, "ranking": ranking_measures(topics, trials, grades, scores)}


def eligibility_scores(answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]) -> list[float]:
    """Expected grades: sums of grade times probability. Without probabilities: the grade answered,
    0 if malformed.
    """
    return [
        float(answer or 0) if shares is None else sum(grade * share for grade, share in enumerate(shares))
        for answer, shares in zip(answers, probabilities, strict=True)
    ]


TASK = Task(
    record=record,
    question=question,
    measures=measures,
    hints=hints,
    hint_causes={"criteria": "overlooking criteria"},
)
