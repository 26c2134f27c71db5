"""data/contamination: shared text is found, template text and short texts are not, and time grows
with the text.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from ehrmind.data.contamination import learned_from, shared_text
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.splits import without_leaks
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.types import Case

WORDS = [f"word{place}" for place in range(3000)]


def note(seed: object, length: int = 60) -> str:
    draw = random.Random(str(seed))
    return " ".join(draw.choice(WORDS) for _ in range(length))


def case(name: str, text: str, question: str = "What is the score?", group: str = "") -> Case:
    return Case(
        name, "medcalc", "t", "medcalc/c/t", "held_out", group or name, {"note": text, "question": question}, {}
    )


def found(held_out: list[Case], texts: Iterable[str]) -> tuple[dict[str, float], int]:
    """(share by case, runs that are template)"""
    figures, rows = shared_text(held_out, {"train": texts})
    assert figures["against"]["train"]["any"] == len(rows)
    return {row["case"]: row["share"] for row in rows}, figures["template"]["runs"]


def test_a_copied_note_is_found_whole_and_a_quoted_part_in_part() -> None:
    held_out = [case(f"c{place}", note(place)) for place in range(10)]
    quoted = " ".join(note(3).split()[20:40])  # twenty words: eight runs of thirteen, of 48
    shares, _ = found(
        held_out, [note(1), f"{note('else')} {quoted} {note('more')}", *(note(f"other {place}") for place in range(50))]
    )
    assert shares == {"c1": 1.0, "c3": pytest.approx(8 / 48, abs=1e-4)}


def test_capitals_punctuation_and_line_ends_make_no_difference() -> None:
    copied = note(1).upper().replace(" ", ", ", 7).replace(" ", "\n", 20)
    assert found([case("c", note(1))], [copied])[0] == {"c": 1.0}


def test_twelve_words_in_common_are_no_run_and_thirteen_are() -> None:
    words = note(1).split()
    assert found([case("c", note(1))], [" ".join(words[:12])])[0] == {}
    assert found([case("c", note(1))], [" ".join(words[:13])])[0] == {"c": pytest.approx(1 / 48, abs=1e-4)}


def test_text_of_many_patients_is_a_template_and_that_of_one_patients_many_questions_is_not() -> None:
    form = note("form", 30)
    held_out = [case(f"c{place}", f"{form} {note(place)}") for place in range(10)]
    shares, template = found(held_out, [f"{form} {note('else')}"])
    assert shares == {} and template == 18
    same = [case(f"c{place}", note("one"), group="one") for place in range(10)]
    assert found(same, [note("one")])[0] == {f"c{place}": 1.0 for place in range(10)}


def test_a_question_is_its_tasks_text_and_counts_only_where_there_is_no_record() -> None:
    asked = note("question", 20)
    assert found([case("c", note(1), asked)], [asked])[0] == {}
    assert found([case("c", "", asked)], [asked])[0] == {"c": 1.0}


def test_a_text_too_short_to_compare_is_counted_as_such() -> None:
    figures, rows = shared_text([case("c", "twelve words are too few")], {"train": ["twelve words are too few"]})
    assert (
        figures["too_short"] == 1
        and figures["template_only"] == 0
        and rows == []
        and figures["against"]["train"]["half"] == 0
    )


def test_a_text_that_is_all_template_is_counted_as_such() -> None:
    figures, rows = shared_text(
        [case(f"c{place}", note("form", 20)) for place in range(10)], {"train": [note("form", 20)]}
    )
    assert (figures["template_only"], figures["too_short"], rows) == (10, 0, [])


def test_worked_answers_are_among_what_is_learned_from() -> None:
    first = synthetic_cases(1, 0, "train")[0]
    assert [*first.fields.values(), first.rationale] == list(learned_from([first]))


def test_synthetic_notes_of_other_seeds_share_next_to_nothing() -> None:
    figures, rows = shared_text(
        synthetic_cases(220, 1, "held_out"), {"train": learned_from(synthetic_cases(220, 2, "train"))}
    )
    assert figures["against"]["train"]["half"] == 0 and figures["against"]["train"]["mean_share"] < 0.05
    assert all(row["share"] < 0.5 for row in rows)


def test_real_notes_of_both_splits_are_found_and_dropping_leaks_leaves_next_to_none(data_dir: Path) -> None:
    files = data_dir / "medcalc-bench"
    train, _ = read_medcalc([files / "train_subset_v1.0.parquet"], split="train")
    held_out, _ = read_medcalc([files / "test_v1.0_dev.csv.gz"], split="held_out")
    before, _ = shared_text(held_out, {"train": learned_from(train)})
    after, _ = shared_text(held_out, {"train": learned_from(without_leaks(train, held_out)[0])})
    assert before["against"]["train"]["half"] > 40 and after["against"]["train"]["half"] == 0
    assert after["against"]["train"]["mean_share"] < 0.001


def test_time_grows_with_the_text_and_not_with_pairs_of_texts() -> None:
    def seconds(count: int) -> float:
        held_out = [case(f"c{place}", note(place, 300)) for place in range(count)]
        train = [note(f"t{place}", 300) for place in range(count)]
        began = time.perf_counter()
        shared_text(held_out, {"train": train})
        return time.perf_counter() - began

    seconds(50)
    assert seconds(2000) < 4 * 10 * seconds(200)  # ten times the text, with room for a busy machine
