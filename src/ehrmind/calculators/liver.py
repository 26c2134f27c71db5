"""The liver and the upper gut: cirrhosis (Child-Pugh, MELD-Na), fibrosis (FIB-4), bleeding (Glasgow-Blatchford)."""

from __future__ import annotations

import math
from dataclasses import replace

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import ABSENT, Choice, Flag
from ehrmind.calculators.vocabulary import (
    AGE,
    ALBUMIN,
    ALT,
    AST,
    BILIRUBIN,
    CREATININE,
    HEART_FAILURE,
    HEART_RATE,
    HEMOGLOBIN,
    INR,
    LIVER_DISEASE,
    PLATELETS,
    SEX,
    SODIUM,
    SYSTOLIC,
    UREA_NITROGEN,
)
from ehrmind.calculators.working import Steps, num

ASCITES = Choice(
    "ascites",
    "ascites",
    {"absent": ("none", "no ascites", "no"), "slight": ("mild",), "moderate": ("severe", "moderate to severe")},
    because=ABSENT,
)
# Grade 0 is no encephalopathy; it is a word of its own because the first release of the benchmark does not know it.
ENCEPHALOPATHY = Choice(
    "encephalopathy",
    "hepatic encephalopathy",
    {
        "none": ("no encephalopathy", "absent", "no"),
        "grade 0": (),
        "grade 1-2": ("grade 1", "grade 2"),
        "grade 3-4": ("grade 3", "grade 4"),
    },
    default="none",
    because=ABSENT,
)
DIALYSIS_TWICE_IN_WEEK = Flag("dialysis_twice_1_week", "dialysis at least twice in the past week")
CONTINUOUS_DIALYSIS = Flag(
    "continuous_dialysis_1_week",
    "continuous hemodialysis for 24 hours in the past week",
    ("Continuous veno-venous hemodialysis for ≥24 hours in the past week",),
)
MELENA = Flag("melena", "melena", ("Melena present",))
RECENT_SYNCOPE = Flag("recent_syncope", "recent syncope")
CARDIAC_FAILURE = replace(HEART_FAILURE, label="cardiac failure", entities=("Cardiac failure present",))
ADULT = replace(AGE, low=18)


def child_pugh(
    steps: Steps,
    *,
    bilirubin: float,
    albumin: float,
    inr: float,
    ascites: str | None,
    encephalopathy: str,
    bilirubin_of_3_is_high: bool = False,
    albumin_of_2_8_is_low: bool = False,
    named_ascites_counts: bool = True,
    grade_0_counts: bool = True,
) -> float:
    high = bilirubin > 3 or (bilirubin_of_3_is_high and bilirubin == 3)
    steps.points("bilirubin (1 below 2, 2 up to 3, 3 above 3 mg/dL)", f"{num(bilirubin)} mg/dL", 3 if high else 2 if bilirubin >= 2 else 1)
    low = albumin < 2.8 or (albumin_of_2_8_is_low and albumin == 2.8)
    steps.points("albumin (1 above 3.5, 2 down to 2.8, 3 below 2.8 g/dL)", f"{num(albumin)} g/dL", 3 if low else 2 if albumin <= 3.5 else 1)
    steps.points("INR (1 below 1.7, 2 up to 2.3, 3 above 2.3)", num(inr), 3 if inr > 2.3 else 2 if inr >= 1.7 else 1)
    by_ascites = {"absent": 1, "slight": 2, "moderate": 3}[ascites or "absent"]
    steps.points("ascites", ascites or "absent", by_ascites if named_ascites_counts or ascites is None else 0)
    by_grade = {"none": 1, "grade 0": 1 if grade_0_counts else 0, "grade 1-2": 2, "grade 3-4": 3}[encephalopathy]
    steps.points("hepatic encephalopathy", encephalopathy, by_grade)
    return steps.total("Child-Pugh score")


def fib_4(steps: Steps, *, age: float, ast: float, alt: float, platelets: float) -> float:
    expression = f"{num(age)} * {num(ast)} / ({num(platelets)} * sqrt({num(alt)}))"
    return steps("FIB-4 index", expression, age * ast / (platelets * math.sqrt(alt)))


def meld_na(
    steps: Steps,
    *,
    creatinine: float,
    bilirubin: float,
    inr: float,
    sodium: float,
    dialysis_twice_1_week: bool,
    continuous_dialysis_1_week: bool,
    decimals: int = 1,
) -> float:
    """MELD(i) is rounded to `decimals` before it is taken times ten."""
    if dialysis_twice_1_week or continuous_dialysis_1_week:
        steps.note("dialysis in the past week", "yes, so creatinine counts as 4 mg/dL")
        creatinine = 4.0
    else:
        creatinine = steps("creatinine within 1 to 4", f"max(1, min({num(creatinine)}, 4))", max(1.0, min(creatinine, 4.0)), "mg/dL")
    bilirubin = steps("bilirubin, at least 1", f"max(1, {num(bilirubin)})", max(1.0, bilirubin), "mg/dL")
    inr = steps("INR, at least 1", f"max(1, {num(inr)})", max(1.0, inr))
    sodium = steps("sodium within 125 to 137", f"max(125, min({num(sodium)}, 137))", max(125.0, min(sodium, 137.0)), "mEq/L")
    first = steps(
        "MELD(i)",
        f"0.957 * ln({num(creatinine)}) + 0.378 * ln({num(bilirubin)}) + 1.12 * ln({num(inr)}) + 0.643",
        0.957 * math.log(creatinine) + 0.378 * math.log(bilirubin) + 1.12 * math.log(inr) + 0.643,
    )
    rounded = round(first, decimals)
    place = "a tenth" if decimals else "a whole number"
    score = steps(f"MELD(i) rounded to {place}, times 10", f"10 * {num(rounded)}", round(10 * rounded))
    if score <= 11:
        steps.note("sodium", "not taken into account, for MELD(i) is not above 11")
        return steps("MELD-Na", num(score), score, "points")
    adjusted = steps(
        "with sodium",
        f"{score} + 1.32 * (137 - {num(sodium)}) - 0.033 * {score} * (137 - {num(sodium)})",
        score + 1.32 * (137 - sodium) - 0.033 * score * (137 - sodium),
    )
    return steps("MELD-Na, at most 40", f"min({round(adjusted)}, 40)", min(round(adjusted), 40), "points")


def glasgow_blatchford(
    steps: Steps,
    *,
    sex: str,
    urea_nitrogen: float,
    hemoglobin: float,
    systolic: float,
    heart_rate: float,
    melena: bool,
    recent_syncope: bool,
    liver_disease: bool,
    heart_failure: bool,
    normal_hemoglobin_includes_limit: bool = True,
) -> float:
    by_urea = _from(urea_nitrogen, ((70, 6), (28, 4), (22.4, 3), (18.2, 2)))
    steps.points("urea nitrogen (2 from 18.2, 3 from 22.4, 4 from 28, 6 from 70 mg/dL)", f"{num(urea_nitrogen)} mg/dL", by_urea)
    normal = 13 if sex == "male" else 12
    if hemoglobin > normal or (normal_hemoglobin_includes_limit and hemoglobin == normal):
        by_hemoglobin: float = 0
    elif sex == "male":
        by_hemoglobin = _from(hemoglobin, ((12, 1), (10, 3)), otherwise=6)
    else:
        by_hemoglobin = _from(hemoglobin, ((10, 1),), otherwise=6)
    bands = "1 below 13, 3 below 12, 6 below 10 g/dL" if sex == "male" else "1 below 12, 6 below 10 g/dL"
    steps.points(f"hemoglobin of a {'man' if sex == 'male' else 'woman'} ({bands})", f"{num(hemoglobin)} g/dL", by_hemoglobin)
    by_pressure = _from(systolic, ((110, 0), (100, 1), (90, 2)), otherwise=3)
    steps.points("systolic blood pressure (1 below 110, 2 below 100, 3 below 90 mm Hg)", f"{num(systolic)} mm Hg", by_pressure)
    steps.points("heart rate of 100 per minute or more", f"{num(heart_rate)} bpm", int(heart_rate >= 100))
    steps.flag("melena", melena, 1)
    steps.flag("recent syncope", recent_syncope, 2)
    steps.flag("liver disease", liver_disease, 2)
    steps.flag("cardiac failure", heart_failure, 2)
    return steps.total("Glasgow-Blatchford score")


def _from(value: float, bands: tuple[tuple[float, float], ...], otherwise: float = 0) -> float:
    """The points of the first band whose lower limit the value reaches; the bands go downwards."""
    return next((points for limit, points in bands if value >= limit), otherwise)


CALCULATORS = (
    Calculator(
        15,
        child_pugh,
        (BILIRUBIN, ALBUMIN, INR, ASCITES, ENCEPHALOPATHY),
        question="How many points does the patient have on the Child-Pugh score for cirrhosis?",
        formula="1 to 3 points each for bilirubin, albumin, INR, ascites and hepatic encephalopathy",
        citation="Pugh RN, Murray-Lyon IM, Dawson JL, Pietroni MC, Williams R. Transection of the oesophagus for bleeding oesophageal "
        "varices. Br J Surg. 1973;60(8):646-649.",
        deviations=(
            Deviation(
                "a bilirubin of exactly 3 mg/dL earns three points, not two",
                "the release's code asks for less than 3 in the middle band",
                {"bilirubin_of_3_is_high": True},
            ),
            Deviation(
                "an albumin of exactly 2.8 g/dL earns three points, not two",
                "the release's code asks for more than 2.8 in the middle band",
                {"albumin_of_2_8_is_low": True},
            ),
            Deviation(
                "ascites earns no point where the entities name it, present or absent",
                "the release's code scores ascites in the branch for notes without it only",
                {"named_ascites_counts": False},
            ),
            Deviation(
                "encephalopathy of grade 0 earns no point",
                "the release's code knows the words for none, grade 1-2 and grade 3-4 only",
                {"grade_0_counts": False},
            ),
        ),
    ),
    Calculator(
        19,
        fib_4,
        (AGE, AST, ALT, replace(PLATELETS, low=1)),
        question="What is the patient's FIB-4 index for liver fibrosis?",
        formula="age (years) * AST (U/L) / (platelets (10^9/L) * sqrt(ALT (U/L)))",
        citation="Sterling RK, Lissen E, Clumeck N, et al. Development of a simple noninvasive index to predict significant fibrosis in "
        "patients with HIV/HCV coinfection. Hepatology. 2006;43(6):1317-1325.",
    ),
    Calculator(
        23,
        meld_na,
        (CREATININE, BILIRUBIN, INR, SODIUM, DIALYSIS_TWICE_IN_WEEK, CONTINUOUS_DIALYSIS),
        question="How many points does the patient have on the MELD-Na score (UNOS/OPTN, 2016)?",
        formula="MELD(i) = 0.957 * ln(creatinine) + 0.378 * ln(bilirubin) + 1.12 * ln(INR) + 0.643, to a tenth, times 10; if above 11: "
        "MELD(i) + 1.32 * (137 - sodium) - 0.033 * MELD(i) * (137 - sodium), at most 40",
        citation="Kim WR, Biggins SW, Kremers WK, et al. Hyponatremia and mortality among patients on the liver-transplant waiting list. "
        "N Engl J Med. 2008;359(10):1018-1026. In the form of OPTN policy 9.1.D, in force from January 2016.",
        deviations=(
            Deviation(
                "MELD(i) is rounded to a whole number before it is taken times ten",
                "the release's text says a tenth, its code rounds without decimals",
                {"decimals": 0},
            ),
        ),
    ),
    Calculator(
        27,
        glasgow_blatchford,
        (SEX, UREA_NITROGEN, HEMOGLOBIN, SYSTOLIC, HEART_RATE, MELENA, RECENT_SYNCOPE, LIVER_DISEASE, CARDIAC_FAILURE),
        question="How many points does the patient have on the Glasgow-Blatchford bleeding score?",
        formula="0 to 6 points for urea nitrogen and for hemoglobin by sex, 0 to 3 for systolic pressure, 1 for heart rate >= 100 and for "
        "melena, 2 each for syncope, liver disease and cardiac failure",
        citation="Blatchford O, Murray WR, Blatchford M. A risk score to predict need for treatment for upper-gastrointestinal "
        "haemorrhage. Lancet. 2000;356(9238):1318-1321.",
        deviations=(
            Deviation(
                "a hemoglobin at the limit of normal (women 12, men 13 g/dL) earns a point",
                "the release's code asks for more than the limit",
                {"normal_hemoglobin_includes_limit": False},
            ),
        ),
    ),
)
