"""Hormones: resistance to insulin by HOMA-IR."""

from __future__ import annotations

from ehrmind.calculators.calculator import Calculator
from ehrmind.calculators.vocabulary import GLUCOSE, INSULIN
from ehrmind.calculators.working import Steps, num


def homa_ir(steps: Steps, *, insulin: float, glucose: float) -> float:
    return steps("HOMA-IR", f"{num(insulin)} * {num(glucose)} / 405", insulin * glucose / 405)


CALCULATORS = (
    Calculator(
        31,
        homa_ir,
        (INSULIN, GLUCOSE),
        question="What is the patient's HOMA-IR score?",
        formula="fasting insulin (µIU/mL) * fasting glucose (mg/dL) / 405",
        citation="Matthews DR, Hosker JP, Rudenski AS, Naylor BA, Treacher DF, Turner RC. Homeostasis model "
        "assessment: insulin resistance and beta-cell function from fasting plasma glucose and insulin concentrations "
        "in man. Diabetologia. 1985;28(7):412-419.",
    ),
)
