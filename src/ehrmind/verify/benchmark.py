"""Scores by MedCalc-Bench's own lenient rules, to compare with ours.

The rules are those of arXiv 2406.12036 as the released trainer of arXiv 2505.24105 applies them:

- The last answer block counts, whatever stands around it.
- Dates are equal as month/day/year, and ages by their first two numbers.
- Scores are equal after rounding, and other values inside the limits. A number must be a bare one.
- Labels are equal by word or number.

There is one deliberate difference: the original runs `eval` on the answer, so an uncomputed
expression passes there. This module executes nothing, so an expression is wrong. `docs/verifier.md`
shows where these rules and ours part.
"""

from __future__ import annotations

import datetime
import json
import re

from ehrmind.labels import labels_of
from ehrmind.parsing.compare import read_label
from ehrmind.parsing.parse import MAX_ANSWER
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN
from ehrmind.types import Case, InputError

# kinds of truth that the benchmark has a rule for
KINDS = frozenset({"label", "date", "weeks_days", "integer", "decimal"})
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2})?")
_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
_AGE = re.compile(r"([0-9]{1,4})[^0-9]{1,20}([0-9]{1,4})")


def benchmark_score(case: Case, text: str) -> bool:
    """True if the benchmark would call this response right.

    Never raises on a text. Raises InputError for a truth that the benchmark has no rule for.
    """
    truth = case.truth
    kind = truth["kind"]
    if kind not in KINDS:
        raise InputError(
            f"The case {case.place} has a truth of a kind for which the benchmark has no rule; score it with `scorer: "
            f"ehrmind`."
        )
    answer = _last_answer(text)
    if kind == "label":
        return answer is not None and read_label(answer, labels_of(tuple(truth["labels"]))).value == truth["value"]
    if kind == "date":
        return answer is not None and _date(answer) == truth["value"]
    if kind == "weeks_days":
        age = _AGE.search(answer or "")
        return age is not None and (int(age[1]), int(age[2])) == (truth["weeks"], truth["days"])
    if answer is None or not _NUMBER.fullmatch(answer):
        return False
    value = float(answer)
    return round(value) == truth["value"] if kind == "integer" else bool(truth["low"] <= value <= truth["high"])


def _last_answer(text: str) -> str | None:
    end = text.rfind(ANSWER_CLOSE)
    start = text.rfind(ANSWER_OPEN, 0, max(end, 0))
    block = text[start + len(ANSWER_OPEN) : end]
    if start < 0 or len(block) > MAX_ANSWER:
        return None
    try:
        tree = json.loads(block, parse_int=str, parse_float=str)
        return str(tree["answer"]).strip() if isinstance(tree, dict) and "answer" in tree else None
    except (ValueError, RecursionError):
        return None


def _date(answer: str) -> str | None:
    found = _DATE.fullmatch(answer)
    try:
        return datetime.date(int(found[3]), int(found[1]), int(found[2])).isoformat() if found else None
    except ValueError:  # no such day
        return None
