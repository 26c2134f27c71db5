"""Markers of turns: a tokenizer's special tokens, and the strings that its chat template writes
around turns.

Chat templates put text and markers into one string before it is tokenised. So a text that spells a
marker would end the user's turn or begin another. Such a text is changed, and not its encoding: a
space is put inside the spelling. Sampler, learner, another trainer and a server then read the same
tokens. The space is visible, because normalisers drop invisible characters.

All other text keeps its tokens. Added tokens that are not special, such as runs of spaces, are no
markers unless the template writes them.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from ehrmind.files import lines_of
from ehrmind.prompts.protocol import TAGS
from ehrmind.types import InputError, Message

ROUNDS = 8
SEPARATORS = (" ", "·", "_")  # the last two are for normalisers that drop a space
CONTENTS = tuple(f"what-turn-{number}-says" for number in range(1, 5))
CONVERSATIONS = (
    ("user",),
    ("user", "assistant"),
    ("user", "assistant", "user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant", "tool", "assistant"),
)
COLONS = (":", "：")
BRACKETED = re.compile(r"<{1,2}[^<>\n]{1,60}>{1,2}|\[[^\[\]\n]{1,60}\]")

Render = Callable[[Sequence[Message], bool], str]  # (messages, whether an answer follows); raises InputError


@dataclass(frozen=True)
class Markers:
    """The markers of a tokenizer and its template.

    No text may spell the tokens `ids`. `spelled` finds markers as written. `folds`: the tokenizer
    may also find a token in another spelling, such as capitals or full-width letters. `folded`
    finds the template's words in such spellings.
    """

    tokenizer: Any
    ids: frozenset[int]
    spelled: re.Pattern[str] | None
    folds: bool
    folded: re.Pattern[str] | None = None

    def apart(self, text: str) -> str:
        """Takes every marker in a text apart, except the protocol's tags.

        Raises InputError if that is impossible.
        """
        for number in range(ROUNDS):
            separator = SEPARATORS[number % len(SEPARATORS)]
            made = text if self.spelled is None else self.spelled.sub(partial(_cut_found, separator), text)
            places = self._tokens(made) if made != text or self.folds else []
            for start, end in reversed(places or self._words(made)):
                made = made[:start] + _cut(made[start:end], separator) + made[end:]
            if made == text:
                return text
            text = made
        name = str(self.tokenizer.name_or_path).rpartition("/")[2] or "The model"
        raise InputError(
            f"A text spells a special token of {name} that cannot be told from its own, whatever is put inside; "
            "take that token off the tokenizer's special tokens."
        )

    def _tokens(self, text: str) -> list[tuple[int, int]]:
        """Finds the places of tokens that a text may not spell, as the tokenizer reads it."""
        if not self.tokenizer.is_fast:  # it gives no places, so only `spelled` can be used
            return []
        read = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        places = zip(read["input_ids"], read["offset_mapping"], strict=True)
        found = [(start, end) for token, (start, end) in places if token in self.ids]
        return [(start, end) for start, end in found if text[start:end].strip() not in TAGS]

    def _words(self, text: str) -> list[tuple[int, int]]:
        """Finds the places of the template's words as the tokenizer normalises them."""
        if self.folded is None:
            return []
        normaliser = self.tokenizer.backend_tokenizer.normalizer
        letters = {letter: _folded(normaliser, letter) for letter in set(text)}
        starts = list(accumulate((len(letters[letter]) for letter in text), initial=0))
        found = self.folded.finditer("".join(letters[letter] for letter in text))
        return [(bisect_right(starts, match.start()) - 1, bisect_left(starts, match.end())) for match in found]


def find_markers(tokenizer: Any, render: Render) -> Markers:
    """Collects a tokenizer's markers. Renders its template with placeholders for contents."""
    written = set(_written(render))
    template = str(tokenizer.chat_template)
    added = tokenizer.added_tokens_decoder.items()
    named = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    tokens = {
        number: token
        for number, token in added
        if len(token.content.strip()) > 1
        and not _is_ours(token.content)
        and (
            token.special
            or number in named
            or token.content in written
            or (_is_bracketed(token.content) and token.content in template)
        )
    }
    whole = sorted((token.content for token in tokens.values() if not token.single_word), key=len, reverse=True)
    words = sorted((token.content for token in tokens.values() if token.single_word), key=len, reverse=True)
    strings = sorted(
        (text for text in written - {*whole, *words} if not (_is_ours(text) or text.isalnum())), key=len, reverse=True
    )
    patterns = [
        *map(re.escape, whole),
        *(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words),  # as `tokenizers` takes single words
        *map(_alone, strings),
    ]
    spelled = re.compile("|".join(patterns), 0 if tokenizer.is_fast else re.IGNORECASE) if patterns else None
    ids = frozenset(tokens) - {tokenizer.unk_token_id}
    return Markers(tokenizer, ids, spelled, _folds(tokenizer, tokens.values()), _folded_words(tokenizer, strings))


def _alone(text: str) -> str:
    """Builds the pattern of a string that is no part of a longer word: "User:", but not inside
    "EndUser:".
    """
    return rf"(?<![^\W_]){re.escape(text)}" if text[0].isalnum() else re.escape(text)


def _cut_found(mark: str, found: re.Match[str]) -> str:
    return _cut(found.group(), mark)


def _cut(spelling: str, mark: str) -> str:
    """Puts a separator inside: before a colon at the end ("User :"), otherwise after the first
    character ("[ INST]").
    """
    start = len(spelling) - len(spelling.lstrip())
    body = spelling.strip()
    if len(body) < 2:  # one character that stands for several is replaced by its normalised form
        body = unicodedata.normalize("NFKC", body)
        if len(body) < 2:
            return spelling
    place = len(body) - 1 if body.endswith(COLONS) and len(body) > 2 else 1
    return spelling[:start] + body[:place] + mark + body[place:] + spelling[len(spelling.rstrip()) :]


def _written(render: Render) -> Iterator[str]:
    """Yields what the template writes before, between and after the contents of turns, without its
    preamble.
    """
    contents = re.compile("|".join(CONTENTS))
    for roles in CONVERSATIONS:
        turns = [Message(role, content) for role, content in zip(roles, CONTENTS, strict=False)]  # type: ignore[arg-type]
        for generation in (False, True):
            try:
                head, *others = contents.split(render(turns, generation))
            except InputError:  # no such roles in this template
                continue
            marked = BRACKETED.search(head) is not None
            yield from _pieces((head.strip().rpartition("\n")[2]), marked=marked)
            for part in others:
                yield from _pieces(part, marked=BRACKETED.search(part) is not None)


def _pieces(text: str, *, marked: bool) -> Iterator[str]:
    """Yields the markers of a template's text.

    Words next to a bracketed marker, such as a role, are no markers unless they end in a colon. A
    word alone is a marker if the tokenizer has it as an added token.
    """
    yield from (found.strip() for found in BRACKETED.findall(text))
    for words in lines_of(BRACKETED.sub("\n", text)):
        said = words.strip()
        named = said.endswith(COLONS) and (said[0].isalnum() or said[0] == "#")
        if len(said) > 1 and (named or not marked):
            yield said


def _is_ours(content: str) -> bool:
    """Tells whether a token is part of the protocol's tags, or holds one.

    No record spells a tag (`protocol.neutral`).
    """
    return any(tag in content or content in tag for tag in TAGS)


def _is_bracketed(content: str) -> bool:
    """Tells whether a token looks like a marker, and not like a word, a number or a run of
    spaces.
    """
    return re.search(r"[^\w\s]", content) is not None and re.search(r"\w", content) is not None


def _folded_words(tokenizer: Any, strings: Sequence[str]) -> re.Pattern[str] | None:
    """Builds the pattern of the template's words in normalised text; None if nothing is
    normalised.
    """
    normaliser = tokenizer.backend_tokenizer.normalizer if tokenizer.is_fast else None
    if normaliser is None or not strings:
        return None
    return re.compile("|".join(_alone("".join(_folded(normaliser, letter) for letter in text)) for text in strings))


def _folded(normaliser: Any, letter: str) -> str:
    """Normalises one letter.

    A space stays, because a normaliser may drop spaces only at the ends of a text.
    """
    return str(normaliser.normalize_str(letter)) or (letter if letter.isspace() else "")


def _folds(tokenizer: Any, tokens: Iterable[Any]) -> bool:
    """Tells whether a tokenizer may find a token in a text that does not spell it.

    That takes a normaliser, and an added token that is normalised or a model that builds tokens
    from normalised letters. A byte-level BPE builds none.
    """
    if not tokenizer.is_fast or tokenizer.backend_tokenizer.normalizer is None:
        return False
    model = tokenizer.backend_tokenizer.model
    builds = type(model).__name__ != "BPE" or bool(getattr(model, "ignore_merges", False))
    return builds or any(token.normalized for token in tokens)
