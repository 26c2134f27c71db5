"""Probabilities of labels from samples: the share of each label among further answers to the same
question.

They include the variation of the reasoning. `rollout.answer_probabilities` instead reads the
probabilities at the place of one answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ehrmind import tasks
from ehrmind.config import Evaluate
from ehrmind.runs.records import RolloutRow
from ehrmind.types import Case
from ehrmind.verify import judge

SAMPLES = "samples"  # takes the place of a decoding


def with_labels(cases: Sequence[Case]) -> list[Case]:
    """Returns the cases whose answers are labels."""
    return [case for case in cases if tasks.of(case).options(case)]


def origin(evaluate: Evaluate) -> str:
    """Says where the probabilities come from, for results.json."""
    return f"{SAMPLES} ({evaluate.samples})" if evaluate.probabilities == SAMPLES else evaluate.probabilities


def label_shares(rows: Sequence[RolloutRow], cases: Mapping[str, Case], think: bool) -> dict[str, list[float]]:
    """Returns, by case, the share of every label among its well-formed answers. A case without any
    has no entry."""
    answers: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.well_formed:
            answers[row.case].append(judge(cases[row.case], row.text, think=think).answer)
    shares = {}
    for name, given in answers.items():
        times = Counter(given)
        shares[name] = [times[label] / len(given) for label in range(len(cases[name].truth["labels"]))]
    return shares
