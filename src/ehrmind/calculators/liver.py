"""The liver and the gut: Child-Pugh, FIB-4, MELD Na, the Glasgow-Blatchford score."""

from __future__ import annotations

import math
from dataclasses import replace

from ehrmind.calculators.apache import band
from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice, Flag
from ehrmind.calculators.vocabulary import (
    AGE,
    ALBUMIN,
    ALT,
    AST,
    BILIRUBIN,
    CREATININE,
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
    {"absent": ("none", "no", "false"), "slight": ("mild",), "moderate": ("moderate to severe", "severe")},
    because="not mentioned, so taken as absent",
)
ENCEPHALOPATHY = Choice(
    "encephalopathy",
    "hepatic encephalopathy",
    {
        "none": ("No Encephalopathy", "absent", "no", "false"),
        "grade 0": (),
        "grade 1-2": ("grade 1", "grade 2", "Grade 1-2 encephalopathy"),
        "grade 3-4": ("grade 3", "grade 4", "Grade 3-4 encephalopathy"),
    },
    ("Encephalopathy",),
    default="none",
    because="not mentioned, so taken as none",
)
DIALYSIS = Flag("dialysis_twice_in_week", "dialysis at least twice in the past week")
HEMODIALYSIS_DAY = Flag(
    "continuous_hemodialysis",
    "continuous veno-venous hemodialysis for 24 hours in the past week",
    ("Continuous veno-venous hemodialysis for ≥24 hours in the past week",),
)
MELENA, SYNCOPE = Flag("melena", "melena", ("Melena present",)), Flag("syncope", "recent syncope")
CARDIAC_FAILURE = Flag("cardiac_failure", "cardiac failure", ("Cardiac failure present",))

# (lowest value of the band, points). The publication uses blood urea in mmol/L; urea nitrogen in
# mg/dL is derived from it.
UREAS_SI = ((25, 6), (10, 4), (8, 3), (6.5, 2))
UREA_NITROGENS = ((70.0001, 6), (28, 4), (22.4, 3), (18.2, 2))


def child_pugh(
    steps: Steps,
    *,
    bilirubin: float,
    albumin: float,
    inr: float,
    ascites: str | None,
    encephalopathy: str,
    ascites_points: tuple[int, int, int] = (1, 2, 3),
    grade_0_points: int = 1,
    bilirubin_3_points: int = 2,
    albumin_28_points: int = 2,
    bilirubin_si: float | None = None,
) -> float:
    """Works Child-Pugh.

    `bilirubin_si` is in µmol/L, if it was given so. Textbooks print 34 and 51 µmol/L for the
    publication's 2 and 3 mg/dL.
    """
    if bilirubin_si is None:
        yellow = 1 if bilirubin < 2 else 3 if bilirubin > 3 else bilirubin_3_points if bilirubin == 3 else 2
        steps.points("bilirubin, below 2, 2 to 3, above 3 mg/dL", f"{num(bilirubin)} mg/dL", yellow)
    else:
        yellow = 1 if bilirubin_si < 34 else 3 if bilirubin_si > 51 else 2
        steps.points("bilirubin, below 34, 34 to 51, above 51 µmol/L", f"{num(bilirubin_si)} µmol/L", yellow)
    protein = 1 if albumin > 3.5 else 3 if albumin < 2.8 else albumin_28_points if albumin == 2.8 else 2
    steps.points("albumin, above 3.5, 2.8 to 3.5, below 2.8 g/dL", f"{num(albumin)} g/dL", protein)
    steps.points("INR, below 1.7, 1.7 to 2.3, above 2.3", num(inr), 1 if inr < 1.7 else 2 if inr <= 2.3 else 3)
    fluid = 1 if ascites is None else ascites_points[list(ASCITES.options).index(ascites)]
    steps.points("ascites", ascites or "not mentioned", fluid)
    grades = (1, grade_0_points, 2, 3)
    steps.points("hepatic encephalopathy", encephalopathy, grades[list(ENCEPHALOPATHY.options).index(encephalopathy)])
    return steps.total("Child-Pugh score")


def fib_4(steps: Steps, *, age: float, ast: float, alt: float, platelets: float) -> float:
    return steps(
        "FIB-4",
        f"{num(age)} * {num(ast)} / ({num(platelets)} * sqrt({num(alt)}))",
        age * ast / (platelets * math.sqrt(alt)),
    )


def meld_na(
    steps: Steps,
    *,
    creatinine: float,
    dialysis_twice_in_week: bool,
    continuous_hemodialysis: bool,
    bilirubin: float,
    inr: float,
    sodium: float,
    decimals: int = 1,
    unrounded_product: bool = False,
) -> float:
    """Works MELD Na by the UNOS policy of 2016.

    Values below 1 count as 1, creatinine is capped at 4 (and is 4 on dialysis), and sodium is kept
    between 125 and 137.
    """
    dialysis = dialysis_twice_in_week or continuous_hemodialysis
    kidney = 4.0 if dialysis else min(max(creatinine, 1.0), 4.0)
    bound = "4, for the patient is on dialysis" if dialysis else f"min(max({num(creatinine)}, 1), 4)"
    if dialysis:
        steps.note("creatinine to use", bound)
    else:
        steps("creatinine to use", bound, kidney, "mg/dL")
    yellow = steps("bilirubin to use", f"max({num(bilirubin)}, 1)", max(bilirubin, 1.0), "mg/dL")
    clotting = steps("INR to use", f"max({num(inr)}, 1)", max(inr, 1.0))
    salt = steps("sodium to use", f"min(max({num(sodium)}, 125), 137)", min(max(sodium, 125.0), 137.0), "mEq/L")
    score = 0.957 * math.log(kidney) + 0.378 * math.log(yellow) + 1.120 * math.log(clotting) + 0.643
    steps(
        "MELD(i) / 10",
        f"0.957 * ln({num(kidney)}) + 0.378 * ln({num(yellow)}) + 1.12 * ln({num(clotting)}) + 0.643",
        score,
    )
    first = steps(
        "MELD(i), to the nearest tenth times 10",
        f"10 * {round(score, decimals)}",
        round(10 * round(score, decimals)),
        "points",
    )
    if first > 11:
        factor = score if unrounded_product else first
        corrected = first + 1.32 * (137 - salt) - 0.033 * factor * (137 - salt)
        steps(
            "MELD Na",
            f"{first} + 1.32 * (137 - {num(salt)}) - 0.033 * {num(factor)} * (137 - {num(salt)})",
            corrected,
            "points",
        )
    else:
        steps.note("MELD Na", "MELD(i), for it is not above 11")
        corrected = first
    return steps("MELD Na, rounded, at most 40", num(min(round(corrected), 40)), min(round(corrected), 40), "points")


def glasgow_blatchford(
    steps: Steps,
    *,
    sex: str,
    urea_nitrogen: float,
    hemoglobin: float,
    systolic: float,
    heart_rate: float,
    melena: bool,
    syncope: bool,
    liver_disease: bool,
    cardiac_failure: bool,
    hemoglobin_at_bound: bool = False,
    urea_nitrogen_si: float | None = None,
) -> float:
    """Works the Glasgow-Blatchford score.

    `urea_nitrogen_si` is in mmol/L, if it was given so, and is compared with the publication's own
    limits.
    """
    if urea_nitrogen_si is None:
        steps.points("urea nitrogen", f"{num(urea_nitrogen)} mg/dL", band(urea_nitrogen, UREA_NITROGENS, 0))
    else:
        steps.points(
            "urea nitrogen, by the limits in mmol/L",
            f"{num(urea_nitrogen_si)} mmol/L",
            band(urea_nitrogen_si, UREAS_SI, 0),
        )
    bands = ((13, 0), (12, 1), (10, 3)) if sex == "male" else ((12, 0), (10, 1))
    upper = bands[0][0]
    blood = (
        1
        if hemoglobin_at_bound and hemoglobin == upper
        else next((points for least, points in bands if hemoglobin >= least), 6)
    )
    steps.points(f"hemoglobin of a {sex}", f"{num(hemoglobin)} g/dL", blood)
    pressure = 0 if systolic >= 110 else 1 if systolic >= 100 else 2 if systolic >= 90 else 3
    steps.points("systolic pressure", f"{num(systolic)} mm Hg", pressure)
    steps.points("heart rate of 100 or more", f"{num(heart_rate)} bpm", int(heart_rate >= 100))
    steps.flag("melena", melena)
    steps.flag("recent syncope", syncope, 2)
    steps.flag(LIVER_DISEASE.label, liver_disease, 2)
    steps.flag("cardiac failure", cardiac_failure, 2)
    return steps.total("Glasgow-Blatchford score")


CALCULATORS = (
    Calculator(
        15,
        child_pugh,
        (replace(BILIRUBIN, si="µmol/L"), ALBUMIN, INR, ASCITES, ENCEPHALOPATHY),
        question="What is the patient's Child-Pugh score?",
        formula="1 to 3 points each for bilirubin, albumin, INR, ascites and encephalopathy",
        citation="Pugh RN, Murray-Lyon IM, Dawson JL, Pietroni MC, Williams R. Transection of the oesophagus for "
        "bleeding oesophageal varices. Br J Surg. 1973;60(8):646-649. With INR in place of the prothrombin time.",
        deviations=(
            Deviation(
                "ascites that is mentioned scores nothing",
                "the release's code does not know its own words",
                {"ascites_points": (0, 0, 0)},
            ),
            Deviation(
                "encephalopathy of grade 0 scores nothing",
                "the release's code does not know that word",
                {"grade_0_points": 0},
            ),
            Deviation(
                "a bilirubin of exactly 3 mg/dL and an albumin of exactly 2.8 g/dL score 3",
                "the release counts the middle band's bounds as beyond it",
                {"bilirubin_3_points": 3, "albumin_28_points": 3},
            ),
        ),
    ),
    Calculator(
        19,
        fib_4,
        (AGE, AST, ALT, PLATELETS),
        question="What is the patient's Fibrosis-4 (FIB-4) index?",
        formula="age * AST / (platelets (10^9/L) * sqrt(ALT))",
        citation="Sterling RK, Lissen E, Clumeck N, et al. Development of a simple noninvasive index to predict "
        "significant fibrosis in patients with HIV/HCV coinfection. Hepatology. 2006;43(6):1317-1325.",
    ),
    Calculator(
        23,
        meld_na,
        (CREATININE, DIALYSIS, HEMODIALYSIS_DAY, BILIRUBIN, INR, SODIUM),
        question="What is the patient's MELD Na score (UNOS/OPTN 2016)?",
        formula="MELD(i) = 10 * (0.957 * ln(creatinine) + 0.378 * ln(bilirubin) + 1.12 * ln(INR) + 0.643); above 11: "
        "MELD(i) + 1.32 * (137 - Na) - 0.033 * MELD(i) * (137 - Na)",
        citation="Kim WR, Biggins SW, Kremers WK, et al. Hyponatremia and mortality among patients on the "
        "liver-transplant waiting list. N Engl J Med. 2008;359(10):1018-1026. As in OPTN Policy 9.1.D, 2016.",
        deviations=(
            Deviation(
                "MELD(i) is rounded to tens of points",
                "the release rounds to a whole number before it multiplies by 10",
                {"decimals": 0},
            ),
            Deviation(
                "the sodium correction's product takes MELD(i) / 10",
                "the release's code uses the number from before the multiplication there",
                {"unrounded_product": True},
            ),
        ),
    ),
    Calculator(
        27,
        glasgow_blatchford,
        (
            SEX,
            replace(UREA_NITROGEN, si="mmol/L"),
            HEMOGLOBIN,
            SYSTOLIC,
            HEART_RATE,
            MELENA,
            SYNCOPE,
            LIVER_DISEASE,
            CARDIAC_FAILURE,
        ),
        question="What is the patient's Glasgow-Blatchford bleeding score?",
        formula="0 to 6 points each for urea nitrogen and hemoglobin, 0 to 3 for systolic pressure, 1 for heart rate "
        "and melena, 2 for syncope, liver disease and cardiac failure",
        citation="Blatchford O, Murray WR, Blatchford M. A risk score to predict need for treatment for "
        "upper-gastrointestinal haemorrhage. Lancet. 2000;356(9238):1318-1321.",
        deviations=(
            Deviation(
                "hemoglobin of exactly 13 (men) or 12 (women) g/dL scores 1",
                "the release counts the normal range's lower bound as below it",
                {"hemoglobin_at_bound": True},
            ),
        ),
    ),
)
