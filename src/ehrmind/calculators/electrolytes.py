"""Electrolytes, acid and base: corrected calcium and sodium, osmolality, free water deficit, anion
gap and values derived from it."""

from __future__ import annotations

from ehrmind.calculators.calculator import Calculator
from ehrmind.calculators.vocabulary import (
    AGE,
    ALBUMIN,
    BICARBONATE,
    CALCIUM,
    CHLORIDE,
    GLUCOSE,
    SEX,
    SODIUM,
    UREA_NITROGEN,
    WEIGHT,
)
from ehrmind.calculators.working import Steps, num
from ehrmind.types import InputError


def corrected_calcium(steps: Steps, *, calcium: float, albumin: float) -> float:
    return steps(
        "corrected calcium", f"{num(calcium)} + 0.8 * (4 - {num(albumin)})", calcium + 0.8 * (4 - albumin), "mg/dL"
    )


def corrected_sodium(steps: Steps, *, sodium: float, glucose: float) -> float:
    return steps(
        "corrected sodium", f"{num(sodium)} + 0.024 * ({num(glucose)} - 100)", sodium + 0.024 * (glucose - 100), "mEq/L"
    )


def serum_osmolality(steps: Steps, *, sodium: float, urea_nitrogen: float, glucose: float) -> float:
    expression = f"2 * {num(sodium)} + {num(urea_nitrogen)} / 2.8 + {num(glucose)} / 18"
    return steps("serum osmolality", expression, 2 * sodium + urea_nitrogen / 2.8 + glucose / 18, "mOsm/kg")


def free_water_deficit(steps: Steps, *, sex: str, age: float, weight: float, sodium: float) -> float:
    """Takes total body water as a share of the weight: children 0.6, men 0.6, women 0.5; from 65
    years on 0.5 and 0.45."""
    if age < 18:
        water, who = 0.6, "a child"
    elif age < 65:
        water, who = (0.6, "an adult man") if sex == "male" else (0.5, "an adult woman")
    else:
        water, who = (0.5, "an elderly man") if sex == "male" else (0.45, "an elderly woman")
    steps(f"share of water in {who}", num(water), water)
    return steps(
        "free water deficit",
        f"{num(water)} * {num(weight)} * ({num(sodium)} / 140 - 1)",
        water * weight * (sodium / 140 - 1),
        "L",
    )


def anion_gap(steps: Steps, *, sodium: float, chloride: float, bicarbonate: float) -> float:
    return steps(
        "anion gap",
        f"{num(sodium)} - ({num(chloride)} + {num(bicarbonate)})",
        sodium - (chloride + bicarbonate),
        "mEq/L",
    )


def delta_gap(steps: Steps, *, sodium: float, chloride: float, bicarbonate: float) -> float:
    """Returns the anion gap's excess over 12. Wrenn's delta gap (1990) also subtracts the fall of
    bicarbonate; this one does not."""
    gap = anion_gap(steps, sodium=sodium, chloride=chloride, bicarbonate=bicarbonate)
    return steps("delta gap", f"{num(gap)} - 12", gap - 12, "mEq/L")


def delta_ratio(steps: Steps, *, sodium: float, chloride: float, bicarbonate: float) -> float:
    gap = delta_gap(steps, sodium=sodium, chloride=chloride, bicarbonate=bicarbonate)
    return _over_delta_bicarbonate(steps, "delta ratio", gap, bicarbonate)


def albumin_corrected_anion_gap(
    steps: Steps, *, sodium: float, chloride: float, bicarbonate: float, albumin: float
) -> float:
    gap = anion_gap(steps, sodium=sodium, chloride=chloride, bicarbonate=bicarbonate)
    return steps(
        "albumin-corrected anion gap", f"{num(gap)} + 2.5 * (4 - {num(albumin)})", gap + 2.5 * (4 - albumin), "mEq/L"
    )


def albumin_corrected_delta_gap(
    steps: Steps, *, sodium: float, chloride: float, bicarbonate: float, albumin: float
) -> float:
    gap = albumin_corrected_anion_gap(steps, sodium=sodium, chloride=chloride, bicarbonate=bicarbonate, albumin=albumin)
    return steps("albumin-corrected delta gap", f"{num(gap)} - 12", gap - 12, "mEq/L")


def albumin_corrected_delta_ratio(
    steps: Steps, *, sodium: float, chloride: float, bicarbonate: float, albumin: float
) -> float:
    gap = albumin_corrected_delta_gap(steps, sodium=sodium, chloride=chloride, bicarbonate=bicarbonate, albumin=albumin)
    return _over_delta_bicarbonate(steps, "albumin-corrected delta ratio", gap, bicarbonate)


def _over_delta_bicarbonate(steps: Steps, what: str, gap: float, bicarbonate: float) -> float:
    if bicarbonate == 24:
        raise InputError(f"bicarbonate: at 24 mEq/L there is no fall to compare with, so the {what} is undefined.")
    return steps(what, f"{num(gap)} / (24 - {num(bicarbonate)})", gap / (24 - bicarbonate))


_GAP = (SODIUM, CHLORIDE, BICARBONATE)
_EMMETT = "Emmett M, Narins RG. Clinical use of the anion gap. Medicine (Baltimore). 1977;56(1):38-54."
_RASTEGAR = (
    "Rastegar A. Use of the ΔAG/ΔHCO3- ratio in the diagnosis of mixed acid-base disorders. J Am Soc Nephrol. "
    "2007;18(9):2429-2431."
)
_FIGGE = "Figge J, Jabor A, Kazda A, Fencl V. Anion gap and hypoalbuminemia. Crit Care Med. 1998;26(11):1807-1810."

CALCULATORS = (
    Calculator(
        7,
        corrected_calcium,
        (CALCIUM, ALBUMIN),
        question="What is the patient's calcium corrected for albumin in mg/dL, with a normal albumin of 4 g/dL?",
        formula="calcium (mg/dL) + 0.8 * (4 - albumin (g/dL))",
        citation="Payne RB, Little AJ, Williams RB, Milner JR. Interpretation of serum calcium in patients with "
        "abnormal serum proteins. Br Med J. 1973;4(5893):643-646.",
    ),
    Calculator(
        26,
        corrected_sodium,
        (SODIUM, GLUCOSE),
        question="What is the patient's sodium corrected for hyperglycemia (Hillier) in mEq/L?",
        formula="sodium (mEq/L) + 0.024 * (glucose (mg/dL) - 100)",
        citation="Hillier TA, Abbott RD, Barrett EJ. Hyponatremia: evaluating the correction factor for hyperglycemia. "
        "Am J Med. 1999;106(4):399-403.",
    ),
    Calculator(
        30,
        serum_osmolality,
        (SODIUM, UREA_NITROGEN, GLUCOSE),
        question="What is the patient's calculated serum osmolality in mOsm/kg?",
        formula="2 * sodium (mEq/L) + urea nitrogen (mg/dL) / 2.8 + glucose (mg/dL) / 18",
        citation="Dorwart WV, Chalmers L. Comparison of methods for calculating serum osmolality from chemical "
        "concentrations, and the prognostic value of such calculations. Clin Chem. 1975;21(2):190-194.",
    ),
    Calculator(
        38,
        free_water_deficit,
        (SEX, AGE, WEIGHT, SODIUM),
        question="What is the patient's free water deficit in liters, with an ideal sodium of 140 mEq/L?",
        formula="share of water * weight (kg) * (sodium / 140 - 1); "
        "share: child 0.6, man 0.6, woman 0.5, elderly man 0.5, elderly woman 0.45",
        citation="Adrogué HJ, Madias NE. Hypernatremia. N Engl J Med. 2000;342(20):1493-1499.",
    ),
    Calculator(
        39,
        anion_gap,
        _GAP,
        question="What is the patient's anion gap in mEq/L?",
        formula="sodium - (chloride + bicarbonate)",
        citation=_EMMETT,
    ),
    Calculator(
        63,
        delta_gap,
        _GAP,
        question="What is the patient's delta gap (the anion gap's excess over 12) in mEq/L?",
        formula="anion gap - 12",
        citation=_RASTEGAR,
    ),
    Calculator(
        64,
        delta_ratio,
        _GAP,
        question="What is the patient's delta ratio?",
        formula="(anion gap - 12) / (24 - bicarbonate)",
        citation=_RASTEGAR,
    ),
    Calculator(
        65,
        albumin_corrected_anion_gap,
        (*_GAP, ALBUMIN),
        question="What is the patient's albumin-corrected anion gap in mEq/L?",
        formula="anion gap + 2.5 * (4 - albumin (g/dL))",
        citation=_FIGGE,
    ),
    Calculator(
        66,
        albumin_corrected_delta_gap,
        (*_GAP, ALBUMIN),
        question="What is the patient's albumin-corrected delta gap (the corrected anion gap's excess over 12) in "
        "mEq/L?",
        formula="albumin-corrected anion gap - 12",
        citation=f"{_RASTEGAR} {_FIGGE}",
    ),
    Calculator(
        67,
        albumin_corrected_delta_ratio,
        (*_GAP, ALBUMIN),
        question="What is the patient's albumin-corrected delta ratio?",
        formula="(albumin-corrected anion gap - 12) / (24 - bicarbonate)",
        citation=f"{_RASTEGAR} {_FIGGE}",
    ),
)
