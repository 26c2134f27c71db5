"""Prediction from a coded history: what will happen, or what a result will be, asked at a
prediction time.

The questions of the 15 EHRSHOT tasks (arXiv 2307.02028) say what counts, over which horizon, and
seen from when. They follow the benchmark's code where code and website differ. Any other label file
is a task too: it has its own question, or one made from its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.files import lines_of
from ehrmind.measures import label_measures, risk_measures
from ehrmind.tasks.labelled import answer_with
from ehrmind.tasks.task import Task
from ehrmind.types import Case, InputError

_ADMITTED = "The patient was admitted to hospital today, and it is 23:59."
_DISCHARGED = "The patient was discharged from hospital today, and it is 23:59."
_FIRST = "Will the patient get a first diagnosis of {} between 1 and 365 days from now?"
_NEXT = "In one minute the patient's next {} result comes in. Will it be normal{}"
QUESTIONS = {
    "guo_los": f"{_ADMITTED} Will this hospital stay last 7 days or more, counted from the admission?",
    "guo_readmission": f"{_DISCHARGED} Will the patient be admitted to hospital again within 30 days?",
    "guo_icu": f"{_ADMITTED} Will the patient be transferred to intensive care before the discharge from this stay?",
    "lab_thrombocytopenia": _NEXT.format(
        "platelet count", " (150 x10^9/L or more), mild (100 to 149), moderate (50 to 99) or severe (below 50)?"
    ),
    "lab_hyperkalemia": _NEXT.format(
        "potassium", " (5.5 mmol/L or less), mild (above 5.5), moderate (above 6) or severe (above 7)?"
    ),
    "lab_hypoglycemia": _NEXT.format(
        "glucose", " (above 3.9 mmol/L), mild (3.5 to 3.9), moderate (3.0 to 3.4) or severe (below 3.0)?"
    ),
    "lab_hyponatremia": _NEXT.format(
        "sodium", " (above 135 mmol/L), mild (130 to 135), moderate (125 to 129) or severe (below 125)?"
    ),
    "lab_anemia": _NEXT.format(
        "hemoglobin", " (120 g/L or more), mild (110 to 119), moderate (70 to 109) or severe (below 70)?"
    ),
    "new_hypertension": f"{_DISCHARGED} {_FIRST.format('essential hypertension')}",
    "new_hyperlipidemia": f"{_DISCHARGED} {_FIRST.format('hyperlipidemia')}",
    "new_pancan": f"{_DISCHARGED} {_FIRST.format('pancreatic cancer')}",
    "new_celiac": f"{_DISCHARGED} {_FIRST.format('celiac disease')}",
    "new_lupus": f"{_DISCHARGED} {_FIRST.format('lupus')}",
    "new_acutemi": f"{_DISCHARGED} {_FIRST.format('acute myocardial infarction')}",
    "next_hemoglobin_low": "Will the patient's next hemoglobin be below 13 g/dL?",
    "chexpert": "In 24 hours the patient's next chest radiograph is reported. Will it show {}?",
}

# Words, in lower case, that mark the history's lines about a task's question.
DECIDING = {
    "lab_thrombocytopenia": ("platelet",),
    "lab_hyperkalemia": ("potassium",),
    "lab_hypoglycemia": ("glucose",),
    "lab_hyponatremia": ("sodium",),
    "lab_anemia": ("hemoglobin",),
    "next_creatinine_high": ("creatinine",),
    "next_hemoglobin_low": ("hemoglobin",),
    "guo_readmission": ("admi", "discharge", "visit", "inpatient"),
    "readmission_30d": ("admi", "discharge", "visit", "inpatient"),
    "guo_los": ("admi", "discharge", "visit", "inpatient"),
    "guo_icu": ("icu", "intensive", "critical"),
    "new_hypertension": ("blood pressure", "hypertens"),
    "new_hyperlipidemia": ("cholesterol", "lipid", "triglycerid"),
    "new_celiac": ("celiac", "coeliac", "transglutaminase"),
    "new_lupus": ("lupus", "antinuclear"),
    "new_acutemi": ("infarct", "troponin", "chest pain", "angina"),
    "new_pancan": ("pancrea", "ca 19-9"),
}


def record(case: Case) -> str:
    """The history as text. A stored Case is only a reference; `prompts.records` writes the history
    into it first.
    """
    if "history" not in case.fields:
        raise InputError(f"The case {case.place} is a reference without its history; ask it through a recipe.")
    return case.fields["history"]


def question(case: Case) -> str:
    asked = case.fields.get("question") or QUESTIONS.get(case.task)
    if asked is None and case.task.startswith("chexpert_"):
        asked = QUESTIONS["chexpert"].format(case.task.removeprefix("chexpert_").replace("_", " "))
    asked = asked or f"Seen from the time of this record, what holds for '{case.task.replace('_', ' ')}'?"
    return f"{asked} {answer_with(case)}"


def hints(case: Case) -> Mapping[str, str]:
    """`events`: the history's lines about what is asked, for tasks in `DECIDING`."""
    words = DECIDING.get(case.task, ())
    lines = [line for line in lines_of(case.fields.get("history", "")) if any(word in line.lower() for word in words)]
    return {"events": "\n".join(["What the record says of it:", *lines])} if lines else {}


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    """Label measures, and those of the risk that the label is above the first (yes, or any grade
    above normal).

    Intervals of the risk are over subjects.
    """
    truths, labels = [case.truth["value"] for case in cases], cases[0].truth["labels"]
    return {
        **label_measures(truths, answers, labels),
        "risk": risk_measures(
            [truth > 0 for truth in truths], risks(answers, probabilities), [case.group for case in cases]
        ),
    }


def risks(answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]) -> list[float]:
    """Each answer's probability of any label but the first. Without probabilities: 1, 0, or 0.5 if
    malformed.
    """

    def risk(answer: Any, shares: Sequence[float] | None) -> float:
        if shares is not None:
            return 1.0 - shares[0]
        return 0.5 if answer is None else float(answer > 0)

    return [risk(answer, shares) for answer, shares in zip(answers, probabilities, strict=True)]


TASK = Task(
    record=record,
    question=question,
    measures=measures,
    hints=hints,
    hint_causes={"events": "overlooking events"},
)
