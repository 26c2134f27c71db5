"""The lungs: pneumonia (PSI, CURB-65) and pulmonary embolism (Wells, PERC)."""

from __future__ import annotations

from dataclasses import replace

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Flag
from ehrmind.calculators.vocabulary import (
    AGE,
    CEREBROVASCULAR_DISEASE,
    CONFUSION,
    DIASTOLIC,
    GLUCOSE,
    HEART_FAILURE,
    HEART_RATE,
    HEMATOCRIT,
    HEMOPTYSIS,
    LIVER_DISEASE,
    OXYGEN_SATURATION,
    PAO2,
    PH,
    PRIOR_DVT,
    PRIOR_PE,
    RESPIRATORY_RATE,
    SEX,
    SODIUM,
    SYSTOLIC,
    TEMPERATURE,
    UREA_NITROGEN,
)
from ehrmind.calculators.working import Steps, num

NURSING_HOME = Flag("nursing_home", "residence in a nursing home", ("Nursing home resident",))
NEOPLASM = Flag("neoplastic_disease", "neoplastic disease")
RENAL_DISEASE = Flag("renal_disease", "renal disease", ("Renal disease history",))
PLEURAL_EFFUSION = Flag("pleural_effusion", "pleural effusion on x-ray")
DVT_SIGNS = Flag(
    "dvt_signs", "clinical signs of deep vein thrombosis", ("Clinical signs and symptoms of Deep Vein Thrombosis",)
)
PE_LIKELY = Flag(
    "pe_likely",
    "pulmonary embolism as the first or an equally likely diagnosis",
    ("Pulmonary Embolism is #1 diagnosis OR equally likely",),
)
IMMOBILE = Flag("immobilized_3_days", "immobilization for at least 3 days")
SURGERY_4_WEEKS = Flag("surgery_4_weeks", "surgery in the previous 4 weeks")
TREATED_CANCER = Flag(
    "treated_cancer",
    "malignancy treated within 6 months or palliative",
    ("Malignancy with treatment within 6 months or palliative",),
)
HORMONES = Flag("hormones", "hormone use")
SURGERY_OR_TRAUMA = Flag(
    "surgery_or_trauma_4_weeks", "surgery or trauma in the last 4 weeks", ("Recent surgery or trauma",)
)
ONE_LEG_SWOLLEN = Flag("one_leg_swollen", "unilateral leg swelling")

UNMEASURED = "not given, so taken as normal"


def pneumonia_severity_index(
    steps: Steps,
    *,
    age: float,
    sex: str,
    temperature: float,
    heart_rate: float,
    respiratory_rate: float,
    systolic: float,
    ph: float | None,
    urea_nitrogen: float | None,
    sodium: float | None,
    glucose: float | None,
    hematocrit: float | None,
    pao2: float | None,
    fever_above: float = 39.999999,
    glucose_above: float = 249.999999,
    urea_nitrogen_si: float | None = None,
    glucose_si: float | None = None,
    **present: bool,
) -> float:
    """Works the PSI. Measurements that were not made count as normal, as in the publication's
    derivation.

    `urea_nitrogen_si` and `glucose_si` are in mmol/L, if they were given so. The publication's
    limits are "30 mg/dl (11 mmol/liter)" and "250 mg/dl (14 mmol/liter)".
    """
    steps.points("age in years", f"{num(age)} years", int(age))
    steps.points("sex, 10 less for women", sex, -10 if sex == "female" else 0)
    for item, points in _PSI_FINDINGS:
        steps.flag(item.label, present[item.name], points)
    steps.points("heart rate of 125 or more", f"{num(heart_rate)} bpm", 10 * (heart_rate >= 125))
    steps.points(
        "temperature below 35 or from 40 C",
        f"{num(temperature)} C",
        15 * (temperature < 35 or temperature > fever_above),
    )
    steps.points(
        "respiratory rate of 30 or more", f"{num(respiratory_rate)} breaths/min", 20 * (respiratory_rate >= 30)
    )
    steps.points("systolic pressure below 90 mm Hg", f"{num(systolic)} mm Hg", 20 * (systolic < 90))
    urea = (
        "urea nitrogen of 30 mg/dL or more",
        urea_nitrogen,
        " mg/dL",
        20,
        urea_nitrogen is not None and urea_nitrogen >= 30,
    )
    if urea_nitrogen_si is not None:
        urea = ("urea nitrogen of 11 mmol/L or more", urea_nitrogen_si, " mmol/L", 20, urea_nitrogen_si >= 11)
    sugar = ("glucose of 250 mg/dL or more", glucose, " mg/dL", 10, glucose is not None and glucose > glucose_above)
    if glucose_si is not None:
        sugar = ("glucose of 14 mmol/L or more", glucose_si, " mmol/L", 10, glucose_si >= 14)
    for what, value, unit, points, bad in (
        ("arterial pH below 7.35", ph, "", 30, ph is not None and ph < 7.35),
        urea,
        ("sodium below 130 mEq/L", sodium, " mEq/L", 20, sodium is not None and sodium < 130),
        sugar,
        ("hematocrit below 30 %", hematocrit, " %", 10, hematocrit is not None and hematocrit < 30),
        ("PaO2 below 60 mm Hg", pao2, " mm Hg", 10, pao2 is not None and pao2 < 60),
    ):
        steps.points(what, "not given" if value is None else f"{num(value)}{unit}", points if bad else 0)
    return steps.total("Pneumonia Severity Index")


def curb_65(
    steps: Steps,
    *,
    confusion: bool,
    urea_nitrogen: float,
    respiratory_rate: float,
    systolic: float,
    diastolic: float,
    age: float,
    urea_above: float = 19.61,
    urea_nitrogen_si: float | None = None,
) -> float:
    """Works CURB-65.

    The paper's limit for urea is 7 mmol/L, which is 19.6098 mg/dL of urea nitrogen; 7 mmol/L itself
    does not score. `urea_nitrogen_si` is in mmol/L, if it was given so.
    """
    steps.flag("confusion", confusion)
    urea, limit, unit = (
        (urea_nitrogen, urea_above, "mg/dL") if urea_nitrogen_si is None else (urea_nitrogen_si, 7, "mmol/L")
    )
    steps.points(f"urea nitrogen above {num(limit)} {unit}", f"{num(urea)} {unit}", int(urea > limit))
    steps.points("respiratory rate of 30 or more", f"{num(respiratory_rate)} breaths/min", int(respiratory_rate >= 30))
    low = systolic < 90 or diastolic <= 60
    steps.points(
        "blood pressure below 90 systolic or at most 60 diastolic", f"{num(systolic)}/{num(diastolic)} mm Hg", int(low)
    )
    steps.points("age of 65 or more", f"{num(age)} years", int(age >= 65))
    return steps.total("CURB-65 score")


def wells_pulmonary_embolism(
    steps: Steps,
    *,
    dvt_signs: bool,
    pe_likely: bool,
    heart_rate: float,
    immobilized_3_days: bool,
    surgery_4_weeks: bool,
    prior_dvt: bool,
    prior_pe: bool,
    hemoptysis: bool,
    treated_cancer: bool,
) -> float:
    steps.flag(DVT_SIGNS.label, dvt_signs, 3)
    steps.flag(PE_LIKELY.label, pe_likely, 3)
    steps.points("heart rate above 100", f"{num(heart_rate)} bpm", 1.5 * (heart_rate > 100))
    steps.flag(
        "immobilization for at least 3 days or surgery in the previous 4 weeks",
        immobilized_3_days or surgery_4_weeks,
        1.5,
    )
    steps.flag("previous deep vein thrombosis or pulmonary embolism", prior_dvt or prior_pe, 1.5)
    steps.flag("hemoptysis", hemoptysis)
    steps.flag(TREATED_CANCER.label, treated_cancer)
    return steps.total("Wells' criteria for pulmonary embolism")


def perc_rule(
    steps: Steps,
    *,
    age: float,
    heart_rate: float,
    oxygen_saturation: float,
    one_leg_swollen: bool,
    hemoptysis: bool,
    surgery_or_trauma_4_weeks: bool,
    prior_dvt: bool,
    prior_pe: bool,
    hormones: bool,
) -> float:
    steps.points("age of 50 or more", f"{num(age)} years", int(age >= 50))
    steps.points("heart rate of 100 or more", f"{num(heart_rate)} bpm", int(heart_rate >= 100))
    steps.points("oxygen saturation below 95 %", f"{num(oxygen_saturation)} %", int(oxygen_saturation < 95))
    steps.flag(ONE_LEG_SWOLLEN.label, one_leg_swollen)
    steps.flag("hemoptysis", hemoptysis)
    steps.flag(SURGERY_OR_TRAUMA.label, surgery_or_trauma_4_weeks)
    steps.flag("previous deep vein thrombosis or pulmonary embolism", prior_dvt or prior_pe)
    steps.flag(HORMONES.label, hormones)
    return steps.total("PERC criteria met", "criteria")


_PSI_FINDINGS = (
    (NURSING_HOME, 10),
    (NEOPLASM, 30),
    (LIVER_DISEASE, 20),
    (HEART_FAILURE, 10),
    (CEREBROVASCULAR_DISEASE, 10),
    (RENAL_DISEASE, 10),
    (CONFUSION, 20),
    (PLEURAL_EFFUSION, 10),
)

CALCULATORS = (
    Calculator(
        29,
        pneumonia_severity_index,
        (
            replace(AGE, low=18),
            SEX,
            *(item for item, _ in _PSI_FINDINGS),
            TEMPERATURE,
            HEART_RATE,
            RESPIRATORY_RATE,
            SYSTOLIC,
            *(
                replace(item, because=UNMEASURED, si="mmol/L" if item in (UREA_NITROGEN, GLUCOSE) else "")
                for item in (PH, UREA_NITROGEN, SODIUM, GLUCOSE, HEMATOCRIT, PAO2)
            ),
        ),
        question="What is the patient's Pneumonia Severity Index (PSI)?",
        formula="age (10 less for women) + points for residence, five illnesses, five findings of the examination and "
        "seven of tests",
        citation="Fine MJ, Auble TE, Yealy DM, et al. A prediction rule to identify low-risk patients with "
        "community-acquired pneumonia. N Engl J Med. 1997;336(4):243-250.",
        deviations=(
            Deviation(
                "fever scores above 39.9 C and glucose above 250 mg/dL",
                "the releases' text has those bounds; the paper's are from 40 C and from 250 mg/dL",
                {"fever_above": 39.9, "glucose_above": 250.0},
                conventions=("medcalc", "medcalc-verified"),
            ),
            Deviation(
                "temperatures in 'degrees celsisus' are taken for Fahrenheit",
                "the release's code does not know its own misspelling",
                units={"degrees celsisus": "F"},
            ),
        ),
    ),
    Calculator(
        45,
        curb_65,
        (CONFUSION, replace(UREA_NITROGEN, si="mmol/L"), RESPIRATORY_RATE, SYSTOLIC, DIASTOLIC, replace(AGE, low=18)),
        question="What is the patient's CURB-65 score?",
        formula="1 point each: confusion; urea above 7 mmol/L (urea nitrogen above 19.61 mg/dL); respiratory rate of "
        "30 or more; systolic below 90 or diastolic at most 60 mm Hg; age of 65 or more",
        citation="Lim WS, van der Eerden MM, Laing R, et al. Defining community acquired pneumonia severity on "
        "presentation to hospital. Thorax. 2003;58(5):377-382.",
        deviations=(
            Deviation(
                "the urea nitrogen limit is 19 mg/dL",
                "the releases round 7 mmol/L down",
                {"urea_above": 19.0},
                conventions=("medcalc", "medcalc-verified"),
            ),
        ),
    ),
    Calculator(
        8,
        wells_pulmonary_embolism,
        (DVT_SIGNS, PE_LIKELY, HEART_RATE, IMMOBILE, SURGERY_4_WEEKS, PRIOR_DVT, PRIOR_PE, HEMOPTYSIS, TREATED_CANCER),
        question="What is the patient's Wells' score for pulmonary embolism?",
        formula="3 each: signs of deep vein thrombosis, embolism the likeliest diagnosis; 1.5 each: heart rate above "
        "100, immobilization or surgery, previous thrombosis or embolism; 1 each: hemoptysis, malignancy",
        citation="Wells PS, Anderson DR, Rodger M, et al. Derivation of a simple clinical model to categorize patients "
        "probability of pulmonary embolism. Thromb Haemost. 2000;83(3):416-420.",
    ),
    Calculator(
        48,
        perc_rule,
        (
            AGE,
            HEART_RATE,
            OXYGEN_SATURATION,
            ONE_LEG_SWOLLEN,
            HEMOPTYSIS,
            SURGERY_OR_TRAUMA,
            PRIOR_DVT,
            PRIOR_PE,
            HORMONES,
        ),
        question="How many criteria of the PERC rule for pulmonary embolism does the patient meet?",
        formula="1 each: age of 50 or more; heart rate of 100 or more; saturation below 95 %; unilateral leg swelling; "
        "hemoptysis; surgery or trauma within 4 weeks; previous thrombosis or embolism; hormone use",
        citation="Kline JA, Mitchell AM, Kabrhel C, Richman PB, Courtney DM. Clinical criteria to prevent unnecessary "
        "diagnostic testing in emergency department patients with suspected pulmonary embolism. J Thromb Haemost. "
        "2004;2(8):1247-1255.",
    ),
)
