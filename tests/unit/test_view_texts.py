"""Texts in the live view: grounded values, pieces, differences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ehrmind.view.difference import MOST_WORDS, word_difference
from ehrmind.view.marks import Span, grounded, pieces


def test_grounded_values_are_marked_in_both_texts() -> None:
    record = "Sodium 131 mEq/L on 03/31/2006, glucose 0.9 g/L, weight 131 kg, 2 children."
    text = "On 03/31/2006 sodium is 131 mEq/L; 250 is not there, 2 is a bare digit."
    here, there = grounded(record, text)
    here, there = [record[span.start : span.end] for span in here], [text[span.start : span.end] for span in there]
    assert here == ["131 mEq/L", "03/31/2006"] and there == ["03/31/2006", "131 mEq/L"]


MARKS = st.tuples(st.integers(0, 60), st.integers(0, 9), st.sampled_from(["grounded", "finding"]))


@given(st.text(max_size=60), st.lists(MARKS, max_size=8))
def test_pieces_are_the_whole_text_whatever_is_marked(text: str, marks: list[tuple[int, int, str]]) -> None:
    spans = [Span(start, start + length, kind) for start, length, kind in marks]
    assert "".join(words for words, _, _ in pieces(text, spans)) == text


@given(st.text("ab \n", max_size=60), st.text("ab \n", max_size=60))
def test_a_difference_has_both_texts_in_it(before: str, after: str) -> None:
    found, whole = word_difference(before, after)
    assert whole
    assert "".join(words for kind, words in found if kind != "new") == before
    assert "".join(words for kind, words in found if kind != "gone") == after


def test_hostile_texts_are_compared_in_bounded_time() -> None:
    few = [str(n % 9) for n in range(20_000)]
    found, whole = word_difference(" ".join(few), " ".join(reversed(few)) + "\u00a0" * 100_000)
    assert not whole and sum(len(words) for _, words in found) > 2 * MOST_WORDS
