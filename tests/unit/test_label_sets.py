"""Sets of labels and answers to them, drawn: the right label in every form is right, everything
else is wrong, and nothing raises.
"""

from __future__ import annotations

import json
import random
import re
import time
import unicodedata
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest

from ehrmind import tasks
from ehrmind.labels import problem_of, says_a_number
from ehrmind.prompts import gold_response, messages
from ehrmind.prompts.protocol import wrap
from ehrmind.types import Case
from ehrmind.verify import judge
from ehrmind.verify.judge import read

WORDS = """no yes none some mild moderate severe benign malignant follow-up discharge not_relevant relevant irrelevant excluded eligible
ineligible unknown perhaps true false pos. neg. change naïve straße fine Ärger Ωmega 日本 низкий"""
PHRASES = (
    "not relevant",
    "not eligible",
    "no  change",
    "T1-T2",
    "T1 T3",
    "non\u2013small cell",
    "Crohn's disease",
    "Crohn\u2019s",
    "a, b",
    "stage II",
)
PHRASES += (
    "Stage 1",
    "Stage 2",
    "2 or more",
    "one",
    "two or three",
    "IV",
    "IIIa",
    "III b",
    "low or high",
    "0 (low)",
    "high: 1",
    "ﬁne",
    "5 %",
    "50%",
)
SIGNS = (
    "A+",
    "A-",
    "A\u2212",
    "AB+",
    "\u2264 5",
    "<5",
    "> 5",
    ">=5",
    "+",
    "-",
    "--",
    "\u00bd",
    "10\u00b2",
    "kg/m\u00b2",
    "CO\u2082",
    "\u2460",
    "#1",
    "*",
    "?",
)
NUMBERS = (
    "0",
    "1",
    "2",
    "3",
    "4",
    "10",
    "20",
    "102",
    "02",
    "007",
    "2.0",
    "0.5",
    ".5",
    "-1",
    "-0",
    "+5",
    "5",
    "1.5",
    "1,5",
    "1,234",
    "1234",
    "1e5",
    "\uff12",
)
NUMBERS += (
    "\u0663",
    "100000",
    "9007199254740993",
    "9007199254740992",
    "0x10",
    "1/2",
    "1:2",
    "1_000",
    "nan",
    "inf",
    "1 000",
)
DRAWN = (WORDS.split(), PHRASES, SIGNS, NUMBERS)
LETTERS = "aAbBzZéßµ019 -_.+<>=/%'\u2013\u00a0\u00b2\u00bd\u0301\u200b\u2160\uff21"
GRADES = [[str(number) for number in range(first, first + count)] for first in (0, 1) for count in (2, 3, 5, 12)]


def drawn_set(draw: random.Random) -> list[str]:
    if draw.random() < 0.1:
        return draw.sample(grades := draw.choice(GRADES), len(grades)) if draw.random() < 0.5 else draw.choice(GRADES)
    kind = draw.choice((DRAWN, DRAWN[:1], DRAWN[:2], DRAWN[2:], DRAWN[3:]))
    return [_label(draw, kind) for _ in range(draw.choice((1, 2, 2, 3, 3, 4, 6)))]


def _label(draw: random.Random, kind: Any) -> str:
    if draw.random() < 0.15:
        return "".join(draw.choice(LETTERS) for _ in range(draw.randint(1, 6)))
    words = [draw.choice(draw.choice(kind)) for _ in range(draw.choice((1, 1, 1, 2)))]
    return draw.choice((" ", "-", "_", " / ")).join(words)


def bare(text: str) -> str:
    """Returns what a reader of the label sees, by our own rule: no case, no spaces, joints or
    quotes; signs count."""
    text = unicodedata.normalize("NFC", text.translate({ord(sign): "-" for sign in "\u2212\u2013\u2010"}))
    text = re.sub(r"(?<![0-9\u00b2])\u00bd(?![0-9\u00b2])", "1/2", text)
    text = "".join(
        (
            unicodedata.normalize("NFKC", sign)
            if unicodedata.category(sign)[0] == "L" or unicodedata.category(sign) in ("Nl", "Nd")
            else sign
        )
        for sign in text
    )
    text = (
        "".join(sign for sign in text.casefold() if sign not in "\u200b_ \u00a0\t").replace("\u2019", "'").rstrip(".")
    )
    while len(text) > 2 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        text = text[1:-1].rstrip(".")
    return unicodedata.normalize("NFC", re.sub(r"(?<=\w)-+(?=\w)", "", text))


def value_of(text: str) -> Decimal | None:
    """The number that a text is, where it is one."""
    plain = "".join(
        str(unicodedata.decimal(sign)) if sign.isdecimal() else sign
        for sign in text.replace("\u200b", "").strip(" _\u00a0")
    )
    plain = plain.rstrip(".")
    head, comma, tail = plain.partition(",")
    if comma and (len(tail) != 3 or not head.strip("+-0")):
        plain = f"{head}.{tail}"
    try:
        found = Decimal(plain.replace("\u2212", "-").replace("\u2013", "-")) if "_" not in plain else None
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() else None


def alike(one: str, other: str) -> bool:
    first, second = value_of(one), value_of(other)
    if first is not None and second is not None:
        return first == second or float(first) == float(second)
    return bare(one) == bare(other)


def forms(label: str, draw: random.Random) -> Iterator[Any]:
    """Ways to write a label that have one reading."""
    yield label
    yield f"  {label}\n"
    yield f'"{label}"' if '"' not in label else label
    if label.strip(" .\u00a0\u200b"):
        yield f"{label}."
    if all(sign.upper().casefold() == sign.casefold() for sign in label):
        yield label.upper()
    yield label.casefold() if label.casefold().upper() == label.upper() else label
    if label.isascii():
        yield "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" and sign not in "'\"`" else sign for sign in label)
    inside = [
        at
        for at, sign in enumerate(label)
        if sign in " -_" and label[at - 1 : at].isalpha() and label[at + 1 : at + 2].isalpha() and at
    ]
    if inside and value_of(label) is None:
        at = draw.choice(inside)
        yield label[:at] + draw.choice((" ", "-", "_", "\u2013", "\u2011", "\u00a0", "  ")) + label[at + 1 :]
    number = value_of(label)
    if number is not None and abs(number) < 2**53 and len(label) < 12:
        yield float(number)
        yield f"{number:f}"
        yield f"{number}e0" if "E" not in str(number) else label
        if number == number.to_integral_value():
            yield int(number)
            yield f"{int(number)}.0"
            yield ("-" if number < 0 else "") + f"0{abs(int(number))}"


def noise(labels: list[str], draw: random.Random) -> Iterator[Any]:
    gold = draw.choice(labels)
    yield from (
        f"not {gold}",
        f"{gold} or {draw.choice(labels)}",
        gold[:-1],
        gold + draw.choice("+-²0x?%"),
        "<" + gold,
        [gold],
        {gold: 1},
    )
    yield from (
        draw.randint(-3, 12),
        draw.random() * 4,
        draw.choice((True, False, None, 1e300, -0.0, 10**18, "", " ", "\ud800", "9" * 5000)),
    )
    yield "".join(draw.choice(LETTERS + "()[]:,;") for _ in range(draw.randint(1, 8)))
    yield _label(draw, DRAWN)


def case(labels: list[str], value: int) -> Case:
    truth = {"kind": "label", "value": value, "labels": labels}
    return Case("t-1", "table", "t", "table/t/label", "train", "g", {"question": "Which?", "record": ""}, truth)


def said(answer: Any) -> str:
    return wrap(None, json.dumps({"answer": answer}))


def proves(labels: list[str], draw: random.Random) -> bool:
    """Whether the set was taken; every assertion is about what a user would notice."""
    pairs = [(one, other) for at, one in enumerate(labels) for other in labels[:at]]
    if problem_of(labels) is not None:
        problem, places = problem_of(labels) or ("", ())
        one, other = (*places, *places)[:2] if len(places) > 1 else (places[0], places[0])
        assert len(places) == 1 or alike(labels[one], labels[other]), (labels, "refused, though they differ")
        assert len(places) > 1 or not bare(labels[one]).strip(" ._-") or "tag" in problem, (labels, problem)
        return False
    same = [
        pair
        for pair in pairs
        if bare(pair[0]) == bare(pair[1]) and re.search(r"\w", bare(pair[0])) and value_of(pair[0]) == value_of(pair[1])
    ]
    assert not same, (labels, "two are one")
    counted = not any(map(says_a_number, labels))
    for value, gold in enumerate(labels):
        mine = case(labels, value)
        assert judge(mine, gold_response(mine)).correct, (labels, value, "the gold answer")
        assert judge(mine, wrap(None, tasks.of(mine).options(mine)[value]), think=False).correct
        for name, text in tasks.of(mine).corruptions(mine):
            assert not judge(mine, wrap(None, text), think=False).correct, (labels, value, name, text)
        for other, label in enumerate(labels):
            for form in forms(label, draw):
                right = judge(mine, said(form), think=False).correct
                assert right == (value == other), (
                    labels,
                    value,
                    form,
                    "is read as another label" if right else "is not read",
                )
        for form in noise(labels, draw):
            if judge(mine, said(form), think=False).correct:
                word = json.dumps(form) if isinstance(form, bool | int | float) else form
                place = counted and value_of(str(word)) == value
                pair = form is bool(value_of(gold)) or gold.casefold().strip(". ") in ("yes", "no", "true", "false")
                fits = isinstance(word, str) and (
                    alike(word, gold) or place or pair or bare(word) in ("noteligible", "ineligible", "irrelevant")
                )
                assert fits or (counted and str(value) in str(word)), (labels, value, form, "is right")
    assert read(case(labels, 0), said([labels[0]]), think=False)[0] is None
    assert messages(case(labels, 0))
    return True


def run(count: int, seed: int) -> int:
    draw, taken = random.Random(seed), 0
    for _ in range(count):
        taken += proves(drawn_set(draw), draw)
    return taken


def test_right_labels_are_right_in_every_form_and_all_else_is_wrong() -> None:
    assert run(300, seed=1) > 240


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 7))
def test_fifty_thousand_sets_of_labels(seed: int) -> None:
    began = time.process_time()
    taken = run(10_000, seed)
    print(f"10,000 sets of labels, {taken:,} of them taken, in {time.process_time() - began:.0f} s of a processor")
    assert taken > 8_000
