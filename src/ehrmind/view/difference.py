"""Compares two answers word by word. Bounded: hostile texts cost seconds at most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

MOST_WORDS = 4_000  # of either text, without the words that both begin and end with
# A more frequent word is no anchor in a long text: difflib's time grows with the square of this.
MOST_TIMES = 8
LONG = 400  # words
_WORD = re.compile(r"\s*\S+|\s+\Z")

Pieces = list[list[str]]


def word_difference(before: str, after: str) -> tuple[Pieces, bool]:
    """([[kind, words]], whether all was compared); the kind is "same", "gone" or "new".

    The words past the bound are gone and new as a whole.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    head = _alike(old, new)
    tail = _alike(old[head:][::-1], new[head:][::-1])
    old_middle, new_middle = old[head : len(old) - tail], new[head : len(new) - tail]
    found: Pieces = []
    _add(found, "same", old[:head])
    compared = max(len(old_middle), len(new_middle)) <= MOST_WORDS
    for kind, first, last, new_first, new_last in _steps(old_middle[:MOST_WORDS], new_middle[:MOST_WORDS]):
        if kind == "equal":
            _add(found, "same", old_middle[first:last])
        else:
            _add(found, "gone", old_middle[first:last])
            _add(found, "new", new_middle[new_first:new_last])
    _add(found, "gone", old_middle[MOST_WORDS:])
    _add(found, "new", new_middle[MOST_WORDS:])
    _add(found, "same", old[len(old) - tail :])
    return found, compared


def _steps(old: Sequence[str], new: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    often: frozenset[str] = frozenset()
    if max(len(old), len(new)) > LONG:
        often = frozenset(word for word, times in Counter(new).items() if times > MOST_TIMES)
    return SequenceMatcher(often.__contains__, old, new, autojunk=False).get_opcodes()


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of words that both begin with."""
    return next(
        (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right),
        min(len(one), len(other)),
    )


def _add(found: Pieces, kind: str, words: Sequence[str]) -> None:
    text = "".join(words)
    if not text:
        return
    if found and found[-1][0] == kind:
        found[-1][1] += text
    else:
        found.append([kind, text])
