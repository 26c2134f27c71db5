"""Draws synthetic patients with every input of every calculator, in plausible and correlated
ranges.

A patient has an age, a sex, a build and some burdens between 0 and 1 (infection, shock, kidney,
liver …). A measurement is a normal value, shifted by the burdens that shift it in people: a kidney
burden raises creatinine, urea nitrogen and potassium together. Sometimes a value lies exactly at
the threshold of a score's criterion. No record of any person was used.
"""

from __future__ import annotations

import datetime
import math
import random
from collections.abc import Callable
from typing import Any

from ehrmind.calculators.inputs import Choice, Day, Flag, Input, Quantity

BURDENS = ("infection", "shock", "heart", "lungs", "kidney", "liver", "brain", "metabolism", "bleeding")
EDGE_SHARE = 0.1
# Thresholds of the scores' criteria.
EDGES: dict[str, tuple[float, ...]] = {
    "age": (18, 44, 45, 50, 64, 65, 74, 75),
    "albumin": (2.8, 3.5, 4.0),
    "bicarbonate": (18, 22, 23),
    "bilirubin": (1.2, 2, 3, 6, 12),
    "creatinine": (0.7, 0.9, 1.2, 2, 3.5, 5),
    "diastolic": (60, 80),
    "gcs": (15, 14, 13, 9, 5),
    "glucose": (100, 250),
    "heart_rate": (60, 90, 100, 110, 125),
    "hemoglobin": (10, 12, 13),
    "inr": (1, 1.7, 2.3),
    "oxygen_saturation": (94, 95),
    "pao2": (55, 60, 70),
    "platelets": (20, 50, 100, 150),
    "ph": (7.25, 7.33, 7.35, 7.5),
    "respiratory_rate": (20, 24, 30),
    "sodium": (125, 130, 137, 140),
    "systolic": (90, 100, 110),
    "temperature": (35, 36, 38, 38.5, 40),
    "urea_nitrogen": (18.2, 19, 20, 22.4, 28, 30, 70),
    "white_cells": (4, 12, 15),
}


class Patient:
    """Synthetic patient. `burden[name]` is in [0, 1], mostly near 0 and sometimes near 1.

    `flag_rate` is the approximate probability of a finding.
    """

    def __init__(
        self,
        draw: random.Random,
        ages: tuple[float, float],
        sexes: tuple[str, ...] = ("female", "male"),
        flag_rate: float = 0.3,
    ) -> None:
        self.draw = draw
        self.flag_rate = flag_rate
        self.drawn: dict[str, float] = {}
        low, high = max(ages[0], 0.05), min(ages[1], 97)
        age = draw.uniform(low, high) if high - low < 60 or low < 1 else draw.triangular(low, high, 66)
        self.age = float(int(age)) if age >= 2 else max(1, round(age * 12)) / 12
        if edges := [edge for edge in EDGES["age"] if low <= edge <= high and draw.random() < EDGE_SHARE / 2]:
            self.age = float(draw.choice(edges))
        self.last_period = datetime.date(2000, 1, 1) + datetime.timedelta(days=draw.randrange(9000))
        self.sex = draw.choice(sexes)
        self.burden = {name: draw.random() ** 1.4 for name in BURDENS}
        self.frailty = min(1.0, self.age / 110)
        self.height, self.weight = self._build()

    def measured(self, name: str) -> float:
        """Returns a measurement of this patient. It is drawn at the first call and then kept."""
        if name not in self.drawn:
            self.drawn[name] = MEASUREMENTS[name](self)
        return self.drawn[name]

    def normal(self, mean: float, spread: float) -> float:
        return self.draw.gauss(mean, spread)

    def log_normal(self, median: float, spread: float) -> float:
        return median * math.exp(self.draw.gauss(0, spread))

    def _build(self) -> tuple[float, float]:
        """Draws height in cm and weight in kg. Children follow the median growth until 18 years."""
        adult = self.normal(176, 7) if self.sex == "male" else self.normal(162.5, 6.5)
        if self.age >= 18:
            return adult, max(32.0, self.log_normal(25.5, 0.2) * (adult / 100) ** 2)
        grown = 0.29 + 0.71 * (self.age / 18) ** 0.6
        height = adult * grown
        return height, max(2.2, (14.5 + 0.4 * self.age) * self.log_normal(1, 0.12) * (height / 100) ** 2)


def _systolic(p: Patient) -> float:
    return p.normal(128, 15) - 62 * p.burden["shock"] + 22 * p.burden["heart"] * p.frailty


def _temperature(p: Patient) -> float:
    direction = -1.6 if p.draw.random() < 0.12 else 2.8
    return p.normal(36.8, 0.3) + direction * p.burden["infection"]


def _ph(p: Patient) -> float:
    shift = 0.16 if p.draw.random() < 0.2 else -0.34
    return p.normal(7.4, 0.03) + shift * p.burden["metabolism"]


def _sodium(p: Patient) -> float:
    return p.normal(139, 4) + p.draw.choice((-17, 20)) * p.burden["metabolism"]


def _bicarbonate(p: Patient) -> float:
    return p.normal(24.5, 2) + p.draw.choice((-14, -14, 10)) * p.burden["metabolism"]


def _hemoglobin(p: Patient) -> float:
    return p.normal(14.6 if p.sex == "male" else 13.2, 1.2) - 6.5 * p.burden["bleeding"]


def _creatinine(p: Patient) -> float:
    return p.log_normal(0.95 if p.sex == "male" else 0.78, 0.18) * math.exp(1.9 * p.burden["kidney"])


def _aa_gradient(p: Patient) -> float:
    return p.normal(12, 4) + 420 * p.burden["lungs"] ** 2


MEASUREMENTS: dict[str, Callable[[Patient], float]] = {
    "age": lambda p: p.age,
    "weight": lambda p: p.weight,
    "height": lambda p: p.height,
    "bmi": lambda p: p.weight / (p.height / 100) ** 2,
    "systolic": _systolic,
    "diastolic": lambda p: min(
        p.normal(76, 9) - 32 * p.burden["shock"] + 8 * p.burden["heart"], p.measured("systolic") - 15
    ),
    "heart_rate": lambda p: (
        p.normal(76, 9) + 52 * max(p.burden["infection"], p.burden["shock"]) - 14 * p.burden["heart"]
    ),
    "respiratory_rate": lambda p: p.normal(15, 2) + 20 * max(p.burden["lungs"], 0.6 * p.burden["infection"]),
    "temperature": _temperature,
    "oxygen_saturation": lambda p: min(100.0, p.normal(97.5, 1) - 16 * p.burden["lungs"] ** 1.5),
    "qt": lambda p: p.normal(395, 32) + 40 * p.burden["heart"],
    "gcs": lambda p: 15 - 12 * p.burden["brain"] ** 1.5,
    "urine_output": lambda p: max(0.0, p.normal(1900, 350) * (1 - p.burden["kidney"] ** 0.7)),
    "albumin": lambda p: p.normal(4.1, 0.3) - 2.1 * max(p.burden["liver"], 0.5 * p.burden["infection"]),
    "alt": lambda p: p.log_normal(24, 0.35) * math.exp(2.6 * p.burden["liver"]),
    "ast": lambda p: p.log_normal(25, 0.35) * math.exp(2.7 * p.burden["liver"]),
    "bicarbonate": _bicarbonate,
    "bilirubin": lambda p: p.log_normal(0.6, 0.35) * math.exp(3.1 * p.burden["liver"]),
    "calcium": lambda p: p.normal(9.4, 0.4) + p.draw.choice((-1.8, 3.2)) * p.burden["metabolism"],
    "chloride": lambda p: p.normal(103, 4) + p.draw.choice((-9, 9)) * p.burden["metabolism"],
    "cholesterol": lambda p: p.normal(198, 36),
    "creatinine": _creatinine,
    "glucose": lambda p: p.log_normal(98, 0.15) * math.exp(1.7 * p.burden["metabolism"] ** 1.5),
    "hdl": lambda p: p.normal(47 if p.sex == "male" else 56, 11),
    "hematocrit": lambda p: 2.95 * p.measured("hemoglobin"),
    "hemoglobin": _hemoglobin,
    "inr": lambda p: p.log_normal(1.02, 0.06) * math.exp(1.1 * p.burden["liver"]),
    "insulin": lambda p: p.log_normal(9, 0.6),
    "ph": _ph,
    "paco2": lambda p: p.normal(40, 4) + p.draw.choice((-13, 30)) * p.burden["lungs"],
    "pao2": lambda p: max(35.0, p.normal(92, 8) - 48 * p.burden["lungs"]),
    "fio2": lambda p: p.draw.choice((21, 21, 28, 35, 40) if p.burden["lungs"] < 0.4 else (40, 50, 60, 80, 100)),
    "aa_gradient": _aa_gradient,
    "platelets": lambda p: p.log_normal(235, 0.25) * math.exp(-2.2 * p.burden["liver"] ** 1.5),
    "potassium": lambda p: p.normal(4.2, 0.35) + 2.4 * p.burden["kidney"] ** 2,
    "sodium": _sodium,
    "triglycerides": lambda p: p.log_normal(130, 0.4),
    "urea_nitrogen": lambda p: p.measured("creatinine") * p.draw.uniform(11, 24),
    "white_cells": lambda p: p.log_normal(7, 0.25) * math.exp(p.draw.choice((1.2, 1.2, -1)) * p.burden["infection"]),
    "urine_creatinine": lambda p: p.log_normal(90, 0.45),
    "urine_sodium": lambda p: p.draw.uniform(8, 140),
    "drinks": lambda p: p.draw.choice((0, 0, 1, 2, 4, 6, 7, 8, 10, 14, 21)),
    "cycle_length": lambda p: p.draw.choice((21, 23, 24, 25, 26, 27, 28, 28, 29, 30, 31, 32, 34, 35)),
}
# Usual single doses of opioids in the unit of their input; below, usual doses per day.
OPIOID_DOSES: dict[str, tuple[float, ...]] = {
    "codeine_dose": (15, 30, 60),
    "fentanyl_buccal_dose": (100, 200, 400, 600),
    "fentanyl_patch_dose": (12, 25, 50, 75, 100),
    "hydrocodone_dose": (5, 10, 15, 20),
    "hydromorphone_dose": (2, 4, 8),
    "methadone_dose": (5, 10, 20),
    "morphine_dose": (15, 30, 60),
    "oxycodone_dose": (5, 10, 15, 20, 30),
    "oxymorphone_dose": (5, 10, 20),
    "tapentadol_dose": (50, 75, 100),
    "tramadol_dose": (50, 100),
}
DOSES_PER_DAY = (1, 2, 2, 3, 3, 4, 4, 6)
STEROID_DOSES = (0.5, 1, 2, 4, 5, 6, 8, 10, 16, 20, 25, 30, 40, 50, 60, 80, 100, 125, 200)


def _infusion(most: float) -> Callable[[Patient], float]:
    """Makes a drug's infusion rate: 0 for most patients, more often above 0 in shock."""
    return lambda p: (
        most * p.draw.random() ** 2 + most / 50 if p.draw.random() < 0.15 + 0.5 * p.burden["shock"] else 0.0
    )


MEASUREMENTS |= {
    "dopamine": _infusion(18),
    "dobutamine": _infusion(12),
    "epinephrine": _infusion(0.3),
    "norepinephrine": _infusion(0.4),
    "steroid_dose": lambda p: p.draw.choice(STEROID_DOSES),
}
# Findings that follow from measurements.
FINDINGS: dict[str, Callable[[Patient], bool]] = {
    "hypotension": lambda p: (p.measured("systolic") + 2 * p.measured("diastolic")) / 3 < 70,
    "obesity": lambda p: p.measured("bmi") > 30,
}
FEMALE_ONLY = frozenset(("pregnant_or_postpartum", "pregnancy_loss", "contraceptives_or_hormones", "hormones"))


def draw_value(patient: Patient, item: Input) -> Any:
    """Draws an input's value: a number in its unit and range, yes or no, an option, or a date."""
    if isinstance(item, Quantity):
        edges = [edge for edge in EDGES.get(item.name, ()) if item.low <= edge <= item.high]
        if edges and item.name != "age" and patient.draw.random() < EDGE_SHARE:
            return float(patient.draw.choice(edges))
        if item.name in MEASUREMENTS:
            drawn = patient.measured(item.name)
        elif item.name.endswith("_doses_per_day"):
            drawn = 1 if item.name.startswith("fentanyl_patch") else patient.draw.choice(DOSES_PER_DAY)
        else:
            drawn = patient.draw.choice(OPIOID_DOSES[item.name])
        return min(max(drawn, item.low), item.high)
    if isinstance(item, Flag):
        if item.name in FINDINGS:
            return FINDINGS[item.name](patient)
        if item.name in FEMALE_ONLY and patient.sex == "male":
            return False
        return patient.draw.random() < patient.flag_rate * (0.7 + 0.6 * patient.frailty)
    if isinstance(item, Choice):
        return patient.sex if item.name == "sex" else patient.draw.choice(tuple(item.options))
    assert isinstance(item, Day)
    return (
        patient.last_period
        if item.name == "last_period"
        else patient.last_period + datetime.timedelta(patient.draw.randint(12, 290))
    )
