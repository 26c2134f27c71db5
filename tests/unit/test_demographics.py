"""data/demographics: the rule that reads age and sex from a note, by itself and against the
entities of real rows.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ehrmind.data.demographics import age_and_sex
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials


@pytest.mark.parametrize(
    ("note", "found"),
    [
        ("A 63-year-old woman is seen. Her brother, a 70-year-old man, is well.", {"age": 63, "sex": "female"}),
        ("72 y/o male with cough", {"age": 72, "sex": "male"}),
        ("A 14 month old girl", {"age": 1.17, "sex": "female"}),
        ("The patient is 45 years of age.", {"age": 45}),
        ("A newborn boy", {}),
        ("A 3-day history in a man", {}),
        ("Seen is a man, 55-year-old. No fever.", {"age": 55, "sex": "male"}),
        ("999 year old woman", {}),
        ("A 50-year-old human being without woes; sixty characters later there may be another, a woman", {"age": 50}),
        ("", {}),
    ],
)
def test_the_first_age_counts_and_the_first_sex_near_it(note: str, found: dict[str, Any]) -> None:
    assert age_and_sex(note) == found


def test_synthetic_patients_are_who_their_note_says() -> None:
    for case in [*synthetic_cases(300, 4, "train"), *synthetic_trials(300, 4, "train")]:
        said = age_and_sex(case.fields["note"])
        assert said["sex"] == case.provenance["sex"] and abs(said["age"] - case.provenance["age"]) < 1


def test_the_rule_agrees_with_the_entities_of_real_rows(data_dir: Path) -> None:
    cases, _ = read_medcalc([data_dir / "medcalc-bench" / "train_subset_v1.0.parquet"], split="train")
    agreed: Counter[tuple[str, bool]] = Counter()
    for case in cases:
        entities = ast.literal_eval(case.provenance["entities"])
        sex, age = entities.get("sex"), entities.get("age")
        if sex and "sex" in case.provenance:
            agreed["sex", sex.lower() == case.provenance["sex"]] += 1
        if age and age[1] == "years" and "age" in case.provenance:
            agreed["age", abs(age[0] - case.provenance["age"]) < 1] += 1
    assert agreed["sex", True] > 200 and agreed["sex", False] == 0
    assert agreed["age", True] > 200 and agreed["age", False] <= 3
