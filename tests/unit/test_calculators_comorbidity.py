"""The Charlson Comorbidity Index."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.inputs import Flag
from ehrmind.types import InputError

CHARLSON = CALCULATORS["charlson"]
FLAGS = [item.name for item in CHARLSON.inputs if isinstance(item, Flag)]
CHOICES = {
    "liver_severity": ("none", "mild", "moderate to severe"),
    "diabetes_severity": ("none", "diet-controlled", "uncomplicated", "end-organ damage"),
    "solid_tumor": ("none", "localized", "metastatic"),
}
# All at its worst: seven single points, stroke 1, liver 3, diabetes 2, hemiplegia 2, kidney 2,
# tumor 6, leukemia 2, lymphoma 2, AIDS 6.
WORST: dict[str, Any] = dict.fromkeys(FLAGS, True) | {name: options[-1] for name, options in CHOICES.items()}

EXAMPLES: list[tuple[dict[str, Any], int]] = [
    ({"age": 40}, 0),
    # Age by decades (Charlson 1994).
    ({"age": 49}, 0),
    ({"age": 50}, 1),
    ({"age": 69}, 2),
    ({"age": 79}, 3),
    ({"age": 80}, 4),
    ({"age": 101}, 4),
    # 2 for the age, 1 infarction, 1 heart failure, 2 diabetes with organ damage, 2 kidney.
    ({"age": 66, "myocardial_infarction": True, "heart_failure": True, "diabetes_severity": "end-organ damage",
      "chronic_kidney_disease": True}, 8),
    # 1 for the age, 6 metastases, 1 COPD.
    ({"age": 58, "solid_tumor": "metastatic", "copd": True}, 8),
    # A stroke and a transient attack are one finding; diet alone controls the diabetes.
    ({"age": 30, "stroke": True, "tia": True, "diabetes_severity": "diet-controlled"}, 1),
    # 3 for the age, 3 liver, 2 localized tumor, 2 leukemia, 1 ulcer.
    ({"age": 70, "liver_severity": "severe", "solid_tumor": "localized", "leukemia": True, "peptic_ulcer_disease": True}, 11),
    ({"age": 85} | WORST, 4 + 7 + 1 + 3 + 2 + 2 + 2 + 6 + 2 + 2 + 6),
]  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), EXAMPLES)
def test_worked_by_hand(values: dict[str, Any], expected: int) -> None:
    value = CHARLSON(**values).value
    assert value == expected
    assert isinstance(value, int)


PATIENTS = st.fixed_dictionaries(
    {"age": st.integers(18, 110)}
    | {name: st.booleans() for name in FLAGS}
    | {name: st.sampled_from(options) for name, options in CHOICES.items()}
)


@given(PATIENTS, st.sampled_from(FLAGS))
def test_an_illness_more_never_lowers_the_index(values: dict[str, Any], name: str) -> None:
    without, with_it = (CHARLSON(**{**values, name: present}).value for present in (False, True))
    assert 0 <= without <= with_it <= 37  # type: ignore[operator]


@given(PATIENTS, st.sampled_from(sorted(CHOICES)))
def test_a_worse_state_never_lowers_the_index(values: dict[str, Any], name: str) -> None:
    scores: list[Any] = [CHARLSON(**{**values, name: option}).value for option in CHOICES[name]]
    assert scores == sorted(scores)


@given(st.integers(18, 110))
def test_the_age_may_be_given_in_months(age: int) -> None:
    assert CHARLSON(age=(age * 12 + 6, "months")).value == CHARLSON(age=age).value


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"copd": True}, "needs age"),
        ({"age": 300}, "outside 0 to 125"),
        ({"age": "60 kg"}, "does not convert to years"),
        ({"age": 60, "dementia": "perhaps"}, "dementia"),
        ({"age": 60, "solid_tumor": "large"}, "none of none, localized, metastatic"),
    ],
)
def test_what_cannot_be_worked_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CHARLSON(**values)


def test_what_is_not_mentioned_is_absent_aloud() -> None:
    assert "solid tumor: not mentioned, so taken as none" in CHARLSON(age=60).assumed
    assert "leukemia: not mentioned, so taken as absent" in CHARLSON(age=60).assumed


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_the_first_release_gives_one_point_whatever_the_severity(name: str) -> None:
    for option in CHOICES[name][1:]:
        assert CHARLSON("medcalc", age=30, **{name: option}).value == 1
