"""Intensive care: APACHE II, from bands of twelve measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice, Flag, refused
from ehrmind.calculators.vocabulary import (
    AA_GRADIENT,
    AGE,
    CREATININE,
    DIASTOLIC,
    FIO2,
    GCS,
    HEART_RATE,
    HEMATOCRIT,
    PAO2,
    PH,
    POTASSIUM,
    RESPIRATORY_RATE,
    SODIUM,
    SYSTOLIC,
    TEMPERATURE,
    WHITE_CELLS,
)
from ehrmind.calculators.working import Steps, num

NORMAL = "not given, so taken as normal"
ACUTE_KIDNEY_FAILURE = Flag("acute_kidney_failure", "acute renal failure")
CHRONIC_KIDNEY_FAILURE = Flag("chronic_kidney_failure", "chronic renal failure")
ORGAN_FAILURE = Flag(
    "organ_failure_history",
    "history of severe organ insufficiency or immunocompromise",
    ("History of severe organ failure or immunocompromise",),
)
ADMITTED_AFTER = Choice(
    "admitted_after",
    "kind of admission",
    {"no operation": ("nonoperative",), "elective surgery": ("elective",), "emergency surgery": ("emergency",)},
    ("Surgery Type",),
    default="no operation",
    because="no operation mentioned, so taken as nonoperative",
)

Bands = Sequence[tuple[float, int]]
# (lowest value of the band, points), from the highest band down. Values below all bands get the
# last argument of `band`.
TEMPERATURES: Bands = ((41, 4), (39, 3), (38.5, 1), (36, 0), (34, 1), (32, 2), (30, 3))
PRESSURES: Bands = ((160, 4), (130, 3), (110, 2), (70, 0), (50, 2))
HEART_RATES: Bands = ((180, 4), (140, 3), (110, 2), (70, 0), (55, 2), (40, 3))
BREATHS: Bands = ((50, 4), (35, 3), (25, 1), (12, 0), (10, 1), (6, 2))
GRADIENTS: Bands = ((500, 4), (350, 3), (200, 2))
ACIDITIES: Bands = ((7.7, 4), (7.6, 3), (7.5, 1), (7.33, 0), (7.25, 2), (7.15, 3))
SODIUMS: Bands = ((180, 4), (160, 3), (155, 2), (150, 1), (130, 0), (120, 2), (111, 3))
POTASSIUMS: Bands = ((7, 4), (6, 3), (5.5, 1), (3.5, 0), (3, 1), (2.5, 2))
CREATININES: Bands = ((3.5, 4), (2, 3), (1.5, 2), (0.6, 0))
HEMATOCRITS: Bands = ((60, 4), (50, 2), (46, 1), (30, 0), (20, 2))
WHITE_COUNTS: Bands = ((40, 4), (20, 2), (15, 1), (3, 0), (1, 2))
AGES: Bands = ((75, 6), (65, 5), (55, 3), (45, 2))


def band(value: float, bands: Bands, below: int) -> int:
    return next((points for low, points in bands if value >= low), below)


def apache_ii(
    steps: Steps,
    *,
    age: float,
    organ_failure_history: bool,
    admitted_after: str,
    temperature: float,
    systolic: float,
    diastolic: float,
    heart_rate: float,
    respiratory_rate: float,
    fio2: float,
    pao2: float | None,
    aa_gradient: float | None,
    ph: float,
    sodium: float,
    potassium: float,
    creatinine: float,
    acute_kidney_failure: bool,
    chronic_kidney_failure: bool,
    hematocrit: float,
    white_cells: float,
    gcs: float,
    mild_acidosis: int = 2,
    nonoperative: int = 5,
    only_in_kidney_failure: bool = False,
    white_cells_times: float = 1,
    gcs_added: bool = False,
) -> float:
    """Works APACHE II. All measurements are the worst of the first day.

    `chronic_kidney_failure` counts only with `only_in_kidney_failure`.
    """
    if gcs != int(gcs):
        raise refused("gcs", num(gcs), "is not a whole number, which a Glasgow Coma Score is.")
    steps.points("age", f"{num(age)} years", band(age, AGES, 0))
    by_admission = {"elective surgery": 2, "emergency surgery": 5, "no operation": nonoperative}
    chronic = f"{ORGAN_FAILURE.label}, {admitted_after}" if organ_failure_history else "none"
    steps.points("chronic health", chronic, by_admission[admitted_after] if organ_failure_history else 0)
    steps.points("temperature", f"{num(temperature)} C", band(temperature, TEMPERATURES, 4))
    pressure = steps(
        "mean arterial pressure",
        f"({num(systolic)} + 2 * {num(diastolic)}) / 3",
        (systolic + 2 * diastolic) / 3,
        "mm Hg",
    )
    steps.points("mean arterial pressure", f"{num(pressure)} mm Hg", band(pressure, PRESSURES, 4))
    steps.points("heart rate", f"{num(heart_rate)} bpm", band(heart_rate, HEART_RATES, 4))
    steps.points("respiratory rate", f"{num(respiratory_rate)} breaths/min", band(respiratory_rate, BREATHS, 4))
    _oxygenation(steps, fio2, pao2, aa_gradient)
    steps.points("arterial pH", num(ph), mild_acidosis if 7.25 <= ph < 7.33 else band(ph, ACIDITIES, 4))
    steps.points("sodium", f"{num(sodium)} mEq/L", band(sodium, SODIUMS, 4))
    steps.points("potassium", f"{num(potassium)} mEq/L", band(potassium, POTASSIUMS, 4))
    failing = acute_kidney_failure or chronic_kidney_failure or not only_in_kidney_failure
    kidney = band(creatinine, CREATININES, 2) * (2 if acute_kidney_failure else 1) * failing if creatinine >= 0.6 else 2
    steps.points("creatinine, doubled in acute renal failure", f"{num(creatinine)} mg/dL", kidney)
    steps.points("hematocrit", f"{num(hematocrit)} %", band(hematocrit, HEMATOCRITS, 4))
    steps.points(
        "white cell count", f"{num(white_cells)} x10^9/L", band(white_cells * white_cells_times, WHITE_COUNTS, 4)
    )
    steps.points("15 less the Glasgow Coma Score", num(gcs), gcs if gcs_added else 15 - gcs)
    return steps.total("APACHE II score")


def _oxygenation(steps: Steps, fio2: float, pao2: float | None, aa_gradient: float | None) -> None:
    """Scores the gradient if FiO2 is at least 50 %, and the pressure otherwise."""
    if fio2 >= 50:
        found = NORMAL if aa_gradient is None else f"{num(aa_gradient)} mm Hg"
        steps.points(
            "A-a gradient (FiO2 of 50 % or more)", found, 0 if aa_gradient is None else band(aa_gradient, GRADIENTS, 0)
        )
        return
    points = 0 if pao2 is None or pao2 > 70 else 1 if pao2 > 60 else 3 if pao2 >= 55 else 4
    steps.points("PaO2 (FiO2 below 50 %)", NORMAL if pao2 is None else f"{num(pao2)} mm Hg", points)


CALCULATORS = (
    Calculator(
        28,
        apache_ii,
        (
            AGE,
            ORGAN_FAILURE,
            ADMITTED_AFTER,
            TEMPERATURE,
            SYSTOLIC,
            DIASTOLIC,
            HEART_RATE,
            RESPIRATORY_RATE,
            FIO2,
            replace(PAO2, because=NORMAL),
            replace(AA_GRADIENT, because=NORMAL),
            PH,
            SODIUM,
            POTASSIUM,
            CREATININE,
            ACUTE_KIDNEY_FAILURE,
            CHRONIC_KIDNEY_FAILURE,
            HEMATOCRIT,
            WHITE_CELLS,
            GCS,
        ),
        question="What is the patient's APACHE II score?",
        formula="points for age, chronic health and twelve physiological measurements, 0 to 4 by band (15 less the "
        "Glasgow Coma Score; creatinine doubled in acute renal failure)",
        citation="Knaus WA, Draper EA, Wagner DP, Zimmerman JE. APACHE II: a severity of disease classification "
        "system. Crit Care Med. 1985;13(10):818-829.",
        deviations=(
            Deviation(
                "the Glasgow Coma Score itself is added, not 15 less it",
                "its code omits the subtraction",
                {"gcs_added": True},
            ),
            Deviation(
                "a white cell count of 40 per µL or more scores 4",
                "cells per µL are compared with limits in thousands",
                {"white_cells_times": 1000},
            ),
            Deviation("a pH from 7.25 to 7.32 scores nothing", "its code has no such band", {"mild_acidosis": 0}),
            Deviation(
                "organ insufficiency without an operation scores nothing",
                "its code counts surgical patients only",
                {"nonoperative": 0},
            ),
            Deviation(
                "creatinine from 1.5 mg/dL scores only in acute or chronic renal failure",
                "its table names one of them in every band; the paper scores every creatinine",
                {"only_in_kidney_failure": True},
                conventions=("medcalc", "medcalc-verified"),
            ),
            Deviation(
                "temperatures in 'degrees celsisus' are taken for Fahrenheit",
                "its code does not know its own misspelling",
                units={"degrees celsisus": "F"},
            ),
        ),
    ),
)
