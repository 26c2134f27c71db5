"""Checks that the conclusion of a thought is the answer given, and looks for leaks: signs that the
writer was shown the label."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ehrmind import tasks
from ehrmind.labels import is_number, label_key, labels_of
from ehrmind.process_audit.facts import plain_text
from ehrmind.process_audit.numbers import equal_as_written
from ehrmind.process_audit.steps import weeks_and_days
from ehrmind.process_audit.thought import Finding, Looked, Thought, read_thought
from ehrmind.process_audit.units import unit_behind
from ehrmind.types import Case

CONCLUSION, LEAK = "conclusion", "leak"
NOT_THE_ANSWER = "what the thinking concludes is not what is answered"
WRONG_UNIT = "the conclusion is in another unit than the question asks for"
ANSWER_FIRST = "the answer stands in the first sentence, before any work"
_FINAL = frozenset({"answer", "conclude", "conclusion"})
_GIVES = frozenset(
    [
        "is",
        "was",
        "be",
        "are",
        "equals",
        "equal",
        "at",
        "to",
        "of",
        "total",
        "score",
        "approximately",
        "about",
        "roughly",
    ]
)
LOOKED_AT, LOOKED_BACK = 40, 3  # sentences looked at, counted from the end

# Phrases that only a writer who was shown the label uses.
_LEAK_PHRASES = re.compile(
    r"(?:correct|right|true|actual) (?:answer|label|value|result)"
    r" (?:is|was|has been) (?:given|provided|stated|known|listed|specified)"
    r"|(?:given|provided|expected|known|reference|target|stated|gold|official|supplied)"
    r" (?:answer|label|solution|classification|outcome)\b"
    r"|ground[- ]truth|gold[- ]label|answer key|answer sheet"
    r"|according to the (?:\w+ )?(?:label|answer|key|solution|ground)"
    r"|(?:we|i) (?:are|were|am|was|have been) (?:told|given|informed)"
    r" (?:that )?(?:the |this )?(?:\w+ )?(?:answer|label|outcome)"
    r"|(?:match(?:es|ing)?|agree(?:s|ing)? with|consistent with|align(?:s|ed)? with|in line with"
    r"|confirm(?:s|ing)?|justif(?:y|ies|ying)|support(?:s|ing)?)"
    r" the (?:given|provided|expected|known|correct|reference|stated|gold|true|assigned)"
    r" (?:answer|label|value|result|grade|outcome)"
    r"|(?:since|because|as|given that|knowing that)"
    r" the (?:correct |true |final )?(?:answer|label) (?:is|was|must be|should be)"
    r"|the label (?:is|was|says|states|indicates|tells|of this)"
    r"|(?:labelled|labeled|marked|annotated) as (?:the )?(?:correct|true|positive|negative|eligible|excluded)"
    r"|(?:working|work|reasoning) back(?:wards)? from",
    re.IGNORECASE,
)


def conclusion(case: Case, thought: Thought, answer: Any) -> Looked:
    """Compares the last conclusion of a thought with the answer block, as the task reads it.

    Without an answer it checks nothing.
    """
    if answer is None:
        return Looked(0, ())
    if case.truth.get("kind") == "label":
        return _labels(case, thought, answer)
    said = [
        (first, last, found)
        for first, last in reversed(thought.sentences[-LOOKED_AT:])
        if (found := _values(thought, first, last))
    ]
    said = next(([row] for row in said if _is_final(thought, row[0], row[1])), said[:LOOKED_BACK])
    for first, _, found in said:
        right = [span for span, value in found if _is_answer(value, answer, thought, span)]
        if right:
            return Looked(1, _unit_of(case, thought, right[-1]))
        if len(said) == 1 or any(_is_given(thought, first, span[0]) for span, _ in found):
            break
    if not said:
        return Looked(0, ())
    first, _, found = next(
        (row for row in said if any(_is_given(thought, row[0], span[0]) for span, _ in row[2])), said[0]
    )
    span = next((span for span, _ in reversed(found) if _is_given(thought, first, span[0])), found[-1][0])
    end = max(span[1], unit_behind(thought.tokens, span[1] + 1)[1] - 1)
    return Looked(1, (thought.found(CONCLUSION, span[0], end, NOT_THE_ANSWER),))


def _is_final(thought: Thought, first: int, last: int) -> bool:
    return any(thought.word(place) in _FINAL for place in range(first, last))


def _is_given(thought: Thought, first: int, place: int) -> bool:
    """True if a value is the result of its sentence (`is 12`, `= 12`, `total 12`) and not a limit
    it is compared with."""
    if thought.kind(place - 1) == "-":
        place -= 1
    if place - 1 < first:
        return True
    if thought.kind(place - 1) in ("=", ":"):
        return True
    if thought.kind(place - 1) == "," and thought.word(place - 2) == "score":
        return True
    return thought.word(place - 1) in _GIVES


def _values(thought: Thought, first: int, last: int) -> list[tuple[tuple[int, int], Any]]:
    """Returns ((first token, last token), value) for the values in a sentence: days, weeks and
    days, and numbers that are not part of a sum."""
    found: list[tuple[tuple[int, int], Any]] = []
    place = first
    while place < last:
        token = thought.tokens[place]
        if token.kind == "date":
            found.append(((place, place), token.date))
        elif token.kind == "number" and place not in thought.operands:
            age = weeks_and_days(thought.tokens, place)
            if age is not None:
                found.append(((place, age[2] - 1), [age[0], age[1]]))
                place = age[2] - 1
            else:
                found.append(((place, place), thought.signed(place)))
                place = max(place, unit_behind(thought.tokens, place + 1)[1] - 1)
        place += 1
    return found


def _is_answer(value: Any, answer: Any, thought: Thought, span: tuple[int, int]) -> bool:
    if isinstance(value, datetime.date):
        return bool(value.isoformat() == answer)
    if isinstance(value, list):
        return isinstance(answer, list) and value == answer
    if not isinstance(answer, int | float) or isinstance(answer, bool):
        return False
    token = thought.tokens[span[0]]
    return equal_as_written(float(answer), value, token.worth) or equal_as_written(
        value, float(answer), _worth(float(answer))
    )


def _worth(value: float) -> float:
    """Returns the weight of the last digit of an answer as it is printed."""
    text = repr(value)
    return 1.0 if "e" in text or text.endswith(".0") else float(10.0 ** -len(text.partition(".")[2]))


def _unit_of(case: Case, thought: Thought, span: tuple[int, int]) -> tuple[Finding, ...]:
    """Checks the unit of the concluding value, using the task's own check of an answer with a
    unit."""
    unit, end = unit_behind(thought.tokens, span[1] + 1)
    if not unit or case.truth.get("kind") not in ("decimal", "integer") or case.family != "medcalc":
        return ()
    written = thought.text[thought.tokens[span[1]].end : thought.tokens[end - 1].end].strip()
    _, reason = tasks.of(case).check(case, case.truth["value"], written)
    if reason is None or {name for name, _ in unit} <= {"point"} or not case.truth.get("unit"):
        return ()
    return (thought.found(CONCLUSION, span[0], end - 1, WRONG_UNIT),)


def _labels(case: Case, thought: Thought, answer: Any) -> Looked:
    """Compares the last label word in the thought with the answer. The longest word wins if one
    contains another: not eligible."""
    found = label_words(case, thought.text)
    if not found or not isinstance(answer, int):
        return Looked(0, ())
    start, end, number = found[-1]
    wrong = Finding(CONCLUSION, thought.offset + start, thought.offset + end, NOT_THE_ANSWER)
    return Looked(1, () if number == answer else (wrong,))


def label_words(case: Case, text: str) -> list[tuple[int, int, int]]:
    """Returns (start, end, number) for every label word in a text, in order.

    It skips labels that are numbers, because a thought has other numbers too.
    """
    labels = tuple(case.truth["labels"])
    pattern, places = _words_of(labels), labels_of(labels).numbers
    found = [(match.start(), match.end(), places.get(label_key(match[0]))) for match in pattern.finditer(text)]
    return [(start, end, number) for start, end, number in found if number is not None]


@lru_cache(maxsize=256)
def _words_of(labels: tuple[str, ...]) -> re.Pattern[str]:
    """Compiles the labels and their other words, longest first, with any space, hyphen or
    underscore between parts."""
    words = {*labels, *labels_of(labels).numbers}
    parts = [
        re.split(r"[\s_-]+", word.strip(" .")) for word in sorted(words, key=len, reverse=True) if not is_number(word)
    ]
    written = [r"[\s_-]+".join(map(re.escape, of)) for of in parts]
    return re.compile(rf"(?<!\w)(?:{'|'.join(written)})(?!\w)" if written else r"(?!)", re.IGNORECASE)


def leaks(case: Case, thinking: str) -> list[str]:
    """Lists signs that a rationale's writer was shown the label: turns of phrase, or an answer
    before any work. Empty if there are none."""
    thought = read_thought(thinking)
    return [finding.detail or finding.what for finding in leak(case, thought).findings]


def leak(case: Case, thought: Thought) -> Looked:
    asked = plain_text(tasks.of(case).question(case))
    phrases = [
        Finding(
            LEAK,
            thought.offset + match.start(),
            thought.offset + match.end(),
            "a turn of phrase that tells of a given label",
            match[0],
        )
        for match in _LEAK_PHRASES.finditer(thought.text)
        if plain_text(match[0]) not in asked
    ]
    early = _answer_first(case, thought)
    return Looked(1, (*phrases, *([early] if early else [])))


def _answer_first(case: Case, thought: Thought) -> Finding | None:
    """Returns a finding if the first of several sentences already states the truth and computes
    nothing."""
    if len(thought.sentences) < 2:
        return None
    first, last = thought.sentences[0]
    if any(first <= step.value < last for step in thought.equations):
        return None
    start, end = thought.tokens[first].start, thought.tokens[last - 1].end
    if case.truth.get("kind") == "label":
        if case.family == "trials" or set(case.truth["labels"]) != {"no", "yes"}:
            found = [place for place in label_words(case, thought.text[start:end]) if place[2] == case.truth["value"]]
            if found and _is_verdict(thought, first, last, case):
                return Finding(LEAK, thought.offset + start, thought.offset + end, ANSWER_FIRST)
        return None
    if not any(
        thought.word(place) in ("answer", "result", "score", "total", "value", "is", "equals")
        for place in range(first, last)
    ):
        return None
    if any(
        thought.word(place) in ("current", "curent", "currently", "initial", "starts", "start")
        for place in range(first, last)
    ):
        return None
    answer = _truth(case)
    given = plain_text(tasks.of(case).record(case)).split()
    for span, value in _values(thought, first, last):
        said = plain_text(thought.text[thought.tokens[span[0]].start : thought.tokens[span[1]].end])
        before = thought.word(span[0] - 1) or thought.word(span[0] - 2)
        if before in ("is", "was", "equals") and _is_answer(value, answer, thought, span) and said not in given:
            return thought.found(LEAK, span[0], span[1], ANSWER_FIRST)
    return None


def _is_verdict(thought: Thought, first: int, last: int, case: Case) -> bool:
    """True if a sentence gives the label of this patient and does not explain what the labels
    mean."""
    labels = {
        number
        for _, _, number in label_words(case, thought.text[thought.tokens[first].start : thought.tokens[last - 1].end])
    }
    words: Sequence[str] = [thought.word(place) for place in range(first, last)]
    return (
        len(labels) == 1 and bool({"is", "answer", "label", "therefore", "patient"} & set(words)) and "if" not in words
    )


def _truth(case: Case) -> Any:
    kind = case.truth.get("kind")
    return [case.truth["weeks"], case.truth["days"]] if kind == "weeks_days" else case.truth.get("value")
