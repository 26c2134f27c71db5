"""Proves a random sample of the cases before a run learns from them: gold answers are right,
corruptions are wrong.

`ehrmind check` proves all cases. It also covers what is left out here: worked answers, and
corruptions that break the protocol, which hold nothing of a case.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from ehrmind import tasks
from ehrmind.prompts.chat import gold_response
from ehrmind.prompts.protocol import ANSWER_OPEN, neutral, wrap
from ehrmind.types import Case, InputError
from ehrmind.verify.judge import judge

OF_TASK, OF_ALL = 200, 2_000  # cases drawn per task, and in all
OF_CASE, VERDICTS = 500, 40_000  # corruptions per case, and verdicts in all: about two seconds


def refuse_unproven(cases: Sequence[Case], seed: int, *, think: bool = True) -> dict[str, int]:
    """Counts the cases that were proven and their corruptions.

    Raises InputError that names the first case that fails, and its task.
    """
    proven = {"cases": 0, "corruptions": 0}
    for case, neighbour in _drawn(cases, seed):
        if proven["corruptions"] >= VERDICTS:
            break
        if any(neutral(label) != label for label in case.truth.get("labels", ())):
            raise _refused(case, "a label spells a marker of a model's turns, so no prompt can show it as it is")
        plain = replace(case, rationale=None)
        gold = gold_response(plain, think)
        verdict = judge(plain, gold, think=think)
        if not verdict.correct:
            raise _refused(case, f"its own gold answer is judged wrong ({verdict.reason})")
        head = gold[: gold.rindex(ANSWER_OPEN)]
        for name, answer in islice(_wrong(case, neighbour), OF_CASE):
            proven["corruptions"] += 1
            if judge(plain, head + wrap(None, answer), think=think).correct:
                raise _refused(case, f"a wrong answer ({name}) is judged right")
        proven["cases"] += 1
    return proven


def _drawn(cases: Sequence[Case], seed: int) -> Iterator[tuple[Case, Case | None]]:
    """Draws cases by seed, taking the tasks in turn. Pairs each case with the one drawn before it
    from its task."""
    by_task: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        by_task[case.family, case.task].append(case)
    count = min(OF_TASK, max(1, OF_ALL // max(1, len(by_task))))
    chosen = [
        random.Random(f"{seed}:proof:{task}").sample(of, min(count, len(of))) for task, of in sorted(by_task.items())
    ]
    for turn in range(count):
        for of in chosen:
            if turn < len(of):
                yield of[turn], of[turn - 1] if turn else None


def _wrong(case: Case, neighbour: Case | None) -> Iterator[tuple[str, str]]:
    task = tasks.of(case)
    if neighbour is not None and not task.same_truth(case, neighbour):
        yield "another case's answer", task.gold_answer(neighbour)
    yield from task.corruptions(case)


def _refused(case: Case, problem: str) -> InputError:
    remedy = "correct its row or take it out; `ehrmind check` finds all such cases"
    return InputError(f"Case {case.id} of the task {case.family}/{case.task}: {problem}; {remedy}.")
