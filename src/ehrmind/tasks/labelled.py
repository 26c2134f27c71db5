"""Answers that are one of a few labels, such as trial matching and yes/no or graded prediction.

A truth is `{"kind": "label", "value": 2, "labels": ["not relevant", "excluded", "eligible"]}`. The
value is the word's place in the list, everywhere: prompt, gold answer, check and warm-up. An answer
may be the word or the number, or both if they agree; the number alone is not accepted if a label is
itself a number. `ehrmind.labels` normalises the spelling.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ehrmind.labels import label_key, labels_of, says_a_number
from ehrmind.measures import label_measures
from ehrmind.parsing import reasons
from ehrmind.parsing.compare import read_label
from ehrmind.types import Case


def record(case: Case) -> str:
    return case.fields["record"]


def question(case: Case) -> str:
    """The case's own question, followed by the labels."""
    return f"{case.fields['question']} {answer_with(case)}"


def answer_with(case: Case) -> str:
    """The sentence that lists the labels."""
    return f"Answer with one of: {listed(case.truth['labels'])}."


def answer_example(case: Case) -> str:
    """The first label, whatever the truth is."""
    return as_json(case.truth["labels"][0])


def gold_answer(case: Case) -> str:
    return as_json(case.truth["labels"][case.truth["value"]])


def options(case: Case) -> tuple[str, ...]:
    """All possible answers, in the labels' order."""
    return tuple(map(as_json, case.truth["labels"]))


def read(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    """The label's number, and the reason why the answer is no label (None: it is one)."""
    value, _, reason = read_label(answer, labels_of(tuple(case.truth["labels"])))
    if reason is not None:
        return None, reason
    return value, reasons.WRONG_UNIT if unit is not None and unit != "" else None


def check(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    """The label's number, and the reason why it is not right (None: it is right)."""
    value, reason = read(case, answer, unit)
    if reason is not None:
        return value, reason
    return value, None if value == case.truth["value"] else reasons.WRONG_LABEL


def listed(labels: Sequence[str]) -> str:
    """The labels as a question lists them. They are in quotes if one holds a comma or ends in a
    full stop.
    """
    plain = not any("," in label or label.endswith(".") for label in labels)
    return ", ".join(labels if plain else [f'"{label}"' for label in labels])


def corruptions(case: Case) -> Iterator[tuple[str, str]]:
    """Every other label in every form, and answers that commit to none. Those that happen to spell
    the right label are left out.
    """
    right = label_key(case.truth["labels"][case.truth["value"]])
    for name, answer in _wrong(case.truth["labels"], case.truth["value"]):
        if isinstance(answer, list) or label_key(str(answer)) != right:
            yield name, as_json(answer)
    yield "wrong unit", json.dumps({"answer": case.truth["labels"][case.truth["value"]], "unit": "kg"})
    for nothing in ("null", '""', "{}", "[]", *(['"unknown"'] if right != "unknown" else [])):
        yield "no value", f'{{"answer": {nothing}}}'


def _wrong(labels: Sequence[str], value: int) -> Iterator[tuple[str, Any]]:
    gold = labels[value]
    for number, label in enumerate(labels):
        if number != value:
            yield "swapped label", label
            yield "swapped label", number
            yield "swapped label", str(number)
            yield "word and number disagree", f"{value} ({label})"
            yield "word and number disagree", f"{gold}: {number}"
            yield "list of guesses", [gold, label]
            yield "list of guesses", f"{gold} or {label}"
            yield "list of guesses", f"{label}, {gold}"
            yield "list of guesses", f"{value} or {number}"
    if any(map(says_a_number, labels)):
        yield "place of a label that says a number", value
        yield "place of a label that says a number", value + 1
    yield "no such label", len(labels)
    yield "no such label", -1
    yield "no such label", value + 0.4
    yield "no such label", "perhaps"
    yield "negated label", f"not {gold}"
    yield "expression", f"{value} + 0"


def same_truth(case: Case, other: Case) -> bool:
    """Tells whether the other case's gold answer would be right here too."""
    return gold_answer(case) == gold_answer(other)


def measures(
    cases: Sequence[Case], answers: Sequence[Any], probabilities: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    del probabilities
    return label_measures([case.truth["value"] for case in cases], answers, cases[0].truth["labels"])


def as_json(answer: Any) -> str:
    return json.dumps({"answer": answer})
