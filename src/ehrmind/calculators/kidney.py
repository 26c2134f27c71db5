"""The kidney: creatinine clearance, estimated glomerular filtration rate, fractional excretion of
sodium."""

from __future__ import annotations

from dataclasses import replace

from ehrmind.calculators.body import DEVINE_HEIGHT, adjusted_body_weight, body_mass_index, ideal_body_weight
from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice
from ehrmind.calculators.vocabulary import AGE, CREATININE, SEX, SODIUM, URINE_CREATININE, URINE_SODIUM, WEIGHT
from ehrmind.calculators.working import Steps, num

ADULT = replace(AGE, low=18)
RACE = Choice(
    "race",
    "race",
    {"black": ("African American",), "other": ("white", "asian", "hispanic", "latino", "caucasian", "not black")},
    default="other",
    because="race not given, so no race coefficient",
)


def creatinine_clearance(
    steps: Steps, *, sex: str, age: float, weight: float, height: float, creatinine: float
) -> float:
    """Works Cockcroft-Gault with the weight chosen by BMI.

    The weight is the actual one if underweight, the lower of ideal and actual if normal, and the
    adjusted one otherwise.
    """
    index = body_mass_index(steps, weight=weight, height=height)
    if index < 18.5:
        steps.note("weight to use", "actual, for the patient is underweight (BMI below 18.5)")
        dosing = weight
    elif index < 25:
        steps.note("weight to use", "the lower of ideal and actual, for the patient's BMI is normal (18.5 to 24.9)")
        ideal = ideal_body_weight(steps, sex=sex, height=height)
        dosing = steps("weight to use", f"min({num(ideal)}, {num(weight)})", min(ideal, weight), "kg")
    else:
        steps.note("weight to use", "adjusted, for the patient is overweight or obese (BMI 25 or more)")
        dosing = adjusted_body_weight(steps, sex=sex, weight=weight, height=height)
    factor = 1.0 if sex == "male" else 0.85
    steps("sex factor", num(factor), factor)
    expression = f"(140 - {num(age)}) * {num(dosing)} * {num(factor)} / (72 * {num(creatinine)})"
    return steps("creatinine clearance", expression, (140 - age) * dosing * factor / (72 * creatinine), "mL/min")


def ckd_epi_2021(steps: Steps, *, sex: str, age: float, creatinine: float, low_male_kappa: float = 0.9) -> float:
    kappa, slope, factor = (0.7, -0.241, 1.012) if sex == "female" else (0.9, -0.302, 1.0)
    exponent = slope if creatinine <= kappa else -1.2
    if sex == "male" and creatinine <= kappa:
        kappa = low_male_kappa
    steps.note(
        "constants",
        f"{sex}: A = {num(kappa)}; creatinine {'above' if exponent == -1.2 else 'at most'} A: B = {num(exponent)}",
    )
    expression = f"142 * ({num(creatinine)} / {num(kappa)})^{num(exponent)} * 0.9938^{num(age)} * {num(factor)}"
    return steps("GFR", expression, 142 * (creatinine / kappa) ** exponent * 0.9938**age * factor, "mL/min/1.73 m^2")


def mdrd(steps: Steps, *, sex: str, age: float, creatinine: float, race: str) -> float:
    by_sex, by_race = 0.742 if sex == "female" else 1.0, 1.212 if race == "black" else 1.0
    expression = f"175 * {num(creatinine)}^-1.154 * {num(age)}^-0.203 * {num(by_race)} * {num(by_sex)}"
    return steps("GFR", expression, 175 * creatinine**-1.154 * age**-0.203 * by_race * by_sex, "mL/min/1.73 m^2")


def fractional_excretion_of_sodium(
    steps: Steps, *, sodium: float, creatinine: float, urine_sodium: float, urine_creatinine: float
) -> float:
    expression = f"100 * {num(urine_sodium)} * {num(creatinine)} / ({num(sodium)} * {num(urine_creatinine)})"
    return steps(
        "fractional excretion of sodium", expression, 100 * urine_sodium * creatinine / (sodium * urine_creatinine), "%"
    )


CALCULATORS = (
    Calculator(
        2,
        creatinine_clearance,
        (SEX, replace(ADULT, high=139), WEIGHT, DEVINE_HEIGHT, CREATININE),
        question="What is the patient's creatinine clearance by the Cockcroft-Gault equation in mL/min? Use the actual "
        "weight if the patient is underweight by BMI, the lower of ideal and actual weight if the BMI is normal, else "
        "the adjusted weight.",
        formula="(140 - age) * weight * (0.85 if female) / (72 * creatinine (mg/dL))",
        citation="Cockcroft DW, Gault MH. Prediction of creatinine clearance from serum creatinine. Nephron. "
        "1976;16(1):31-41. Weight by BMI: Winter MA, Guhr KN, Berg GM. Pharmacotherapy. 2012;32(7):604-612.",
    ),
    Calculator(
        3,
        ckd_epi_2021,
        (SEX, ADULT, CREATININE),
        question="Using the 2021 CKD-EPI creatinine equation, what is the patient's glomerular filtration rate in "
        "mL/min/1.73 m^2?",
        formula="142 * (creatinine / A)^B * 0.9938^age * (1.012 if female); A = 0.7 (female) or 0.9 (male); "
        "B = -0.241 (female) or -0.302 (male) where creatinine <= A, else -1.2",
        citation="Inker LA, Eneanya ND, Coresh J, et al. New creatinine- and cystatin C-based equations to estimate "
        "GFR without race. N Engl J Med. 2021;385(19):1737-1749.",
        deviations=(
            Deviation(
                "A is 0.7, not 0.9, for men whose creatinine is at most 0.9 mg/dL",
                "the release's code takes the women's constant in that branch",
                {"low_male_kappa": 0.7},
            ),
        ),
    ),
    Calculator(
        9,
        mdrd,
        (SEX, ADULT, CREATININE, RACE),
        question="Using the MDRD equation, what is the patient's glomerular filtration rate in mL/min/1.73 m^2?",
        formula="175 * creatinine^-1.154 * age^-0.203 * (1.212 if black) * (0.742 if female)",
        citation="Levey AS, Coresh J, Greene T, et al. Using standardized serum creatinine values in the Modification "
        "of Diet in Renal Disease study equation for estimating glomerular filtration rate. Ann Intern Med. "
        "2006;145(4):247-254.",
    ),
    Calculator(
        40,
        fractional_excretion_of_sodium,
        (SODIUM, CREATININE, URINE_SODIUM, URINE_CREATININE),
        question="What is the patient's fractional excretion of sodium (FENa) in percent?",
        formula="100 * urine sodium * creatinine / (sodium * urine creatinine)",
        citation="Espinel CH. The FENa test. Use in the differential diagnosis of acute renal failure. JAMA. "
        "1976;236(6):579-581.",
    ),
)
