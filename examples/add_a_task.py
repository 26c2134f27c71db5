"""A task family of one's own, in one file: which results of a panel lie outside their limits? The answer is a list of names.

    python examples/add_a_task.py

A question whose answer is a number, a whole number, a day or a label needs no code: it is a table (docs/your-data.md). A family is written
where the answer has a form of its own. It is a module with the functions of `ehrmind.tasks.Task`; in the package it is a file in tasks/ and
an entry of the dict `TASKS` there (docs/adding-a-task.md has the whole list). Here the script enters itself.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ehrmind.parsing import reasons
from ehrmind.prompts import gold_response, messages
from ehrmind.tasks import TASKS
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
NO_NAMES = "not a list of results' names"  # a reason of our own: malformed, as all are but those in reasons.WELL_FORMED


def record(case: Case) -> str:
    return case.fields["panel"]


def question(case: Case) -> str:
    return (
        "Which results lie outside their limits? Answer with the list of their names, an empty one if there are none."
    )


def aids(case: Case) -> Mapping[str, str]:
    return {}


def answer_example(case: Case) -> str:
    return as_json(["name", "name"])  # the form, and no hint of the truth


def gold_answer(case: Case) -> str:
    return as_json(case.truth["value"])


def options(case: Case) -> tuple[str, ...]:
    return ()  # too many to list


def read(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    """The names in order, and why the answer is no list of them. Never raises, whatever JSON comes."""
    if not isinstance(answer, list) or any(type(name) is not str for name in answer):
        return None, NO_NAMES
    names = sorted(name.strip().lower() for name in answer)
    if len(set(names)) < len(names) or not set(names) <= LIMITS.keys():
        return None, NO_NAMES
    return names, reasons.WRONG_UNIT if unit not in (None, "") else None


def check(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    names, reason = read(case, answer, unit)
    return names, reason if reason is not None or names == sorted(case.truth["value"]) else reasons.WRONG_VALUE


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    return {}  # accuracy is all


def corruptions(case: Case) -> Iterator[tuple[str, str]]:
    """Answers near the right one that must not pass; `ehrmind check` tries them on every case."""
    right = case.truth["value"]
    for name in LIMITS:
        yield "wrong value", as_json([other for other in right if other != name] if name in right else [*right, name])
        yield "given twice", as_json([*right, name, name])
    yield "no list", as_json(", ".join(right))
    yield "no such name", as_json([*right, "ferritin"])
    yield "wrong unit", json.dumps({"answer": right, "unit": "mmol/L"})


def worked(case: Case, draw: random.Random) -> Case | None:
    return case if case.rationale else None


def same_truth(case: Case, other: Case) -> bool:
    return sorted(case.truth["value"]) == sorted(other.truth["value"])


def as_json(names: Sequence[str] | str) -> str:
    return json.dumps({"answer": names})


def synthetic(index: int, seed: int = 0, split: Split = "train") -> Case:
    """Item `index` is a function of the seed; the rationale goes through the results one by one."""
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
    TASKS[FAMILY] = sys.modules[__name__]
    cases = [synthetic(index) for index in range(50)]
    shown = next(case for case in cases if case.truth["value"])
    print(f"--- a prompt\n{messages(shown)[0].content}\n--- its gold response\n{gold_response(shown)}\n---")
    for names in (shown.truth["value"], list(LIMITS), "all of them"):
        verdict = judge(shown, f"<think>A guess.</think>\n<answer>{as_json(names)}</answer>")
        print(f"{as_json(names)}: reward {verdict.reward}, {verdict.reason or 'right'}")
    report = check_cases(cases)
    gold, corrupted = report.gold, report.corrupted
    print(
        f"with full marks: {gold.passed} of {gold.total} gold responses, {corrupted.passed} of {corrupted.total} corrupted ones"
    )
    if not report.ok:
        raise SystemExit(f"The family is not proven: {report.failures[:3]}")


if __name__ == "__main__":
    main()
