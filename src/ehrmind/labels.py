"""Labels: the one spelling that decides which label a word is, in recipes, cells, answers and
thoughts.

A set in which two labels share a spelling is refused, so each label is the right answer to itself
and to no other.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ehrmind.characters import plain
from ehrmind.types import InputError

LONGEST = 200  # characters of a label

# Other words for a label, as papers and released prompts have them.
ALSO: Mapping[str, tuple[str, ...]] = {"not relevant": ("irrelevant",), "excluded": ("ineligible", "not eligible")}

_MARKS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u201a\u201b\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
    }
    | {"\u2044": "/", "\u2215": "/", "\u2264": "<=", "\u2265": ">=", "\u3002": "."}
)
_NUMBER = re.compile(r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:e([+-]?[0-9]{1,3}))?")
_DECIMAL_COMMA = re.compile(r"([+-]?)(0+(?=,)|[0-9]+(?=,(?![0-9]{3}$)))?,([0-9]+)")
# A hyphen between words is a space; after a word, as in A-, it is a sign.
_JOINED = re.compile(r"(?<=[^\W_])(?:[-_]+| - )(?=[^\W_])|_")
_SIGN_THEN_SPACE = re.compile(r"([<>=~\u2248]) +")
_TAG = re.compile(r"<[A-Za-z/|\uff5c!][^<>\s]*>")
_WORD = re.compile(r"\w+")
_NUMERALS = frozenset(
    (
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
        *("first", "second", "third", "fourth", "fifth", "once", "twice", "thrice", "single", "double", "triple"),
        *("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"),
    )
)


@dataclass(frozen=True, slots=True)
class Labels:
    """A set of labels.

    `numbers` maps each label's spelling, and those of its other words, to its place. `spoken` has
    the words of each label with its place, by first word. `counted`: a bare number is a place,
    counted from 0. It is false if a label contains a number, as `2`, `Stage 2`, `IV` and
    `two or more` do.
    """

    names: tuple[str, ...]
    numbers: Mapping[str, int]
    counted: bool
    spoken: Mapping[str, Sequence[tuple[str, int]]]


@lru_cache(maxsize=256)
def labels_of(names: tuple[str, ...]) -> Labels:
    """Reads a set of labels. A label has its other words only if none of them is another label."""
    own = {label_key(name): number for number, name in enumerate(names)}
    others = {
        word: number
        for key, number in own.items()
        if not any(label_key(word) in own for word in ALSO.get(key, ()))
        for word in ALSO.get(key, ())
    }
    spoken: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for word, number in (own | others).items():
        if words := words_of(word):
            spoken[words[0]].append((f"{' '.join(words)} ", number))
    return Labels(names, own | others, not any(says_a_number(name) for name in names), dict(spoken))


def words_of(text: str) -> list[str]:
    return _WORD.findall(text)


def label_key(word: str) -> str:
    """Returns the spelling that decides which label a word is.

    It ignores case, character width, quotes around the word, runs of spaces and a full stop at the
    end. A hyphen or underscore between words is a space. All ways of writing a number are the same.
    Signs count: A+ and A-, 5 and <=5.
    """
    text = word if word.isascii() else plain(_compatible(plain(word))).translate(_MARKS)
    text = unicodedata.normalize("NFC", text.casefold())
    text = _unquoted(" ".join(text.split()))
    if number := _number(text):
        return number
    text = " ".join(_SIGN_THEN_SPACE.sub(r"\1", _JOINED.sub(" ", text)).split())
    return _number(text) or text.rstrip(". ")


def is_number(word: str) -> bool:
    return _number(label_key(word)) is not None


def says_a_number(word: str) -> bool:
    """True if a label has a number in it, in digits, in signs (\u00bd), Roman or in words."""
    if any(letter.isnumeric() for letter in word):
        return True
    words = re.findall(r"[a-z]+", word.casefold())
    return any({part, part.rstrip("abc")} & _NUMERALS for part in words)  # the letter of IIIa is removed


def problem_of(names: Sequence[str]) -> tuple[str, tuple[int, ...]] | None:
    """Returns (what is wrong with a set of labels, the places of the labels concerned), or None."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        key = label_key(name)
        if not key:
            return "says nothing", (number,)
        if len(name) > LONGEST:
            return f"has {len(name):,} characters, and {LONGEST} fit", (number,)
        if _TAG.search(name):
            return "looks like a tag, which no prompt can show as it is", (number,)
        # numbers that JSON readers cannot tell apart are the same
        same = f"is {float(key)!r}" if is_number(key) else key
        first = seen.setdefault(same, number)
        if first != number:
            return "are one and the same when capitals, spaces, hyphens, quotes and full stops do not count", (
                first,
                number,
            )
    return None


def refuse_labels(names: Sequence[str], row: str = "") -> None:
    """Raises InputError that names the labels which no reader of answers could tell apart.

    If they come from a `row` of a file, the message has their places and not their text.
    """
    found = problem_of(names)
    if found is None:
        return
    problem, places = found
    said = [str(place + 1) if row else f"'{names[place][:LONGEST]}'" for place in places]
    several, it = ("s", "them") if said[1:] else ("", "it")
    raise InputError(f"{row + ': ' if row else ''}label{several} {' and '.join(said)} {problem}; write {it} otherwise.")


def _compatible(text: str) -> str:
    """Replaces the letters that Unicode calls compatible (full width, ligatures, Roman numerals)
    with ordinary ones.

    A raised, lowered or circled number becomes an ordinary one only after a letter (m\u00b2). A
    fraction does only if no number is next to it. So 10\u00b2 does not become 102.
    """
    text = unicodedata.normalize("NFC", text)
    found = []
    for place, letter in enumerate(text):
        other, before, after = (
            unicodedata.normalize("NFKC", letter),
            text[max(0, place - 1) : place],
            text[place + 1 : place + 2],
        )
        kept = other != letter and any(sign.isnumeric() for sign in other)
        if kept and not after.isnumeric():
            kept = (
                before.isnumeric()
                if "\u2044" in other
                else not (before.isalpha() or (before and unicodedata.combining(before)))
            )
        found.append(letter if kept else other)
    return unicodedata.normalize("NFC", "".join(found))


def _unquoted(text: str) -> str:
    """Removes the full stop at the end, and quotes around the whole text."""
    while len(text := _stopped(text)) > 2 and text[0] == text[-1] and text[0] in "'\"`" and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _stopped(text: str) -> str:
    """Removes the full stops at the end."""
    return text.rstrip(". ")


def _number(text: str) -> str | None:
    """Returns the one way of writing a number; None for what is not a number. 1,234 is not one: it
    has two readings."""
    if found := _NUMBER.fullmatch(text):
        sign, whole, part, power = found[1], found[2] or "", found[3] or found[4] or "", int(found[5] or 0)
    elif found := _DECIMAL_COMMA.fullmatch(text):
        sign, whole, part, power = found[1], found[2] or "", found[3], 0
    else:
        return None
    digits = (whole + part).lstrip("0")
    short = digits.rstrip("0")
    power += len(digits) - len(short) - len(part)
    if not short:
        return "0"
    if power >= 0:
        written = short + "0" * power if power <= 40 else f"{short}e{power}"
    else:
        padded = short.rjust(1 - power, "0")
        written = f"{padded[:power]}.{padded[power:]}" if power >= -40 else f"{short}e{power}"
    return ("-" if sign == "-" else "") + written
