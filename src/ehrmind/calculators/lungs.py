"""The lungs: pneumonia severity (PSI, CURB-65), and how likely a pulmonary embolism is (Wells, PERC)."""

from __future__ import annotations

from dataclasses import replace

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Flag, Quantity
from ehrmind.calculators.vocabulary import (
    AGE,
    ALTERED_MENTAL_STATUS,
    CEREBROVASCULAR_DISEASE,
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

ADULT = replace(AGE, low=18)
NURSING_HOME = Flag("nursing_home", "nursing home residence", ("Nursing home resident",))
NEOPLASTIC_DISEASE = Flag("neoplastic_disease", "neoplastic disease")
KIDNEY_DISEASE = Flag("kidney_disease", "kidney disease", ("Renal disease", "Renal disease history"))
PLEURAL_EFFUSION = Flag("pleural_effusion", "pleural effusion on the radiograph", ("Pleural effusion on x-ray", "Pleural effusion"))
DVT_SIGNS = Flag(
    "dvt_signs", "clinical signs and symptoms of deep vein thrombosis", ("Clinical signs and symptoms of Deep Vein Thrombosis",)
)
PE_MOST_LIKELY = Flag(
    "pe_most_likely",
    "pulmonary embolism as the most likely or an equally likely diagnosis",
    ("Pulmonary Embolism is #1 diagnosis OR equally likely",),
)
IMMOBILIZED_3_DAYS = Flag("immobilized_3_days", "immobilization for at least 3 days")
SURGERY_4_WEEKS = Flag("surgery_4_weeks", "surgery in the previous 4 weeks")
CANCER_TREATED_6_MONTHS = Flag(
    "cancer_treated_6_months",
    "malignancy treated within 6 months or palliative",
    ("Malignancy with treatment within 6 months or palliative",),
)
UNILATERAL_LEG_SWELLING = Flag("unilateral_leg_swelling", "unilateral leg swelling")
SURGERY_OR_TRAUMA_4_WEEKS = Flag(
    "surgery_or_trauma_4_weeks", "surgery or trauma with general anesthesia in the last 4 weeks", ("Recent surgery or trauma",)
)
HORMONE_USE = Flag("hormone_use", "estrogen use", ("Hormone use",))


def _unmeasured_is_normal(item: Quantity) -> Quantity:
    """The index counts a laboratory value that nobody asked for as normal."""
    return replace(item, default=None, because="not measured, so taken as normal")


def pneumonia_severity_index(
    steps: Steps,
    *,
    sex: str,
    age: float,
    nursing_home: bool,
    neoplastic_disease: bool,
    liver_disease: bool,
    heart_failure: bool,
    cerebrovascular_disease: bool,
    kidney_disease: bool,
    confusion: bool,
    pleural_effusion: bool,
    respiratory_rate: float,
    systolic: float,
    temperature: float,
    heart_rate: float,
    ph: float | None,
    urea_nitrogen: float | None,
    sodium: float | None,
    glucose: float | None,
    hematocrit: float | None,
    pao2: float | None,
    fever_above: float | None = None,
    glucose_of_250_counts: bool = True,
) -> float:
    steps.points("age, a point a year", f"{num(age)} years", int(age))
    steps.points("female sex", sex, -10 if sex == "female" else 0)
    steps.flag("nursing home residence", nursing_home, 10)
    steps.flag("neoplastic disease", neoplastic_disease, 30)
    steps.flag("liver disease", liver_disease, 20)
    steps.flag("congestive heart failure", heart_failure, 10)
    steps.flag("cerebrovascular disease", cerebrovascular_disease, 10)
    steps.flag("kidney disease", kidney_disease, 10)
    steps.flag("altered mental status", confusion, 20)
    hot, hot_text = (temperature >= 40, "40 C or more") if fever_above is None else (temperature > fever_above, f"above {num(fever_above)} C")
    sweet, sweet_text = (
        (glucose is not None and glucose >= 250, "250 mg/dL or more")
        if glucose_of_250_counts
        else (glucose is not None and glucose > 250, "above 250 mg/dL")
    )
    for what, value, unit, abnormal, points in (
        ("respiratory rate of 30 per minute or more", respiratory_rate, "breaths/min", respiratory_rate >= 30, 20),
        ("systolic blood pressure below 90 mm Hg", systolic, "mm Hg", systolic < 90, 20),
        (f"temperature below 35 C or {hot_text}", temperature, "C", temperature < 35 or hot, 15),
        ("heart rate of 125 per minute or more", heart_rate, "bpm", heart_rate >= 125, 10),
        ("arterial pH below 7.35", ph, "", ph is not None and ph < 7.35, 30),
        ("urea nitrogen of 30 mg/dL or more", urea_nitrogen, "mg/dL", urea_nitrogen is not None and urea_nitrogen >= 30, 20),
        ("sodium below 130 mEq/L", sodium, "mEq/L", sodium is not None and sodium < 130, 20),
        (f"glucose {sweet_text}", glucose, "mg/dL", sweet, 10),
        ("hematocrit below 30 %", hematocrit, "%", hematocrit is not None and hematocrit < 30, 10),
        ("PaO2 below 60 mm Hg", pao2, "mm Hg", pao2 is not None and pao2 < 60, 10),
    ):
        finding = "not measured" if value is None else f"{num(value)} {unit}".strip()
        steps.points(what, finding, points if abnormal else 0)
    steps.flag("pleural effusion on the radiograph", pleural_effusion, 10)
    return steps.total("pneumonia severity index")


# Lim's limit is a urea of 7 mmol/L: 7 * 28.014 / 10 mg/dL of urea nitrogen, above which whole mg/dL begin at 20.
UREA_7_MMOL = 19.61


def curb_65(
    steps: Steps,
    *,
    confusion: bool,
    urea_nitrogen: float,
    respiratory_rate: float,
    systolic: float,
    diastolic: float,
    age: float,
    urea_nitrogen_limit: float = UREA_7_MMOL,
) -> float:
    steps.flag("confusion", confusion)
    exact = " (7 mmol/L of urea)" if urea_nitrogen_limit == UREA_7_MMOL else ""
    steps.points(
        f"urea nitrogen above {num(urea_nitrogen_limit)} mg/dL{exact}",
        f"{num(urea_nitrogen)} mg/dL",
        int(urea_nitrogen > urea_nitrogen_limit),
    )
    steps.points("respiratory rate of 30 per minute or more", f"{num(respiratory_rate)} breaths/min", int(respiratory_rate >= 30))
    low = systolic < 90 or diastolic <= 60
    steps.points(
        "systolic blood pressure below 90 mm Hg or diastolic 60 mm Hg or less", f"{num(systolic)}/{num(diastolic)} mm Hg", int(low)
    )
    steps.points("age of 65 years or more", f"{num(age)} years", int(age >= 65))
    return steps.total("CURB-65 score")


def wells_pulmonary_embolism(
    steps: Steps,
    *,
    dvt_signs: bool,
    pe_most_likely: bool,
    heart_rate: float,
    immobilized_3_days: bool,
    surgery_4_weeks: bool,
    prior_pe: bool,
    prior_dvt: bool,
    hemoptysis: bool,
    cancer_treated_6_months: bool,
) -> float:
    steps.flag("clinical signs and symptoms of deep vein thrombosis", dvt_signs, 3)
    steps.flag("pulmonary embolism as the most likely or an equally likely diagnosis", pe_most_likely, 3)
    steps.points("heart rate above 100 per minute", f"{num(heart_rate)} bpm", 1.5 if heart_rate > 100 else 0)
    steps.flag("immobilization for 3 days or surgery in the previous 4 weeks", immobilized_3_days or surgery_4_weeks, 1.5)
    steps.flag("previous pulmonary embolism or deep vein thrombosis", prior_pe or prior_dvt, 1.5)
    steps.flag("hemoptysis", hemoptysis)
    steps.flag("malignancy treated within 6 months or palliative", cancer_treated_6_months)
    return steps.total("Wells score for pulmonary embolism")


def perc(
    steps: Steps,
    *,
    age: float,
    heart_rate: float,
    oxygen_saturation: float,
    unilateral_leg_swelling: bool,
    hemoptysis: bool,
    surgery_or_trauma_4_weeks: bool,
    prior_pe: bool,
    prior_dvt: bool,
    hormone_use: bool,
) -> float:
    steps.points("age of 50 years or more", f"{num(age)} years", int(age >= 50))
    steps.points("heart rate of 100 per minute or more", f"{num(heart_rate)} bpm", int(heart_rate >= 100))
    steps.points("oxygen saturation below 95 % on room air", f"{num(oxygen_saturation)} %", int(oxygen_saturation < 95))
    steps.flag("unilateral leg swelling", unilateral_leg_swelling)
    steps.flag("hemoptysis", hemoptysis)
    steps.flag("surgery or trauma in the last 4 weeks", surgery_or_trauma_4_weeks)
    steps.flag("previous pulmonary embolism or deep vein thrombosis", prior_pe or prior_dvt)
    steps.flag("estrogen use", hormone_use)
    return steps.total("PERC criteria met")


_BOTH = ("medcalc", "medcalc-verified")

CALCULATORS = (
    Calculator(
        8,
        wells_pulmonary_embolism,
        (
            DVT_SIGNS,
            PE_MOST_LIKELY,
            HEART_RATE,
            IMMOBILIZED_3_DAYS,
            SURGERY_4_WEEKS,
            PRIOR_PE,
            PRIOR_DVT,
            HEMOPTYSIS,
            CANCER_TREATED_6_MONTHS,
        ),
        question="How many points does the patient have on the Wells score for pulmonary embolism?",
        formula="signs of deep vein thrombosis 3, embolism most likely 3, heart rate > 100 1.5, immobilization or surgery 1.5, "
        "previous embolism or thrombosis 1.5, hemoptysis 1, malignancy 1",
        citation="Wells PS, Anderson DR, Rodger M, et al. Derivation of a simple clinical model to categorize patients probability of "
        "pulmonary embolism: increasing the models utility with the SimpliRED D-dimer. Thromb Haemost. 2000;83(3):416-420.",
    ),
    Calculator(
        29,
        pneumonia_severity_index,
        (
            SEX,
            ADULT,
            NURSING_HOME,
            NEOPLASTIC_DISEASE,
            LIVER_DISEASE,
            HEART_FAILURE,
            CEREBROVASCULAR_DISEASE,
            KIDNEY_DISEASE,
            ALTERED_MENTAL_STATUS,
            PLEURAL_EFFUSION,
            RESPIRATORY_RATE,
            SYSTOLIC,
            TEMPERATURE,
            HEART_RATE,
            *(_unmeasured_is_normal(item) for item in (PH, UREA_NITROGEN, SODIUM, GLUCOSE, HEMATOCRIT, PAO2)),
        ),
        question="How many points does the patient have on the pneumonia severity index (PSI)?",
        formula="age in years (minus 10 if female), plus 10 to 30 points for each of 18 findings: residence, illnesses, examination, "
        "laboratory, radiograph",
        citation="Fine MJ, Auble TE, Yealy DM, et al. A prediction rule to identify low-risk patients with community-acquired pneumonia. "
        "N Engl J Med. 1997;336(4):243-250.",
        deviations=(
            Deviation(
                "fever counts above 39.9 C, not from 40 C",
                "the release takes the limit from MDCalc's wording",
                {"fever_above": 39.9},
                conventions=_BOTH,
            ),
            Deviation(
                "a glucose of exactly 250 mg/dL earns nothing",
                "the release's code asks for more than 250",
                {"glucose_of_250_counts": False},
                conventions=_BOTH,
            ),
            Deviation(
                "a temperature in 'degrees celsisus' counts as Fahrenheit, so as below 35 C",
                "the release's code takes every unit that it does not know, and this misspelling, for Fahrenheit",
                units={"degrees celsisus": "F"},
            ),
        ),
    ),
    Calculator(
        45,
        curb_65,
        (ALTERED_MENTAL_STATUS, UREA_NITROGEN, RESPIRATORY_RATE, SYSTOLIC, DIASTOLIC, ADULT),
        question="How many points does the patient have on the CURB-65 score for pneumonia?",
        formula="1 point each: confusion, urea > 7 mmol/L (urea nitrogen from 20 mg/dL), respiratory rate >= 30, systolic < 90 or "
        "diastolic <= 60 mm Hg, age >= 65",
        citation="Lim WS, van der Eerden MM, Laing R, et al. Defining community acquired pneumonia severity on presentation to hospital: "
        "an international derivation and validation study. Thorax. 2003;58(5):377-382.",
        deviations=(
            Deviation(
                "urea nitrogen counts above 19 mg/dL, not above 7 mmol/L (19.6 mg/dL)",
                "the release takes MDCalc's limit in whole mg/dL",
                {"urea_nitrogen_limit": 19},
                conventions=_BOTH,
            ),
        ),
    ),
    Calculator(
        48,
        perc,
        (
            AGE,
            HEART_RATE,
            OXYGEN_SATURATION,
            UNILATERAL_LEG_SWELLING,
            HEMOPTYSIS,
            SURGERY_OR_TRAUMA_4_WEEKS,
            PRIOR_PE,
            PRIOR_DVT,
            HORMONE_USE,
        ),
        question="How many criteria of the PERC rule for pulmonary embolism does the patient meet?",
        formula="1 each: age >= 50, heart rate >= 100, saturation < 95 %, unilateral leg swelling, hemoptysis, surgery or trauma, "
        "previous embolism or thrombosis, estrogen use",
        citation="Kline JA, Mitchell AM, Kabrhel C, Richman PB, Courtney DM. Clinical criteria to prevent unnecessary diagnostic testing "
        "in emergency department patients with suspected pulmonary embolism. J Thromb Haemost. 2004;2(8):1247-1255.",
    ),
)
