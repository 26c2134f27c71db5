"""Risks of the heart: stroke and bleeding in atrial fibrillation, surgery, chest pain, coronary
disease, LDL cholesterol."""

from __future__ import annotations

import math
from dataclasses import replace

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice, Flag
from ehrmind.calculators.vocabulary import (
    AGE,
    CEREBROVASCULAR_DISEASE,
    CHOLESTEROL,
    CREATININE,
    DIABETES,
    DRINKS,
    HDL,
    HEART_FAILURE,
    HYPERTENSION,
    SEX,
    SMOKING,
    STROKE,
    SYSTOLIC,
    TIA,
    TRIGLYCERIDES,
)
from ehrmind.calculators.working import Steps, num

THROMBOEMBOLISM = Flag("thromboembolism", "previous thromboembolism", ("Thromboembolism history",))
VASCULAR_DISEASE = Flag("vascular_disease", "vascular disease", ("Vascular disease history",))
HIGH_RISK_SURGERY = Flag("high_risk_surgery", "high-risk surgery", ("Elevated-risk surgery",))
ISCHEMIC_HEART_DISEASE = Flag(
    "ischemic_heart_disease", "ischemic heart disease", ("History of ischemic heart disease",)
)
INSULIN_TREATED = Flag(
    "insulin_treated", "preoperative treatment with insulin", ("Pre-operative treatment with insulin",)
)
HYPERCHOLESTEROLEMIA = Flag("hypercholesterolemia", "hypercholesterolemia")
OBESITY = Flag("obesity", "obesity")
FAMILY_HEART = Flag(
    "family_heart_disease",
    "parent or sibling with cardiovascular disease before 65",
    ("parent or sibling with Cardiovascular disease before age 65",),
)
ATHEROSCLEROSIS = Flag("atherosclerotic_disease", "atherosclerotic disease")
BLEEDING_DRUGS = Flag(
    "bleeding_drugs", "drugs that predispose to bleeding", ("Medication usage predisposing to bleeding",)
)
LIVER_BLEEDING = Flag(
    "liver_disease_has_bled",
    "cirrhosis or grossly abnormal liver tests",
    ("Liver disease criteria for the HAS-BLED rule",),
)
RENAL_BLEEDING = Flag(
    "renal_disease_has_bled",
    "dialysis, transplant or creatinine above 2.26 mg/dL",
    ("Renal disease criteria for the HAS-BLED rule",),
)
PRIOR_BLEEDING = Flag(
    "prior_bleeding", "major bleeding or a disposition to it", ("Prior major bleeding or predisposition to bleeding",)
)
LABILE_INR = Flag("labile_inr", "labile INR", ("Labile international normalized ratio",))
BP_TREATED = Flag("bp_treated", "medicines for blood pressure", ("Blood pressure being treated with medicines",))
SUSPICION = Choice(
    "suspicion",
    "suspicion by history",
    {"slight": ("slightly suspicious",), "moderate": ("moderately suspicious",), "high": ("highly suspicious",)},
    ("Suspicion History",),
    default="slight",
    because="not mentioned, so taken as slight",
)
ECG = Choice(
    "ecg",
    "electrocardiogram",
    {
        "normal": (),
        "non-specific repolarization disturbance": (),
        "significant ST deviation": ("significant ST depression",),
    },
    ("Electrocardiogram Test",),
    default="normal",
    because="not mentioned, so taken as normal",
)
TROPONIN = Choice(
    "troponin",
    "initial troponin",
    {
        "normal": ("less than or equal to normal limit",),
        "up to 3 times normal": ("between the normal limit or up to three times the normal limit",),
        "more than 3 times normal": ("greater than three times normal limit",),
    },
    default="normal",
    because="not mentioned, so taken as normal",
)
_RISK_FACTORS = (HYPERTENSION, HYPERCHOLESTEROLEMIA, DIABETES, OBESITY, SMOKING, FAMILY_HEART)
_RCRI = (HIGH_RISK_SURGERY, ISCHEMIC_HEART_DISEASE, HEART_FAILURE, CEREBROVASCULAR_DISEASE, INSULIN_TREATED)
_HAS_BLED = (HYPERTENSION, RENAL_BLEEDING, LIVER_BLEEDING, STROKE, PRIOR_BLEEDING, LABILE_INR, BLEEDING_DRUGS)


def cha2ds2_vasc(
    steps: Steps,
    *,
    age: float,
    sex: str,
    heart_failure: bool,
    hypertension: bool,
    stroke: bool,
    tia: bool,
    thromboembolism: bool,
    vascular_disease: bool,
    diabetes: bool,
) -> float:
    steps.points("age, 1 from 65 and 2 from 75", f"{num(age)} years", 2 if age >= 75 else 1 if age >= 65 else 0)
    steps.points("sex, 1 for women", sex, int(sex == "female"))
    steps.flag(HEART_FAILURE.label, heart_failure)
    steps.flag("hypertension", hypertension)
    steps.flag("stroke, transient ischemic attack or thromboembolism", stroke or tia or thromboembolism, 2)
    steps.flag("vascular disease", vascular_disease)
    steps.flag("diabetes mellitus", diabetes)
    return steps.total("CHA2DS2-VASc score")


def revised_cardiac_risk_index(steps: Steps, *, creatinine: float, **present: bool) -> float:
    for item in _RCRI:
        steps.flag(item.label, present[item.name])
    steps.points("creatinine above 2 mg/dL", f"{num(creatinine)} mg/dL", int(creatinine > 2))
    return steps.total("Revised Cardiac Risk Index")


def heart_score(
    steps: Steps,
    *,
    suspicion: str,
    ecg: str,
    age: float,
    troponin: str,
    atherosclerotic_disease: bool,
    tia: bool,
    disease_counts_as_factor: bool = False,
    **present: bool,
) -> float:
    """Gives risk factors 1 point for one or two and 2 for three. Known atherosclerotic disease
    alone earns 2."""
    steps.points("history", f"{suspicion} suspicion", list(SUSPICION.options).index(suspicion))
    steps.points("electrocardiogram", ecg, list(ECG.options).index(ecg))
    steps.points("age, 1 from 45 and 2 from 65", f"{num(age)} years", 2 if age >= 65 else 1 if age >= 45 else 0)
    disease = atherosclerotic_disease or tia
    found = [item.label for item in _RISK_FACTORS if present[item.name]]
    factors = len(found) + (disease if disease_counts_as_factor else 0)
    most = factors >= 3 or (disease and not disease_counts_as_factor)
    named = [*found, *(["atherosclerotic disease"] if disease else [])]
    steps.points("risk factors", ", ".join(named) or "none", 2 if most else int(factors > 0))
    steps.points("initial troponin", troponin, list(TROPONIN.options).index(troponin))
    return steps.total("HEART score")


def has_bled(steps: Steps, *, age: float, drinks: float, **present: bool) -> float:
    for item in _HAS_BLED:
        steps.flag(item.label, present[item.name])
    steps.points("age above 65", f"{num(age)} years", int(age > 65))
    steps.points("8 or more alcoholic drinks a week", num(drinks), int(drinks >= 8))
    return steps.total("HAS-BLED score")


def ldl_friedewald(steps: Steps, *, cholesterol: float, hdl: float, triglycerides: float) -> float:
    expression = f"{num(cholesterol)} - {num(hdl)} - {num(triglycerides)} / 5"
    return steps("LDL cholesterol", expression, cholesterol - hdl - triglycerides / 5, "mg/dL")


# ln(age), ln(cholesterol), ln(HDL), ln(systolic), treated, smoker, ln(age) * ln(cholesterol),
# ln(age) * smoker, ln(age)^2, constant, survival at the mean, and the age at which a smoker's age
# is capped
FRAMINGHAM = {
    "male": (
        52.00961,
        20.014077,
        -0.905964,
        1.305784,
        0.241549,
        12.096316,
        -4.605038,
        -2.84367,
        -2.93323,
        172.300168,
        0.9402,
        70,
    ),
    "female": (
        31.764001,
        22.465206,
        -1.187731,
        2.552905,
        0.420251,
        13.07543,
        -5.060998,
        -2.996945,
        0.0,
        146.5933061,
        0.98767,
        78,
    ),
}


def framingham_risk(
    steps: Steps,
    *,
    sex: str,
    age: float,
    cholesterol: float,
    hdl: float,
    systolic: float,
    bp_treated: bool,
    smoking: bool,
    per_mmol: float = 1.0,
    as_tenths: bool = False,
) -> float:
    """Works the Framingham risk.

    `per_mmol` divides the cholesterols before their logarithm is taken; `as_tenths` rounds the sum
    and the share.
    """
    a, b, c, d, e, f, g, h, i, constant, survival, limit = FRAMINGHAM[sex]
    total, high = cholesterol / per_mmol, hdl / per_mmol
    smoker_age = min(age, limit)
    years, fat = math.log(age), math.log(total)
    score = a * years + b * fat + c * math.log(high) + d * math.log(systolic) + e * bp_treated + f * smoking
    score += g * years * fat + h * math.log(smoker_age) * smoking + i * years**2 - constant
    expression = f"{a} * ln({num(age)}) + {b} * ln({num(total)}) - {-c} * ln({num(high)}) + {d} * ln({num(systolic)})"
    expression += f" + {e} * {int(bp_treated)} + {f} * {int(smoking)} - {-g} * ln({num(age)}) * ln({num(total)})"
    expression += f" - {-h} * ln({num(smoker_age)}) * {int(smoking)} - {-i} * ln({num(age)})^2 - {constant}"
    score = steps(f"sum of the {sex} equation", expression, round(score, 1) if as_tenths else score)
    risk = 1 - survival ** math.exp(score)
    if as_tenths:
        return steps("share at risk, to one decimal", f"1 - {survival}^exp({num(score)})", round(risk, 1))
    return steps("10-year risk", f"100 * (1 - {survival}^exp({num(score)}))", 100 * risk, "%")


CALCULATORS = (
    Calculator(
        4,
        cha2ds2_vasc,
        (AGE, SEX, HEART_FAILURE, HYPERTENSION, STROKE, TIA, THROMBOEMBOLISM, VASCULAR_DISEASE, DIABETES),
        question="What is the patient's CHA2DS2-VASc score?",
        formula="1 each: heart failure, hypertension, diabetes, vascular disease, age 65 to 74, female; 2 each: age "
        "from 75, stroke, TIA or embolism",
        citation="Lip GY, Nieuwlaat R, Pisters R, Lane DA, Crijns HJ. Refining clinical risk stratification for "
        "predicting stroke and thromboembolism in atrial fibrillation. Chest. 2010;137(2):263-272.",
    ),
    Calculator(
        17,
        revised_cardiac_risk_index,
        (*_RCRI, replace(CREATININE, entities=("Pre-operative creatinine",))),
        question="What is the patient's Revised Cardiac Risk Index?",
        formula="1 each: high-risk surgery, ischemic heart disease, heart failure, cerebrovascular disease, insulin, "
        "creatinine above 2 mg/dL",
        citation="Lee TH, Marcantonio ER, Mangione CM, et al. Derivation and prospective validation of a simple index "
        "for prediction of cardiac risk of major noncardiac surgery. Circulation. 1999;100(10):1043-1049.",
        deviations=(
            Deviation(
                "cerebrovascular disease never scores",
                "the release's code does not find the entity under its name",
                keys={"cerebrovascular_disease": ()},
            ),
        ),
    ),
    Calculator(
        18,
        heart_score,
        (SUSPICION, ECG, AGE, *_RISK_FACTORS, ATHEROSCLEROSIS, TIA, TROPONIN),
        question="What is the patient's HEART score?",
        formula="0 to 2 points each for history, electrocardiogram, age, risk factors and troponin",
        citation="Six AJ, Backus BE, Kelder JC. Chest pain in the emergency room: value of the HEART score. Neth Heart "
        "J. 2008;16(6):191-196.",
        deviations=(
            Deviation(
                "atherosclerotic disease counts as one more risk factor, a transient ischemic attack not at all",
                "the release asks for three factors before it asks for the disease, and does not read the attack",
                {"disease_counts_as_factor": True},
                keys={"tia": ()},
            ),
        ),
    ),
    Calculator(
        25,
        has_bled,
        (AGE, *_HAS_BLED, replace(DRINKS, because="not mentioned, so taken as none", default=0.0)),
        question="What is the patient's HAS-BLED score?",
        formula="1 each: hypertension, renal disease, liver disease, stroke, bleeding, labile INR, age above 65, "
        "drugs, 8 or more drinks a week",
        citation="Pisters R, Lane DA, Nieuwlaat R, et al. A novel user-friendly score (HAS-BLED) to assess 1-year risk "
        "of major bleeding in patients with atrial fibrillation. Chest. 2010;138(5):1093-1100.",
    ),
    Calculator(
        44,
        ldl_friedewald,
        (CHOLESTEROL, HDL, TRIGLYCERIDES),
        question="What is the patient's LDL cholesterol by the Friedewald equation in mg/dL?",
        formula="total cholesterol - HDL - triglycerides / 5 (mg/dL)",
        citation="Friedewald WT, Levy RI, Fredrickson DS. Estimation of the concentration of low-density lipoprotein "
        "cholesterol in plasma, without use of the preparative ultracentrifuge. Clin Chem. 1972;18(6):499-502.",
    ),
    Calculator(
        46,
        framingham_risk,
        (SEX, replace(AGE, low=20, high=79), CHOLESTEROL, HDL, SYSTOLIC, BP_TREATED, SMOKING),
        question="What is the patient's 10-year risk of hard coronary heart disease by the Framingham score in "
        "percent?",
        formula="100 * (1 - S^exp(sum)), S = 0.9402 (men) or 0.98767 (women), sum over ln(age), ln(cholesterol), "
        "ln(HDL), ln(systolic), treatment, smoking and their products",
        citation="Expert Panel on Detection, Evaluation, and Treatment of High Blood Cholesterol in Adults. Third "
        "Report (ATP III). Circulation. 2002;106(25):3143-3421.",
        deviations=(
            Deviation(
                "the cholesterols enter in mmol/L",
                "the release converts them first; the equation is for mg/dL",
                {"per_mmol": 38.665},
            ),
            Deviation(
                "the sum and the risk, a share, are rounded to one decimal",
                "the release prints a share behind a percent sign",
                {"as_tenths": True},
            ),
        ),
    ),
)
