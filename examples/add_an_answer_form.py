"""A task whose answer has a form of its own: which results of a panel lie outside their limits? The
answer is a list of names.

    python examples/add_an_answer_form.py

A question whose answer is a number, a whole number, a day or a label needs no code: it is a table
(docs/your-data.md). A form of your own needs the functions below. docs/extending.md says what each
must do, and where they go in the package. Here the script adds the entry itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from ehrmind.parsing import reasons
from ehrmind.prompts import gold_response, messages
from ehrmind.tasks import TASKS, Task
from ehrmind.tasks.task import Reading
from ehrmind.types import Case, Split
from ehrmind.verify import judge
from ehrmind.verify.audit import check_cases

FAMILY = "panel"
LIMITS = {
    "sodium": (135, 145),
    "potassium": (3.5, 5.1),
    "chloride": (98, 107),
    "calcium": (2.2, 2.6),
    "glucose": (3.9, 5.6),
}
NO_NAMES = (  # a reason of our own: malformed, as all are that are not in reasons.WELL_FORMED
    "not a list of results' names"
)


def as_json(names: Sequence[str] | str) -> str:
    return json.dumps({"answer": names})


def read(case: Case, answer: Any, unit: Any) -> Reading:
    """The names in order, and why the answer is no list of them. Never raises, whatever JSON
    comes."""
    if not isinstance(answer, list) or any(type(name) is not str for name in answer):
        return None, NO_NAMES
    names = sorted(name.strip().lower() for name in answer)
    if len(set(names)) < len(names) or not set(names) <= LIMITS.keys():
        return None, NO_NAMES
    return names, reasons.WRONG_UNIT if unit not in (None, "") else None


def check(case: Case, answer: Any, unit: Any) -> Reading:
    names, reason = read(case, answer, unit)
    return names, reason if reason is not None or names == sorted(case.truth["value"]) else reasons.WRONG_VALUE


def corruptions(case: Case) -> Iterator[tuple[str, str]]:
    """Answers near the right one that must not pass; `ehrmind check` tries them on every case."""
    right = case.truth["value"]
    for name in LIMITS:
        yield "wrong value", as_json([other for other in right if other != name] if name in right else [*right, name])
        yield "given twice", as_json([*right, name, name])
    yield "no list", as_json(", ".join(right))
    yield "no such name", as_json([*right, "ferritin"])
    yield "wrong unit", json.dumps({"answer": right, "unit": "mmol/L"})


PANEL = Task(
    record=lambda case: case.fields["panel"],
    question=lambda case: (
        "Which results lie outside their limits? Answer with the list of their names, an empty one if there are none."
    ),
    answer_example=lambda case: as_json(["name", "name"]),  # the form, and no hint of the truth
    gold_answer=lambda case: as_json(case.truth["value"]),
    options=lambda case: (),  # too many to list
    read=read,
    check=check,
    corruptions=corruptions,
    same_truth=lambda case, other: sorted(case.truth["value"]) == sorted(other.truth["value"]),
    measures=lambda cases, answers, probabilities: {},  # accuracy is enough
)


def synthetic(index: int, seed: int = 0, split: Split = "train") -> Case:
    """The case at `index` of a seed. Its rationale goes through the results one by one."""
    draw = random.Random(f"{seed}:{index}")
    values = {name: round(draw.uniform(low * 0.9, high * 1.1), 1) for name, (low, high) in LIMITS.items()}
    outside = [name for name, (low, high) in LIMITS.items() if not low <= values[name] <= high]
    said = [
        f"{name} {value} is {'outside' if name in outside else 'within'} {LIMITS[name][0]} to {LIMITS[name][1]}"
        for name, value in values.items()
    ]
    return Case(
        id=f"panel-{seed}-{index}",
        family=FAMILY,
        task="out-of-limits",
        stratum=f"{FAMILY}/chemistry/out-of-limits",
        split=split,
        group=f"panel-{seed}-{index}",
        fields={
            "panel": "\n".join(
                f"{name}: {value} mmol/L ({LIMITS[name][0]} to {LIMITS[name][1]})" for name, value in values.items()
            )
        },
        truth={"kind": "names", "value": outside},
        rationale="; ".join(said) + ".",
    )


def main() -> None:
    TASKS[FAMILY] = PANEL
    cases = [synthetic(index) for index in range(50)]
    shown = next(case for case in cases if case.truth["value"])
    print(f"--- a prompt\n{messages(shown)[0].content}\n--- its gold response\n{gold_response(shown)}\n---")
    for names in (shown.truth["value"], list(LIMITS), "all of them"):
        verdict = judge(shown, f"<think>A guess.</think>\n<answer>{as_json(names)}</answer>")
        print(f"{as_json(names)}: reward {verdict.reward}, {verdict.reason or 'right'}")
    report = check_cases(cases)
    gold, corrupted = report.gold, report.corrupted
    print(
        f"with full marks: {gold.passed} of {gold.total} gold responses, {corrupted.passed} of {corrupted.total}"
        " corrupted ones"
    )
    if not report.ok:
        raise SystemExit(f"The task is not proven: {report.failures[:3]}")


if __name__ == "__main__":
    main()
