"""Baselines that read nothing: they give the same answer to every question of a calculator or task.

`commonest_label` answers with a number or date, `majority_label` with one of a few labels. Not to
be confused with the arms in `_majority`, which vote over samples of a model."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from ehrmind import tasks
from ehrmind.runs.records import Guess
from ehrmind.types import Case

NUMBERS = ("decimal", "integer")


def commonest_label(train: Sequence[Case], asked: Sequence[Case]) -> dict[str, Guess]:
    """Returns each stratum's commonest answer in train, for numbers and dates of families that
    train has. A stratum that train lacks gets no answer, which is wrong."""
    of = {stratum: commonest_answer(cases) for stratum, cases in _by_stratum(train).items()}
    return {case.id: Guess(answer=of.get(case.stratum)) for case in _values(train, asked)}


def commonest_label_oracle(train: Sequence[Case], asked: Sequence[Case]) -> dict[str, Guess]:
    """Returns the commonest answer among the asked cases themselves, for the cases that
    `commonest_label` is made for. It has seen their gold answers, so it is no fair baseline: no
    other single answer per stratum reaches more."""
    of = {stratum: commonest_answer(cases, any_number=True) for stratum, cases in _by_stratum(asked).items()}
    return {case.id: Guess(answer=of[case.stratum]) for case in _values(train, asked)}


def commonest_answer(cases: Sequence[Case], *, any_number: bool = False) -> str:
    """Returns the answer, as JSON text, that the check accepts for most cases of one stratum.

    A number is accepted by every case within whose limits it lies. In cross-validation on 1,024
    train rows of MedCalc-Bench this is right on 15.4 %, the commonest exact value on 9.8 %.
    Candidates are the gold answers; with `any_number` all lower limits too, so that no number at
    all is accepted more often (15.0 %). Of a tie, the more frequent gold answer wins, then the
    first by value and text."""
    exact = Counter(tasks.of(case).gold_answer(case) for case in cases)
    numeric = [case for case in cases if case.truth["kind"] in NUMBERS]
    limits = [_limits(case) for case in numeric]
    lows, highs = sorted(low for low, _ in limits), sorted(high for _, high in limits)
    numbers = {tasks.of(case).gold_answer(case): float(case.truth["value"]) for case in numeric}
    if any_number:
        numbers |= {json.dumps({"answer": low}): low for low in lows}

    def rank(answer: str) -> tuple[int, int, float, str]:
        if answer not in numbers:
            return -exact[answer], -exact[answer], 0.0, answer
        accepted = bisect_right(lows, numbers[answer]) - bisect_left(highs, numbers[answer])
        return -accepted, -exact[answer], numbers[answer], answer

    return min({**exact, **numbers}, key=rank)


def majority_label(train: Sequence[Case], asked: Sequence[Case]) -> dict[str, Guess]:
    """Returns the most frequent label of train for each task whose answers are labels, with the
    shares of all labels as probabilities. Of a tie, the first label wins."""
    found: dict[str, Guess] = {}
    questions = by_label_task(asked)
    for task, cases in by_label_task(train).items():
        counts = Counter(case.truth["value"] for case in cases)
        for case in questions.get(task, ()):
            found[case.id] = guess_of_shares(
                case, [counts[place] / len(cases) for place in range(len(case.truth["labels"]))]
            )
    return found


def guess_of_shares(case: Case, shares: Sequence[float]) -> Guess:
    """Returns the likeliest label, the first of a tie, with the probabilities of all labels."""
    likeliest = max(range(len(shares)), key=shares.__getitem__)
    return Guess(answer=tasks.of(case).options(case)[likeliest], probabilities=tuple(shares))


def has_labels(case: Case) -> bool:
    return bool(case.truth["kind"] == "label")


def by_label_task(cases: Sequence[Case]) -> dict[Hashable, list[Case]]:
    """Groups the cases whose answers are labels by task. Tasks of one name with other labels are
    not the same."""
    found: dict[Hashable, list[Case]] = defaultdict(list)
    for case in cases:
        if has_labels(case):
            found[case.family, case.task, tuple(case.truth["labels"])].append(case)
    return found


def _by_stratum(cases: Sequence[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if not has_labels(case):
            found[case.stratum].append(case)
    return found


def _values(train: Sequence[Case], asked: Sequence[Case]) -> list[Case]:
    """Lists the asked cases that want a number or a date and whose family train has."""
    families = {case.family for case in train if not has_labels(case)}
    return [case for case in asked if case.family in families and not has_labels(case)]


def _limits(case: Case) -> tuple[float, float]:
    truth = case.truth
    return (truth["value"], truth["value"]) if truth["kind"] == "integer" else (truth["low"], truth["high"])
