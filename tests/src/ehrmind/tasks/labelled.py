"""What the families share whose answer is one of a few labels: trial matching, and yes/no or graded prediction.

A truth is `{"kind": "label", "value": 2, "labels": ["not relevant", "excluded", "eligible"]}`: the number is the
place of the word, in the prompt, the gold answer, the check and the warm-up alike. An answer may be the word, the
number, or both where they agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ehrmind.types import Case
from ehrmind.verify import reasons
from ehrmind.verify.compare import read_label

# Other words for a label, as papers and released prompts have them.
ALSO: Mapping[str, tuple[str, ...]] = {"not relevant": ("irrelevant",), "excluded": ("ineligible", "not eligible")}


def answer_example(case: Case) -> str:
    """The first label, whatever the truth is."""
    return as_json(case.truth["labels"][0])


def gold_answer(case: Case) -> str:
    return as_json(case.truth["labels"][case.truth["value"]])


def options(case: Case) -> tuple[str, ...]:
    """Every answer there is, in the labels' order."""
    return tuple(map(as_json, case.truth["labels"]))


def read(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    """The label's number, and the reason why it is none (None: it is one)."""
    value, _, reason = read_label(answer, numbers_of(tuple(case.truth["labels"])))
    if reason is not None:
        return None, reason
    return value, reasons.WRONG_UNIT if unit is not None and unit != "" else None


def check(case: Case, answer: Any, unit: Any) -> tuple[Any, str | None]:
    """The label's number, and the reason why it is not right (None: it is right)."""
    value, reason = read(case, answer, unit)
    if reason is not None:
        return value, reason
    return value, None if value == case.truth["value"] else reasons.WRONG_LABEL


@lru_cache(maxsize=256)
def numbers_of(labels: tuple[str, ...]) -> dict[str, int]:
    """{word: number} of the labels and their other names, in lower case."""
    return {name: number for number, label in enumerate(labels) for name in (label.lower(), *ALSO.get(label, ()))}


def corruptions(case: Case) -> Iterator[tuple[str, str]]:
    """Every other label in every form, and the ways not to commit to one."""
    labels, value = case.truth["labels"], case.truth["value"]
    gold = labels[value]
    for number, label in enumerate(labels):
        if number != value:
            yield "swapped label", as_json(label)
            yield "swapped label", as_json(number)
            yield "swapped label", as_json(str(number))
            yield "word and number disagree", as_json(f"{value} ({label})")
            yield "word and number disagree", as_json(f"{gold}: {number}")
            yield "list of guesses", as_json([gold, label])
            yield "list of guesses", as_json(f"{gold} or {label}")
            yield "list of guesses", as_json(f"{label}, {gold}")
            yield "list of guesses", as_json(f"{value} or {number}")
    yield "no such label", as_json(len(labels))
    yield "no such label", as_json(-1)
    yield "no such label", as_json(value + 0.4)
    yield "no such label", as_json("perhaps")
    yield "negated label", as_json(f"not {gold}")
    yield "expression", as_json(f"{value} + 0")
    yield "wrong unit", json.dumps({"answer": gold, "unit": "kg"})
    for nothing in ("null", '""', "{}", "[]", '"unknown"'):
        yield "no value", f'{{"answer": {nothing}}}'


def same_truth(case: Case, other: Case) -> bool:
    """Whether the other's gold answer would be right here too."""
    return gold_answer(case) == gold_answer(other)


def as_json(answer: Any) -> str:
    return json.dumps({"answer": answer})
