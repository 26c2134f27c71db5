"""A labelled task of your own: how soon must this patient be seen?

    python examples/add_a_task.py

A task is a `Task` with one function for each part; the defaults are those of a task whose answers
are labels. In the package it is a file in tasks/ and an entry of `TASKS` in tasks/__init__.py. Here
the script adds the entry itself. If your table already holds question and record, no code is needed
(docs/your-data.md). If the answer is not a label, see examples/add_an_answer_form.py.
"""

from __future__ import annotations

from ehrmind.data.labels import label_truth
from ehrmind.prompts import gold_response, messages
from ehrmind.tasks import TASKS, Task
from ehrmind.tasks.labelled import answer_with
from ehrmind.types import Case
from ehrmind.verify import judge
from ehrmind.verify.audit import check_cases

TRIAGE = Task(
    record=lambda case: case.fields["note"],
    question=lambda case: f"How soon must this patient be seen? {answer_with(case)}",
    hints=lambda case: {"rule": "Now: a heart rate above 130 or below 40. Today: a fever. Otherwise later."},
    hint_causes={"rule": "not knowing the rule"},
)


def triage_case(number: int, note: str, answer: str) -> Case:
    """One case. They may come from anywhere; `save_cases` writes them into a file for
    `data.source.cases` of a recipe.
    """
    return Case(
        id=f"triage-{number}",
        family="triage",
        task="urgency",
        stratum="triage/emergency/urgency",
        split="train",
        group=f"patient-{number}",
        fields={"note": note},
        truth=label_truth(("later", "today", "now").index(answer), ("later", "today", "now")),
    )


def main() -> None:
    TASKS["triage"] = TRIAGE
    notes = {"Heart rate 150, dizzy.": "now", "Fever for two days.": "today", "Needs a new prescription.": "later"}
    cases = [triage_case(number, *found) for number, found in enumerate(notes.items())]
    print(f"--- a prompt\n{messages(cases[0])[0].content}\n--- its gold response\n{gold_response(cases[0])}\n---")
    for answer in ("now", "later", "at once"):
        verdict = judge(cases[0], f'<think>A guess.</think>\n<answer>{{"answer": "{answer}"}}</answer>')
        print(f"{answer}: reward {verdict.reward}, {verdict.reason or 'right'}")
    report = check_cases(cases)
    print(
        f"full marks: {report.gold.passed} of {report.gold.total} gold responses, {report.corrupted.passed} corrupted"
        " ones"
    )
    if not report.ok:
        raise SystemExit(f"The task is not proven: {report.failures[:3]}")


if __name__ == "__main__":
    main()
