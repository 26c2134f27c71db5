"""Makes general questions that show what training makes a model forget: arithmetic and short texts.

Item i is a pure function of (seed, i) for a choice of kinds. The questions are Cases of the family
`table`. No record of any person was used.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from ehrmind.data.labels import label_truth
from ehrmind.types import Case, InputError, Split

Question = tuple[str, str, dict[str, Any], str]  # record, question, truth, worked answer

PEOPLE = (
    "Amara",
    "Bruno",
    "Chen",
    "Dalia",
    "Emil",
    "Farah",
    "Gwen",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Luis",
    "Mona",
    "Nils",
)
THINGS = ("book", "kite", "lamp", "map", "clock", "violin", "camera", "basket", "bicycle", "umbrella")
PLACES = (
    "in the kitchen",
    "in the garden",
    "at the station",
    "in the library",
    "on the roof",
    "at the harbour",
    "in the cellar",
)
COLOURS = ("red", "blue", "green", "yellow", "black", "white")
GOODS = ("pears", "stamps", "marbles", "tickets", "candles", "shells")


def addition(draw: random.Random) -> Question:
    a, b = draw.randint(10, 999), draw.randint(10, 999)
    return "", f"What is {a} plus {b}?", _whole(a + b), f"{a} + {b} = {a + b}"


def subtraction(draw: random.Random) -> Question:
    a, b = sorted((draw.randint(10, 999), draw.randint(10, 999)), reverse=True)
    return "", f"What is {a} minus {b}?", _whole(a - b), f"{a} - {b} = {a - b}"


def multiplication(draw: random.Random) -> Question:
    a, b = draw.randint(3, 99), draw.randint(3, 12)
    return "", f"What is {a} times {b}?", _whole(a * b), f"{a} * {b} = {a * b}"


def word_problem(draw: random.Random) -> Question:
    who, goods = draw.choice(PEOPLE), draw.choice(GOODS)
    packs, each = draw.randint(2, 9), draw.randint(3, 12)
    gone = draw.randint(1, packs * each - 1)
    left = packs * each - gone
    text = f"{who} buys {packs} bags with {each} {goods} each and gives {gone} of them away. How many {goods} are left?"
    return "", text, _whole(left), f"{packs} * {each} = {packs * each}; {packs * each} - {gone} = {left}"


def who_has_it(draw: random.Random) -> Question:
    people, things = draw.sample(PEOPLE, 4), draw.sample(THINGS, 4)
    colours = [draw.choice(COLOURS) for _ in things]
    said = [f"{who} has the {colour} {thing}." for who, colour, thing in zip(people, colours, things, strict=True)]
    asked = draw.randrange(4)
    draw.shuffle(said)
    names = sorted(people)
    truth = label_truth(names.index(people[asked]), names)
    return (
        " ".join(said),
        f"Who has the {things[asked]}?",
        truth,
        f"The text says that {people[asked]} has the {things[asked]}.",
    )


def where_it_is(draw: random.Random) -> Question:
    """Asks where a thing is at first, or in the end, after it was carried from place to place."""
    who, thing = draw.choice(PEOPLE), draw.choice(THINGS)
    way = draw.sample(PLACES, 3)
    said = [f"First the {thing} is {way[0]}.", f"Then {who} puts it down {way[1]}.", f"In the evening it is {way[2]}."]
    asked, when = draw.choice(((0, "at first"), (2, "in the evening")))
    places = sorted(way)
    return " ".join(said), f"Where is the {thing} {when}?", label_truth(places.index(way[asked]), places), said[asked]


def who_is_oldest(draw: random.Random) -> Question:
    people = draw.sample(PEOPLE, 3)
    ages = draw.sample(range(20, 80), 3)
    said = [f"{who} is {age} years of age." for who, age in zip(people, ages, strict=True)]
    word, chosen = draw.choice((("oldest", max), ("youngest", min)))
    found, names = people[ages.index(chosen(ages))], sorted(people)
    return (
        " ".join(said),
        f"Who is the {word}?",
        label_truth(names.index(found), names),
        f"{chosen(ages)} is the {word} age, so {found}.",
    )


KINDS: dict[str, Callable[[random.Random], Question]] = {
    "addition": addition,
    "subtraction": subtraction,
    "multiplication": multiplication,
    "word_problem": word_problem,
    "who_has_it": who_has_it,
    "where_it_is": where_it_is,
    "who_is_oldest": who_is_oldest,
}


def synthetic_general(n: int, seed: int, split: Split, kinds: Sequence[str] = ()) -> list[Case]:
    """Makes the first n questions of a seed, with the kinds in turn.

    Raises InputError for an unknown kind.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise InputError(f"'{unknown[0]}' is not a kind of general questions; there are {', '.join(KINDS)}.")
    asked = [kind for kind in KINDS if kind in kinds] or list(KINDS)
    return [_case(seed, index, split, asked[index % len(asked)]) for index in range(n)]


def _case(seed: int, index: int, split: Split, kind: str) -> Case:
    record, question, truth, worked = KINDS[kind](random.Random(f"{seed}:general:{index}"))
    name = f"general-{seed}-{index}"
    return Case(
        id=name,
        family="table",
        task=kind,
        stratum=f"table/general/{kind}",
        split=split,
        group=name,
        fields={"question": question, "record": record},
        truth=truth,
        rationale=worked,
        provenance={"generator": "made-up", "seed": seed, "index": index},
    )


def _whole(value: int) -> dict[str, Any]:
    return {"kind": "integer", "value": value, "unit": None}
