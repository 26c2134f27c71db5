"""Splits never share a group, do not depend on the order of the cases, and a leak is refused
without quoting a record.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.data.splits import check_leaks, note_group, split_by_group, splits_digest, without_leaks
from ehrmind.types import Case, InputError, Split


def case(name: str, group: str, split: Split = "train") -> Case:
    return Case(
        id=name,
        family="medcalc",
        task="bmi",
        stratum="medcalc/physical/bmi",
        split=split,
        group=group,
        fields={"note": f"CANARY {group}", "question": "BMI?"},
        truth={},
    )


CASES = [case(f"case-{i}", f"note-{i % 37}") for i in range(120)]


@given(st.floats(0.01, 0.99), st.integers(), st.randoms(use_true_random=False))
def test_a_split_shares_no_group_keeps_every_case_and_forgets_the_order(
    share: float, seed: int, shuffler: random.Random
) -> None:
    rest, part = split_by_group(CASES, share, seed)
    assert {c.group for c in rest}.isdisjoint(c.group for c in part) and rest and part
    assert sorted(c.id for c in rest + part) == sorted(c.id for c in CASES)
    shuffled = list(CASES)
    shuffler.shuffle(shuffled)
    assert {c.id for c in split_by_group(shuffled, share, seed)[1]} == {c.id for c in part}


def test_the_share_is_of_groups_and_the_seed_draws_them() -> None:
    parts = [{c.group for c in split_by_group(CASES, 0.2, seed)[1]} for seed in range(5)]
    assert {len(part) for part in parts} == {7} and len({frozenset(part) for part in parts}) > 1


def test_one_note_cannot_be_split() -> None:
    with pytest.raises(InputError, match="cannot be split"):
        split_by_group([case("a", "note-1"), case("b", "note-1")], 0.5, 0)


def test_the_digest_sees_membership_and_not_order() -> None:
    digest = splits_digest(CASES)
    assert splits_digest(CASES[::-1]) == digest
    assert splits_digest([replace(CASES[0], split="tuning"), *CASES[1:]]) != digest
    assert splits_digest(CASES[1:]) != digest


@pytest.mark.parametrize(("first", "second"), [("train", "tuning"), ("train", "held_out"), ("tuning", "held_out")])
def test_a_group_in_two_splits_is_refused_with_counts_and_ids_only(first: str, second: str) -> None:
    splits: dict[str, list[Case]] = {
        "train": [case("a", "note-a")],
        "tuning": [case("b", "note-b")],
        "held_out": [case("c", "note-c")],
    }
    splits[first] += [case(f"extra-{i}", f"note-{second}") for i in range(5)]
    splits[second].append(case("other", f"note-{second}"))
    said = rf"1 group\(s\) of {first} \(5 cases, such as extra-0, extra-1, extra-2\) are also in {second}"
    with pytest.raises(InputError, match=said) as caught:
        check_leaks(**splits)
    assert "CANARY" not in str(caught.value)
    assert ("data.exclude_leaks=true" in str(caught.value)) == ((first, second) == ("train", "held_out"))


def test_an_id_used_twice_is_refused_even_where_the_notes_differ() -> None:
    with pytest.raises(InputError, match="used more than once, such as a;"):
        check_leaks(train=[case("a", "note-a")], tuning=[], held_out=[case("a", "note-b")])


def test_clean_splits_pass_and_leaking_ones_do_once_the_leaks_are_dropped() -> None:
    held_out = [case("h", "note-3")]
    kept, dropped = without_leaks(CASES, held_out)
    assert dropped == sum(c.group == "note-3" for c in CASES) and len(kept) + dropped == len(CASES)
    check_leaks(train=kept, tuning=[], held_out=held_out)


def test_a_note_typeset_anew_is_the_same_note_and_another_value_makes_another() -> None:
    assert note_group("The patient’s  weight\nis 70 kg.") == note_group("The patient's weight is 70 kg. ")
    assert note_group("The patient's weight is 70 kg.") != note_group("The patient's weight is 7.0 kg.")


@pytest.mark.parametrize("typed", ["\r\n", " \n ", "\u2028", "\ufeff\n", "\u00a0\n\u200b"])
def test_a_note_is_one_note_whatever_its_line_ends_and_marks(typed: str) -> None:
    assert note_group(f"Naïve patient.{typed}Weight 70 kg.") == note_group("Nai\u0308ve patient.\nWeight 70 kg.")


def of_table(name: str, group: str, record: str, *, by: str | None = "mrn", split: Split = "train") -> Case:
    about = {"grouped_by": by} if by else {}
    return replace(
        case(name, group, split),
        family="table",
        task="q",
        fields={"question": "MAP?", "record": record},
        provenance=about,
    )


def test_a_patient_of_cases_that_an_earlier_version_made_is_the_same_patient() -> None:
    before, now = of_table("q-1", "q-7001.0", "one", by=None), of_table("r-1", "7001", "two", split="held_out")
    with pytest.raises(InputError, match=r"1 group\(s\) of train"):
        check_leaks(train=[before], tuning=[], held_out=[now])
    assert without_leaks([before, of_table("q-2", "q-7002", "three", by=None)], [now])[1] == 1


def test_texts_are_compared_where_one_side_names_no_patients_and_only_there() -> None:
    patient, other = of_table("q-1", "7", "The same note."), of_table("r-1", "8", "The same  note.", split="held_out")
    check_leaks(train=[patient], tuning=[], held_out=[other])
    unnamed = of_table("r-1", note_group("The same note."), "The same note.", by=None, split="held_out")
    for ours, theirs in ((patient, unnamed), (unnamed, patient)):
        with pytest.raises(InputError, match=r"1 group\(s\) of train"):
            check_leaks(train=[ours], tuning=[], held_out=[theirs])
