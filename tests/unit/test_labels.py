"""An answer that is one of a few labels: the word, the number, or both where they agree."""

from __future__ import annotations

from typing import Any

import pytest

from ehrmind.labels import labels_of
from ehrmind.verify import reasons
from ehrmind.verify.compare import read_label

TRIALS = labels_of(("not relevant", "excluded", "eligible"))
YES_NO = labels_of(("no", "yes"))


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("eligible", 2), (" Eligible. ", 2), (2, 2), (2.0, 2), ("2", 2), ("2 (eligible)", 2), ("eligible (2)", 2), ("2: eligible", 2),
        ("2 - Eligible", 2), ("not_relevant", 0), ("Not-Relevant", 0), ("irrelevant", 0), ("0 (not relevant)", 0), ("NOT  RELEVANT", 0),
        ("not eligible", 1), ("ineligible", 1), ("1, excluded", 1),
    ],
)  # fmt: skip
def test_a_label_is_read_as_a_person_would(answer: Any, value: int) -> None:
    assert read_label(answer, TRIALS) == (value, "", None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("eligible or excluded", reasons.GUESSES), (["eligible"], reasons.GUESSES), ("0 (eligible)", reasons.GUESSES),
        ("1: eligible", reasons.GUESSES),         ("not relevant, excluded", reasons.GUESSES),
        (3, reasons.NOT_A_LABEL), (-1, reasons.NOT_A_LABEL), (1.5, reasons.NOT_A_LABEL),
        ("perhaps", reasons.NOT_A_LABEL), (None, reasons.NOT_A_LABEL), (True, reasons.NOT_A_LABEL), ({}, reasons.NOT_A_LABEL),
        ("", reasons.NOT_A_LABEL), ("3", reasons.NOT_A_LABEL), ("very eligible", reasons.NOT_A_LABEL), ("²", reasons.NOT_A_LABEL),
        ("eligible" * 40, reasons.NOT_A_LABEL), (float("nan"), reasons.NOT_A_LABEL), ("2 + 0", reasons.NOT_A_LABEL),
    ],
)  # fmt: skip
def test_what_is_no_one_label_is_named(answer: Any, reason: str) -> None:
    assert read_label(answer, TRIALS).reason == reason


@pytest.mark.parametrize(("answer", "value"), [(True, 1), (False, 0), ("Yes", 1), ("no", 0), (1, 1), ("0", 0), ("1 (yes)", 1)])
def test_yes_and_no_may_be_true_and_false(answer: Any, value: int) -> None:
    assert read_label(answer, YES_NO).value == value
