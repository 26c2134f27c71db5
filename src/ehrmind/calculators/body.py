"""Body size and fluids: body mass index, ideal, adjusted and target weight, surface area,
maintenance fluids."""

from __future__ import annotations

import math
from dataclasses import replace

from ehrmind.calculators.calculator import Calculator
from ehrmind.calculators.vocabulary import BMI, HEIGHT, SEX, WEIGHT
from ehrmind.calculators.working import Steps, num

# Devine's line reaches zero at 102 cm (women) and 97 cm (men).
DEVINE_HEIGHT = replace(HEIGHT, low=105)


def body_mass_index(steps: Steps, *, weight: float, height: float) -> float:
    metres = steps("height in metres", f"{num(height)} / 100", height / 100, "m")
    return steps("body mass index", f"{num(weight)} / {num(metres)}^2", weight / metres**2, "kg/m^2")


def ideal_body_weight(steps: Steps, *, sex: str, height: float) -> float:
    """Works Devine's formula: 50 or 45.5 kg at 60 inches, plus 2.3 kg per inch, also below 60
    inches."""
    inches = steps("height in inches", f"{num(height)} / 2.54", height / 2.54, "in")
    base = 50.0 if sex == "male" else 45.5
    return steps(
        f"ideal body weight of a {sex}", f"{num(base)} + 2.3 * ({num(inches)} - 60)", base + 2.3 * (inches - 60), "kg"
    )


def adjusted_body_weight(steps: Steps, *, sex: str, weight: float, height: float) -> float:
    ideal = ideal_body_weight(steps, sex=sex, height=height)
    return steps(
        "adjusted body weight",
        f"{num(ideal)} + 0.4 * ({num(weight)} - {num(ideal)})",
        ideal + 0.4 * (weight - ideal),
        "kg",
    )


def target_weight(steps: Steps, *, bmi: float, height: float) -> float:
    metres = steps("height in metres", f"{num(height)} / 100", height / 100, "m")
    return steps("target weight", f"{num(bmi)} * {num(metres)}^2", bmi * metres**2, "kg")


def body_surface_area(steps: Steps, *, weight: float, height: float) -> float:
    return steps(
        "body surface area", f"sqrt({num(weight)} * {num(height)} / 3600)", math.sqrt(weight * height / 3600), "m^2"
    )


def maintenance_fluids(steps: Steps, *, weight: float) -> float:
    """Adds up 4 mL/h for each of the first ten kilograms, 2 for each of the next ten, and 1 for
    each further one."""
    if weight <= 10:
        return steps("hourly fluids up to 10 kg", f"4 * {num(weight)}", 4 * weight, "mL/hr")
    if weight <= 20:
        rest = steps("kilograms beyond 10", f"{num(weight)} - 10", weight - 10, "kg")
        return steps("hourly fluids from 10 to 20 kg", f"40 + 2 * {num(rest)}", 40 + 2 * rest, "mL/hr")
    rest = steps("kilograms beyond 20", f"{num(weight)} - 20", weight - 20, "kg")
    return steps("hourly fluids above 20 kg", f"60 + {num(rest)}", 60 + rest, "mL/hr")


CALCULATORS = (
    Calculator(
        6,
        body_mass_index,
        (WEIGHT, HEIGHT),
        question="What is the patient's body mass index (BMI) in kg/m^2?",
        formula="weight (kg) / height (m)^2",
        citation="Keys A, Fidanza F, Karvonen MJ, et al. Indices of relative weight and obesity. J Chronic Dis. "
        "1972;25(6):329-343.",
    ),
    Calculator(
        10,
        ideal_body_weight,
        (SEX, DEVINE_HEIGHT),
        question="Using the Devine formula, what is the patient's ideal body weight in kg?",
        formula="male: 50 + 2.3 * (height (in) - 60); female: 45.5 + 2.3 * (height (in) - 60)",
        citation="Devine BJ. Gentamicin therapy. Drug Intell Clin Pharm. 1974;8:650-655.",
    ),
    Calculator(
        22,
        maintenance_fluids,
        (WEIGHT,),
        question="What is the patient's hourly maintenance fluid in mL/hr by weight (the 4-2-1 rule)?",
        formula="up to 10 kg: 4 * weight; 10 to 20 kg: 40 + 2 * (weight - 10); above 20 kg: 60 + (weight - 20)",
        citation="Holliday MA, Segar WE. The maintenance need for water in parenteral fluid therapy. Pediatrics. "
        "1957;19(5):823-832.",
    ),
    Calculator(
        60,
        body_surface_area,
        (WEIGHT, HEIGHT),
        question="Using the Mosteller formula, what is the patient's body surface area in m^2?",
        formula="sqrt(weight (kg) * height (cm) / 3600)",
        citation="Mosteller RD. Simplified calculation of body-surface area. N Engl J Med. 1987;317(17):1098.",
    ),
    Calculator(
        61,
        target_weight,
        (replace(BMI, label="target body mass index"), HEIGHT),
        question="What is the patient's target weight in kg for the target BMI?",
        formula="target BMI (kg/m^2) * height (m)^2",
        citation="Keys A, Fidanza F, Karvonen MJ, et al. Indices of relative weight and obesity. J Chronic Dis. "
        "1972;25(6):329-343.",
    ),
    Calculator(
        62,
        adjusted_body_weight,
        (SEX, WEIGHT, DEVINE_HEIGHT),
        question="What is the patient's adjusted body weight in kg?",
        formula="IBW + 0.4 * (weight - IBW), where IBW is the ideal body weight by Devine",
        citation="Bauer LA, Edwards WA, Dellinger EP, Simonowitz DA. Influence of weight on aminoglycoside "
        "pharmacokinetics in normal weight and morbidly obese patients. Eur J Clin Pharmacol. 1983;24(5):643-647.",
    ),
)
