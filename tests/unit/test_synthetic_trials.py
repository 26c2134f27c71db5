"""Synthetic pairs of patient and trial: the label is what a reader of note and criteria
concludes."""

from __future__ import annotations

import re

import pytest

from ehrmind.data.synthetic.trials import (
    CONDITIONS,
    DRUG_CLASSES,
    DRUGS,
    KINDS,
    LEVELS,
    NAMED,
    OTHER_NAMES,
    PAIRS,
    synthetic_trials,
)
from ehrmind.types import Case, InputError
from ehrmind.verify.audit import check_cases

DIFFICULTIES = pytest.mark.parametrize("difficulty", LEVELS)


def said(note: str, name: str) -> bool | None:
    """Whether the note says that the patient has or takes it, denies it, or leaves it open: by its
    sentences, from the outside."""
    names = "|".join(map(re.escape, {name, OTHER_NAMES.get(name, name)}))
    if re.search(rf"(?:^|\. )(?:takes )?(?:{names}) (yes|no)\b", note):
        return re.search(rf"(?:^|\. )(?:takes )?(?:{names}) yes\b", note) is not None
    for sentence in re.split(r"\. (?=[A-Z])", note):
        if re.search(rf"(?<![\w-])(?:{names})(?![\w-])", sentence):
            return not re.search(r"There is no|does not take", sentence)
    return None


def measured(note: str, name: str) -> float | None:
    if name == "age":
        age = re.search(r"(\d+)[- ]year", note)
        return float(age[1]) if age else None
    found = re.search(rf"\b{re.escape(name)} ([\d.]+\d|\d+) ", note)
    return float(found[1]) if found else None


def holds(note: str, criterion: str) -> bool | None:
    if bound := re.fullmatch(r"(.+) of ([\d.]+)(?: \S+)? or more|(.+) below ([\d.]+)(?: \S+)?", criterion):
        value = measured(note, bound[1] or bound[3])
        return None if value is None else value >= float(bound[2]) if bound[2] else value < float(bound[4])
    name = criterion.removeprefix("takes ")
    found = {said(note, drug) for drug in DRUG_CLASSES.get(name, (name,))}
    return True if True in found else None if None in found else False


def concluded(case: Case) -> int:
    note, condition = case.fields["note"], case.fields["conditions"]
    if said(note, condition) is not True:
        return 0
    must = [holds(note, line) for line in case.fields["inclusion"].split("\n")]
    must_not = [holds(note, line) for line in case.fields["exclusion"].split("\n") if line]
    return 1 if False in must or True in must_not else 2


@DIFFICULTIES
def test_a_reader_of_note_and_criteria_comes_to_the_label(difficulty: str) -> None:
    cases = synthetic_trials(2000, 7, "train", [*KINDS, *NAMED], difficulty=difficulty)
    assert [concluded(case) for case in cases] == [case.truth["value"] for case in cases]


@DIFFICULTIES
def test_every_label_is_common_in_every_kind(difficulty: str) -> None:
    cases = synthetic_trials(2000, 3, "train", [*KINDS, *NAMED], difficulty=difficulty)
    for kind in (*KINDS, *NAMED):
        values = [case.truth["value"] for case in cases if case.stratum == f"trials/made-up/{kind}"]
        assert all(values.count(value) >= 0.12 * len(values) for value in range(3)), kind


def test_item_i_is_a_function_of_seed_and_i() -> None:
    longer = synthetic_trials(60, 5, "train")
    assert synthetic_trials(20, 5, "train") == longer[:20]
    assert synthetic_trials(20, 6, "train") != longer[:20]


def test_a_kind_that_must_be_named_is_not_among_the_others() -> None:
    assert {case.stratum for case in synthetic_trials(12, 5, "train")} == {f"trials/made-up/{kind}" for kind in KINDS}
    assert sorted(drug for drugs in DRUG_CLASSES.values() for drug in drugs) == sorted(DRUGS)


def test_a_patient_has_several_pairs_and_no_patient_is_in_two_seeds() -> None:
    ours, theirs = synthetic_trials(500, 1, "train"), synthetic_trials(500, 2, "held_out")
    assert len({case.group for case in ours}) == 500 // PAIRS
    assert not {case.group for case in ours} & {case.group for case in theirs}


@DIFFICULTIES
def test_the_rationale_ends_with_the_label_and_names_every_criterion_of_an_eligible_pair(difficulty: str) -> None:
    for case in synthetic_trials(300, 2, "train", [*KINDS, *NAMED], difficulty=difficulty):
        label = case.truth["labels"][case.truth["value"]]
        assert case.rationale is not None and case.rationale.endswith(f" ; {label}")
        if label == "eligible":
            lines = [*case.fields["inclusion"].split("\n")[1:], *filter(None, case.fields["exclusion"].split("\n"))]
            assert all(f"{line}: " in case.rationale for line in lines)


@DIFFICULTIES
def test_synthetic_pairs_are_proven(difficulty: str) -> None:
    assert check_cases(synthetic_trials(200, 4, "train", difficulty=difficulty)).ok


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="'genes' is not a kind of criteria; there are diagnoses"):
        synthetic_trials(5, 1, "train", ["genes"])


def test_no_name_is_part_of_another() -> None:
    names = [*CONDITIONS, *DRUGS, *OTHER_NAMES.values()]
    assert not [(a, b) for a in names for b in names if a != b and re.search(rf"\b{re.escape(a)}\b", b)]
