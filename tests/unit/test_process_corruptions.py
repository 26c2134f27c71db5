"""The audit proven on known errors: right rationales pass, and an error put in at a known place is
found there.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks._reasoning_errors import KINDS, corrupt
from ehrmind.calculators.telling import STYLES
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.process_audit import audit, thinking_of
from ehrmind.prompts import gold_response
from ehrmind.types import Case

STEPS = ("number in an expression", "result of a step", "operator", "unit", "points or total", "conclusion")


def found_there(case: Case, kind: str) -> bool | None:
    """Whether a finding overlaps the error; None where the rationale has no place for one of this
    kind."""
    gold = gold_response(case)
    thinking, start = thinking_of(gold)
    made = corrupt(kind, thinking, random.Random(f"{case.id}:{kind}"))
    if made is None:
        return None
    found = audit(case, gold[:start] + made.text + gold[start + len(thinking) :])
    begin, end = made.start + start, made.end + start
    return any(f.start is not None and f.end is not None and f.start < end and begin < f.end for f in found.findings)


@pytest.mark.parametrize("style", STYLES)
def test_right_rationales_of_all_calculators_pass_and_nine_errors_of_ten_are_found_where_they_are(style: str) -> None:
    cases = synthetic_cases(55, 11, "held_out", styles=[style])
    assert sum(audit(case, gold_response(case)).flawed for case in cases) == 0
    asked, found = Counter[str](), Counter[str]()
    for case in cases:
        for kind in STEPS:
            there = found_there(case, kind)
            asked[kind] += there is not None
            found[kind] += there is True
    for kind in STEPS:
        assert found[kind] >= 0.9 * asked[kind] or asked[kind] - found[kind] <= 2, (
            f"{kind}: {found[kind]} of {asked[kind]}"
        )
    assert sum(found.values()) >= 0.95 * sum(asked.values())


def test_an_error_changes_one_place_by_seed_and_changes_what_is_said() -> None:
    case = synthetic_cases(1, 11, "held_out", ["creatinine-clearance"], styles=["numbered"])[0]
    text = case.rationale or ""
    for kind in KINDS:
        made = corrupt(kind, text, random.Random(1))
        if made is None:
            continue
        assert made == corrupt(kind, text, random.Random(1))
        tail = len(made.text) - made.end
        assert made.text[: made.start] == text[: made.start]
        assert made.text[made.end :] == text[len(text) - tail :]
        assert made.text[made.start : made.end] != text[made.start : len(text) - tail]
