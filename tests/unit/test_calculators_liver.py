"""Child-Pugh, FIB-4, MELD Na, the Glasgow-Blatchford score."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.calculator import Convention
from ehrmind.types import InputError

CHILD, FIB, MELD, GLASGOW = 15, 19, 23, 27


def child(
    bilirubin: str, albumin: str, inr: float, ascites: str | None = None, encephalopathy: str | None = None
) -> dict[str, Any]:
    values = {
        "bilirubin": bilirubin,
        "albumin": albumin,
        "inr": inr,
        "ascites": ascites,
        "encephalopathy": encephalopathy,
    }
    return {name: value for name, value in values.items() if value is not None}


def fib(age: int, ast: float, alt: float, platelets: float) -> dict[str, Any]:
    return {"age": age, "ast": (ast, "U/L"), "alt": (alt, "U/L"), "platelets": (platelets, "10^9/L")}


def meld(creatinine: float, bilirubin: float, inr: float, sodium: float) -> dict[str, Any]:
    return {
        "creatinine": (creatinine, "mg/dL"),
        "bilirubin": (bilirubin, "mg/dL"),
        "inr": inr,
        "sodium": (sodium, "mEq/L"),
    }


def bleed(
    sex: str = "male", urea: str = "10 mg/dL", hemoglobin: str = "14 g/dL", systolic: float = 120, pulse: float = 80
) -> dict[str, Any]:
    return {"sex": sex, "urea_nitrogen": urea, "hemoglobin": hemoglobin, "systolic": systolic, "heart_rate": pulse}


ILL = {"melena": True, "syncope": True, "liver_disease": True, "cardiac_failure": True}

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (CHILD, child("1 mg/dL", "4 g/dL", 1, "absent", "none"), 5),
    (CHILD, child("1 mg/dL", "4 g/dL", 1), 5),  # what is not mentioned is absent
    (CHILD, child("5 mg/dL", "2 g/dL", 3, "moderate", "grade 3-4"), 15),
    (CHILD, child("2 mg/dL", "3.5 g/dL", 1.7, "slight", "grade 1-2"), 10),  # the middle bands hold their bounds: 5 * 2
    (CHILD, child("3 mg/dL", "2.8 g/dL", 2.3, "mild", "grade 1"), 10),
    (CHILD, child("3.1 mg/dL", "2.7 g/dL", 2.4, "severe", "none"), 13),  # 3 + 3 + 3 + 3 + 1
    (CHILD, child("33 umol/L", "28 g/L", 1.5, "none", "grade 2"), 7),  # 1 + 2 + 1 + 1 + 2
    (
        CHILD,
        child("34 umol/L", "28 g/L", 1.5, "none", "grade 2"),
        8,
    ),  # 1.99 mg/dL, which the limits in µmol/L count as 2
    (CHILD, child("50 umol/L", "40 g/L", 1), 6),  # 2.92 mg/dL: 2 + 1 + 1 + 1 + 1
    (CHILD, child("1.9 mg/dL", "3.6 g/dL", 1.6, encephalopathy="grade 0"), 5),
    (FIB, fib(50, 40, 25, 200), 2.0),  # 2000 / (200 * 5)
    (FIB, fib(58, 50, 100, 200), 1.45),  # 2900 / (200 * 10), the lower cut-off of the paper
    (FIB, fib(60, 80, 64, 100), 6.0),  # 4800 / 800
    (FIB, fib(35, 30, 36, 250), 0.7),  # 1050 / 1500
    # All at 1: 0.643, to the tenth 0.6, times 10.
    (MELD, meld(1, 1, 1, 137), 6),
    (MELD, meld(0.5, 0.4, 0.9, 120), 6),  # all taken as 1; not above 11, so sodium does not count
    # 0.957 * ln 2 + 0.378 * ln 4 + 1.12 * ln 1.5 + 0.643 = 0.66334 + 0.52402 + 0.45412 + 0.643 =
    # 2.28448: 23; 23 + 9.24 - 5.313 = 26.927.
    (MELD, meld(2, 4, 1.5, 130), 27),
    (MELD, meld(2, 4, 1.5, 137), 23),
    (MELD, meld(2, 4, 1.5, 145), 23),  # sodium above 137 counts as 137
    (MELD, meld(1, 24, 1, 137), 18),  # 0.378 * 3.178054 + 0.643 = 1.8443
    (MELD, meld(1, 1, 4, 137), 22),  # 1.12 * 1.386294 + 0.643 = 2.1957
    (MELD, meld(8, 1.22, 1, 137), 20),  # creatinine counts as 4: 0.957 * 1.386294 + 0.378 * 0.198851 + 0.643 = 2.0449
    (MELD, meld(1, 1.22, 1, 137) | {"dialysis_twice_in_week": True}, 20),
    (MELD, meld(2.085, 1, 1, 137), 13),  # 0.957 * 0.734769 + 0.643 = 1.3462: rounded once, and not by way of 1.35
    (MELD, meld(1.6, 1, 1, 125), 11),  # 0.957 * 0.47 + 0.643 = 1.0928: 11, not corrected
    (MELD, meld(1.7, 1, 1, 125), 23),  # 0.957 * 0.53063 + 0.643 = 1.1508: 12; 12 + 1.32 * 12 - 0.033 * 12 * 12 = 23.09
    (MELD, meld(1, 0.5, 1, 140) | {"dialysis_twice_in_week": True}, 20),  # 0.957 * ln 4 + 0.643 = 1.9697
    (MELD, meld(1, 0.5, 1, 140) | {"continuous_hemodialysis": True}, 20),
    (MELD, meld(8, 30, 6, 120), 40),  # 1.32668 + 1.28565 + 2.00677 + 0.643 = 5.2621: 53, at most 40
    (GLASGOW, bleed(), 0),
    (GLASGOW, bleed("female", "80 mg/dL", "9 g/dL", 80, 120) | ILL, 23),  # 6 + 6 + 3 + 1 + 1 + 2 + 2 + 2
    (GLASGOW, bleed("male", "25 mg/dL", "11 g/dL", 95, 100) | {"melena": True}, 10),  # 3 + 3 + 2 + 1 + 1
    (GLASGOW, bleed() | {"syncope": True, "liver_disease": True}, 4),
    (GLASGOW, bleed() | {"cardiac_failure": True, "melena": True}, 3),
    (GLASGOW, bleed(pulse=99), 0),
    (GLASGOW, bleed(pulse=100), 1),
    # The paper's bands: urea in mmol/L, hemoglobin in g/L, systolic pressure in mm Hg.
    *(
        (GLASGOW, bleed(urea=f"{urea} mmol/L"), points)
        for urea, points in ((6.4, 0), (6.5, 2), (7.9, 2), (8, 3), (9.9, 3), (10, 4), (24.9, 4), (25, 6))
    ),
    # And as they are printed in mg/dL; 70 is 24.99 mmol/L.
    *(
        (GLASGOW, bleed(urea=f"{urea} mg/dL"), points)
        for urea, points in ((18.1, 0), (18.2, 2), (22.3, 2), (22.4, 3), (27.9, 3), (28, 4), (70, 4))
    ),
    *(
        (GLASGOW, bleed(hemoglobin=f"{blood} g/L"), points)
        for blood, points in ((130, 0), (129, 1), (120, 1), (119, 3), (100, 3), (99, 6))
    ),
    *(
        (GLASGOW, bleed("female", hemoglobin=f"{blood} g/L"), points)
        for blood, points in ((120, 0), (119, 1), (100, 1), (99, 6))
    ),
    *(
        (GLASGOW, bleed(systolic=pressure), points)
        for pressure, points in ((110, 0), (109, 1), (100, 1), (99, 2), (90, 2), (89, 3))
    ),
]
CREATININES, BILIRUBINS, INRS, SODIUMS = (
    st.floats(0.3, 12),
    st.floats(0.2, 40),
    st.floats(0.8, 9),
    st.integers(115, 150),
)
ALBUMINS, HEMOGLOBINS, UREAS = st.floats(1.5, 5.5), st.floats(4, 18), st.floats(3, 150)
SEXES = st.sampled_from(["male", "female"])
ASCITES, GRADES = ("absent", "slight", "moderate"), ("none", "grade 1-2", "grade 3-4")


def score(number: int, values: dict[str, Any], convention: Convention = "published") -> float:
    return float(CALCULATORS[number](convention, **values).value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert score(number, values) == pytest.approx(expected)


@given(bilirubin=BILIRUBINS, albumin=ALBUMINS, inr=INRS, fluid=st.integers(0, 2), grade=st.integers(0, 2))
def test_child_pugh_is_5_to_15_and_nothing_worse_lowers_it(
    bilirubin: float, albumin: float, inr: float, fluid: int, grade: int
) -> None:
    def points(yellow: float, protein: float, clotting: float, water: int, mind: int) -> float:
        values = {"bilirubin": (yellow, "mg/dL"), "albumin": (protein, "g/dL"), "inr": clotting}
        return score(CHILD, values | {"ascites": ASCITES[min(water, 2)], "encephalopathy": GRADES[min(mind, 2)]})

    now = points(bilirubin, albumin, inr, fluid, grade)
    assert 5 <= now <= 15
    assert now <= points(bilirubin + 0.5, albumin, inr, fluid, grade)
    assert now <= points(bilirubin, albumin - 0.4, inr, fluid, grade)
    assert now <= points(bilirubin, albumin, inr + 0.3, fluid, grade)
    assert now <= points(bilirubin, albumin, inr, fluid + 1, grade) <= now + 1
    assert now <= points(bilirubin, albumin, inr, fluid, grade + 1) <= now + 1


@given(age=st.integers(18, 100), ast=st.floats(5, 2000), alt=st.floats(5, 2000), platelets=st.floats(10, 900))
def test_fib_4_rises_with_age_and_ast_and_falls_with_alt_and_platelets(
    age: int, ast: float, alt: float, platelets: float
) -> None:
    now = score(FIB, fib(age, ast, alt, platelets))
    assert score(FIB, fib(age, 2 * ast, alt, platelets)) == pytest.approx(2 * now)
    assert score(FIB, fib(age, ast, 4 * alt, platelets)) == pytest.approx(now / 2)
    assert score(FIB, fib(age, ast, alt, 2 * platelets)) == pytest.approx(now / 2)
    assert score(FIB, fib(age + 1, ast, alt, platelets)) > now


@given(creatinine=CREATININES, bilirubin=BILIRUBINS, inr=INRS, sodium=SODIUMS)
def test_meld_na_is_6_to_40_and_nothing_worse_lowers_it(
    creatinine: float, bilirubin: float, inr: float, sodium: int
) -> None:
    now = score(MELD, meld(creatinine, bilirubin, inr, sodium))
    assert 6 <= now <= 40
    assert now == int(now)
    assert now <= score(MELD, meld(creatinine * 1.2, bilirubin, inr, sodium))
    assert now <= score(MELD, meld(creatinine, bilirubin * 1.2, inr, sodium))
    assert now <= score(MELD, meld(creatinine, bilirubin, inr * 1.2, sodium))
    assert now <= score(MELD, meld(creatinine, bilirubin, inr, sodium - 3))
    assert now <= score(MELD, meld(creatinine, bilirubin, inr, sodium) | {"dialysis_twice_in_week": True})
    assert now == score(MELD, meld(creatinine, bilirubin, inr, min(max(sodium, 125), 137)))


@given(
    sex=SEXES,
    urea=UREAS,
    hemoglobin=HEMOGLOBINS,
    systolic=st.integers(60, 200),
    pulse=st.integers(40, 180),
    ill=st.sets(st.sampled_from(sorted(ILL))),
)
def test_glasgow_blatchford_is_0_to_23_and_nothing_worse_lowers_it(
    sex: str, urea: float, hemoglobin: float, systolic: int, pulse: int, ill: set[str]
) -> None:
    def points(nitrogen: float, blood: float, pressure: int, beats: int, present: set[str]) -> float:
        signs = bleed(sex, f"{nitrogen!r} mg/dL", f"{blood!r} g/dL", pressure, beats)
        return score(GLASGOW, signs | dict.fromkeys(present, True))

    now = points(urea, hemoglobin, systolic, pulse, ill)
    assert 0 <= now <= 23
    assert now <= points(urea + 5, hemoglobin, systolic, pulse, ill)
    assert now <= points(urea, hemoglobin - 1, systolic, pulse, ill)
    assert now <= points(urea, hemoglobin, systolic - 10, pulse + 10, ill)
    for name, worth in (("melena", 1), ("syncope", 2), ("liver_disease", 2), ("cardiac_failure", 2)):
        assert points(urea, hemoglobin, systolic, pulse, ill | {name}) == now + (0 if name in ill else worth)


@given(creatinine=CREATININES, bilirubin=BILIRUBINS, albumin=ALBUMINS, hemoglobin=HEMOGLOBINS, urea=UREAS, sex=SEXES)
def test_the_unit_does_not_matter(
    creatinine: float, bilirubin: float, albumin: float, hemoglobin: float, urea: float, sex: str
) -> None:
    bounds = ((albumin, (2.8, 3.5)), (hemoglobin, (10, 12, 13)))
    assume(all(abs(value - bound) > 1e-6 for value, near in bounds for bound in near))  # where a rounding decides
    # Between a limit in mg/dL and the same limit in SI units each counts by its own.
    assume(
        all(abs(bilirubin - bound) > 0.02 for bound in (2, 3))
        and all(abs(urea - bound) > 0.04 for bound in (18.2, 22.4, 28, 70))
    )
    # Molar masses: bilirubin 584.67, creatinine 113.12, two nitrogens 28.014 g/mol.
    micromoles = {"bilirubin": (bilirubin / 0.058467, "umol/L"), "creatinine": (creatinine / 0.011312, "umol/L")}
    other = {"bilirubin": micromoles["bilirubin"], "albumin": (albumin * 10, "g/L"), "inr": 1.5}
    assert score(CHILD, other) == score(
        CHILD, {"bilirubin": (bilirubin, "mg/dL"), "albumin": (albumin, "g/dL"), "inr": 1.5}
    )
    usual = meld(creatinine, bilirubin, 1.5, 132)
    assert score(MELD, usual | micromoles | {"sodium": (132, "mmol/L")}) == score(MELD, usual)
    blood = {"urea_nitrogen": (urea, "mg/dL"), "hemoglobin": (hemoglobin, "g/dL")}
    litres = {"urea_nitrogen": (urea / 2.8014, "mmol/L"), "hemoglobin": (hemoglobin * 10, "g/L")}
    assert score(GLASGOW, bleed(sex) | litres) == score(GLASGOW, bleed(sex) | blood)


@given(platelets=st.floats(10, 900), age=st.integers(18, 100))
def test_a_platelet_count_may_be_written_in_every_way(platelets: float, age: int) -> None:
    now = score(FIB, fib(age, 40, 30, platelets))
    for count in (
        (platelets, "K/uL"),
        (platelets * 1e3, "/mm^3"),
        (platelets * 1e3, "cells/µL"),
        (platelets * 1e9, "/L"),
    ):
        assert score(
            FIB, fib(age, 40, 30, platelets) | {"platelets": count, "age": (age * 12, "months")}
        ) == pytest.approx(now)


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (CHILD, {"bilirubin": "1 mg/dL", "albumin": "4 g/dL"}, "needs inr"),
        (CHILD, child("1 mg/dL", "40 g/dL", 1), "outside 0.2 to 8 g/dL"),  # g/L was meant
        (CHILD, child("1 mg/dL", "4 g/dL", 1, "plenty"), "none of absent, slight, moderate"),
        (CHILD, child("1 mmHg", "4 g/dL", 1), "does not convert to mg/dL of bilirubin"),
        (FIB, fib(50, 40, 25, 0), "cannot be computed from these values"),  # no platelets: nothing to divide by
        (FIB, fib(50, 40, 0, 200), "alt: 0 U/L is outside"),
        (FIB, {"age": 50, "ast": "40 U/L", "alt": "25 U/L"}, "needs platelets"),
        (FIB, fib(50, 40, 25, 200) | {"platelets": 200}, "give the unit"),
        (MELD, {"creatinine": "1 mg/dL", "bilirubin": "1 mg/dL", "inr": 1}, "needs sodium"),
        (MELD, meld(1, 1, 1, 14), "outside 80 to 220"),
        (MELD, meld(1, 1, 1, 137) | {"dialysis": True}, "no input 'dialysis'"),
        (GLASGOW, {"sex": "male"}, "needs urea_nitrogen"),
        (GLASGOW, bleed(hemoglobin="130 g/dL"), "outside 1 to 30 g/dL"),  # g/L was meant
        (GLASGOW, bleed() | {"melena": "tarry"}, "neither yes nor no"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


@pytest.mark.parametrize(
    ("number", "values", "published", "medcalc"),
    [
        # Ascites that is mentioned scores nothing, and so does encephalopathy of grade 0.
        *((CHILD, child("1 mg/dL", "4 g/dL", 1, word), 4 + points, 4) for points, word in enumerate(ASCITES, start=1)),
        (CHILD, child("1 mg/dL", "4 g/dL", 1, encephalopathy="grade 0"), 5, 4),
        (CHILD, child("1 mg/dL", "4 g/dL", 1), 5, 5),
        # Bilirubin of exactly 3, albumin of exactly 2.8: 3 points each.
        (CHILD, child("3 mg/dL", "4 g/dL", 1), 6, 7),
        (CHILD, child("1 mg/dL", "2.8 g/dL", 1), 6, 7),
        # MELD(i) / 10 of 2.28448 goes to 2 and not to 2.3.
        (MELD, meld(2, 4, 1.5, 137), 23, 20),
        # 1.9697 goes to 2 and to 2.0; then 20 + 13.2 - 0.033 * 20 * 10 = 26.6, or with 1.9697 in
        # that product 32.55.
        (MELD, meld(1, 1, 1, 127) | {"dialysis_twice_in_week": True}, 27, 33),
        # A hemoglobin at the bound scores 1.
        (GLASGOW, bleed("male", hemoglobin="13 g/dL"), 0, 1),
        (GLASGOW, bleed("female", hemoglobin="12 g/dL"), 0, 1),
        (GLASGOW, bleed("female", hemoglobin="13 g/dL"), 0, 0),
    ],
)
def test_the_first_release_deviates_and_the_verified_one_does_not(
    number: int, values: dict[str, Any], published: float, medcalc: float
) -> None:
    found = [score(number, values, convention) for convention in ("published", "medcalc", "medcalc-verified")]
    assert found == [published, medcalc, published]
