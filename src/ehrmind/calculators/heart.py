"""The heartbeat: mean arterial pressure, and the QT interval corrected for the heart rate in five
ways."""

from __future__ import annotations

import math

from ehrmind.calculators.calculator import Calculator
from ehrmind.calculators.vocabulary import DIASTOLIC, HEART_RATE, QT, SYSTOLIC
from ehrmind.calculators.working import Steps, num


def mean_arterial_pressure(steps: Steps, *, systolic: float, diastolic: float) -> float:
    expression = f"({num(systolic)} + 2 * {num(diastolic)}) / 3"
    return steps("mean arterial pressure", expression, (systolic + 2 * diastolic) / 3, "mm Hg")


def qtc_bazett(steps: Steps, *, qt: float, heart_rate: float) -> float:
    rr = _rr(steps, heart_rate)
    return steps("corrected QT interval", f"{num(qt)} / sqrt({num(rr)})", qt / math.sqrt(rr), "msec")


def qtc_fridericia(steps: Steps, *, qt: float, heart_rate: float) -> float:
    rr = _rr(steps, heart_rate)
    return steps("corrected QT interval", f"{num(qt)} / {num(rr)}^(1 / 3)", qt / rr ** (1 / 3), "msec")


def qtc_framingham(steps: Steps, *, qt: float, heart_rate: float) -> float:
    rr = _rr(steps, heart_rate)
    return steps("corrected QT interval", f"{num(qt)} + 154 * (1 - {num(rr)})", qt + 154 * (1 - rr), "msec")


def qtc_hodges(steps: Steps, *, qt: float, heart_rate: float) -> float:
    return steps(
        "corrected QT interval", f"{num(qt)} + 1.75 * ({num(heart_rate)} - 60)", qt + 1.75 * (heart_rate - 60), "msec"
    )


def qtc_rautaharju(steps: Steps, *, qt: float, heart_rate: float) -> float:
    return steps(
        "corrected QT interval", f"{num(qt)} * (120 + {num(heart_rate)}) / 180", qt * (120 + heart_rate) / 180, "msec"
    )


def _rr(steps: Steps, heart_rate: float) -> float:
    return steps("RR interval", f"60 / {num(heart_rate)}", 60 / heart_rate, "s")


_QT = (QT, HEART_RATE)

CALCULATORS = (
    Calculator(
        5,
        mean_arterial_pressure,
        (SYSTOLIC, DIASTOLIC),
        question="What is the patient's mean arterial pressure in mm Hg?",
        formula="(systolic + 2 * diastolic) / 3",
        citation="Sesso HD, Stampfer MJ, Rosner B, et al. Systolic and diastolic blood pressure, pulse pressure, and "
        "mean arterial pressure as predictors of cardiovascular disease risk in men. Hypertension. 2000;36(5):801-807.",
    ),
    Calculator(
        11,
        qtc_bazett,
        _QT,
        question="Using Bazett's formula, what is the patient's corrected QT interval in msec?",
        formula="QT / sqrt(60 / heart rate)",
        citation="Bazett HC. An analysis of the time-relations of electrocardiograms. Heart. 1920;7:353-370.",
    ),
    Calculator(
        56,
        qtc_fridericia,
        _QT,
        question="Using Fridericia's formula, what is the patient's corrected QT interval in msec?",
        formula="QT / (60 / heart rate)^(1/3)",
        citation="Fridericia LS. Die Systolendauer im Elektrokardiogramm bei normalen Menschen und bei Herzkranken. "
        "Acta Med Scand. 1920;53:469-486.",
    ),
    Calculator(
        57,
        qtc_framingham,
        _QT,
        question="Using the Framingham formula, what is the patient's corrected QT interval in msec?",
        formula="QT + 154 * (1 - 60 / heart rate)",
        citation="Sagie A, Larson MG, Goldberg RJ, Bengtson JR, Levy D. An improved method for adjusting the QT "
        "interval for heart rate (the Framingham Heart Study). Am J Cardiol. 1992;70(7):797-801.",
    ),
    Calculator(
        58,
        qtc_hodges,
        _QT,
        question="Using the Hodges formula, what is the patient's corrected QT interval in msec?",
        formula="QT + 1.75 * (heart rate - 60)",
        citation="Hodges M, Salerno D, Erlien D. Bazett's QT correction reviewed: evidence that a linear QT correction "
        "for heart rate is better. J Am Coll Cardiol. 1983;1(2):694.",
    ),
    Calculator(
        59,
        qtc_rautaharju,
        _QT,
        question="Using the Rautaharju formula, what is the patient's corrected QT interval in msec?",
        formula="QT * (120 + heart rate) / 180",
        citation="Rautaharju PM, Zhang ZM. Linearly scaled, rate-invariant normal limits for QT interval: eight "
        "decades of incorrect application of power functions. J Cardiovasc Electrophysiol. 2002;13(12):1211-1218.",
    ),
)
