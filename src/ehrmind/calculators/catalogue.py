"""Index of MedCalc-Bench's 55 calculators: canonical spelling, kind of answer and unit.

Ids, names and categories are those of MedCalc-Bench v1.0 (arXiv 2406.12036). Later releases spell
some differently (`aliases`, `CATEGORY_SPELLINGS`). Units are those that the questions ask for. The
formulas are elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ehrmind.types import InputError

Kind = Literal["decimal", "integer", "date", "weeks_days"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One calculator of the index. `unit` is what the question asks for (None: a bare number);
    `also` lists units that name the same number."""

    id: int
    slug: str
    name: str
    category: str
    kind: Kind = "decimal"
    unit: str | None = None
    also: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


CATEGORIES = ("lab", "physical", "date", "dosage", "risk", "severity", "diagnosis")
CATEGORY_SPELLINGS: dict[str, str] = {name: name for name in CATEGORIES} | {
    "lab test": "lab",
    "dosage conversion": "dosage",
}

# For ions with a charge of one and their gaps, a millimole is a milliequivalent.
_MMOL = ("mmol/L",)
_EGFR = ("mL/min/1.73", "mL/(min*1.73 m^2)")
_CRITERIA = ("criteria", "criterion", "criteria met")
_SCORE = ("score",)
_MME = (
    "MME",
    "mg MME/day",
    "mg morphine equivalents/day",
    "morphine milligram equivalents/day",
    "morphine milligram equivalents",
)

_ALL = (
    Entry(2, "creatinine-clearance", "Creatinine Clearance (Cockcroft-Gault Equation)", "lab", unit="mL/min"),
    Entry(
        3, "ckd-epi-gfr", "CKD-EPI Equations for Glomerular Filtration Rate", "lab", unit="mL/min/1.73 m^2", also=_EGFR
    ),
    Entry(
        4, "cha2ds2-vasc", "CHA2DS2-VASc Score for Atrial Fibrillation Stroke Risk", "risk", "integer", "points", _SCORE
    ),
    Entry(5, "mean-arterial-pressure", "Mean Arterial Pressure (MAP)", "physical", unit="mm Hg"),
    Entry(6, "body-mass-index", "Body Mass Index (BMI)", "physical", unit="kg/m^2"),
    Entry(7, "calcium-correction", "Calcium Correction for Hypoalbuminemia", "lab", unit="mg/dL"),
    Entry(8, "wells-pulmonary-embolism", "Wells' Criteria for Pulmonary Embolism", "risk", unit="points", also=_SCORE),
    Entry(9, "mdrd-gfr", "MDRD GFR Equation", "lab", unit="mL/min/1.73 m^2", also=_EGFR),
    Entry(10, "ideal-body-weight", "Ideal Body Weight", "physical", unit="kg"),
    Entry(11, "qtc-bazett", "QTc Bazett Calculator", "physical", unit="msec"),
    Entry(13, "estimated-due-date", "Estimated Due Date", "date", "date"),
    Entry(15, "child-pugh", "Child-Pugh Score for Cirrhosis Mortality", "severity", "integer", "points", _SCORE),
    Entry(16, "wells-dvt", "Wells' Criteria for DVT", "risk", "integer", "points", _SCORE),
    Entry(
        17,
        "revised-cardiac-risk-index",
        "Revised Cardiac Risk Index for Pre-Operative Risk",
        "risk",
        "integer",
        "points",
        _SCORE,
    ),
    Entry(18, "heart-score", "HEART Score for Major Cardiac Events", "risk", "integer", "points", _SCORE),
    Entry(19, "fib-4", "Fibrosis-4 (FIB-4) Index for Liver Fibrosis", "lab", also=("points", *_SCORE)),
    Entry(
        20, "centor", "Centor Score (Modified/McIsaac) for Strep Pharyngitis", "severity", "integer", "points", _SCORE
    ),
    Entry(21, "glasgow-coma-score", "Glasgow Coma Score (GCS)", "severity", "integer", "points", _SCORE),
    Entry(22, "maintenance-fluids", "Maintenance Fluids Calculations", "physical", unit="mL/hr"),
    Entry(23, "meld-na", "MELD Na (UNOS/OPTN)", "lab", unit="points", also=_SCORE),
    Entry(24, "steroid-conversion", "Steroid Conversion Calculator", "dosage", unit="mg"),
    Entry(25, "has-bled", "HAS-BLED Score for Major Bleeding Risk", "risk", "integer", "points", _SCORE),
    Entry(26, "sodium-correction", "Sodium Correction for Hyperglycemia", "lab", unit="mEq/L", also=_MMOL),
    Entry(27, "glasgow-blatchford", "Glasgow-Blatchford Bleeding Score (GBS)", "risk", "integer", "points", _SCORE),
    Entry(28, "apache-ii", "APACHE II Score", "risk", "integer", "points", _SCORE),
    Entry(
        29,
        "pneumonia-severity-index",
        "PSI Score: Pneumonia Severity Index for CAP",
        "severity",
        "integer",
        "points",
        _SCORE,
    ),
    Entry(30, "serum-osmolality", "Serum Osmolality", "lab", unit="mOsm/kg", also=("mOsm/kg H2O", "mOsm/kg water")),
    Entry(
        31, "homa-ir", "HOMA-IR (Homeostatic Model Assessment for Insulin Resistance)", "lab", also=("points", *_SCORE)
    ),
    Entry(32, "charlson", "Charlson Comorbidity Index (CCI)", "risk", "integer", "points", _SCORE),
    Entry(33, "feverpain", "FeverPAIN Score for Strep Pharyngitis", "diagnosis", "integer", "points", _SCORE),
    Entry(36, "caprini", "Caprini Score for Venous Thromboembolism (2005)", "risk", "integer", "points", _SCORE),
    Entry(38, "free-water-deficit", "Free Water Deficit", "lab", unit="L", also=("L water",)),
    Entry(39, "anion-gap", "Anion Gap", "lab", unit="mEq/L", also=_MMOL),
    Entry(40, "fena", "Fractional Excretion of Sodium (FENa)", "lab", unit="%"),
    Entry(43, "sofa", "Sequential Organ Failure Assessment (SOFA) Score", "risk", "integer", "points", _SCORE),
    Entry(44, "ldl-calculated", "LDL Calculated", "lab", unit="mg/dL"),
    Entry(45, "curb-65", "CURB-65 Score for Pneumonia Severity", "risk", "integer", "points", _SCORE),
    Entry(46, "framingham-risk", "Framingham Risk Score for Hard Coronary Heart Disease", "lab", unit="%"),
    Entry(48, "perc-rule", "PERC Rule for Pulmonary Embolism", "diagnosis", "integer", "points", _CRITERIA),
    Entry(
        49,
        "morphine-equivalents",
        "Morphine Milligram Equivalents (MME) Calculator",
        "dosage",
        unit="MME/day",
        also=_MME,
    ),
    Entry(51, "sirs", "SIRS Criteria", "diagnosis", "integer", "points", _CRITERIA),
    Entry(56, "qtc-fridericia", "QTc Fridericia Calculator", "physical", unit="msec"),
    Entry(57, "qtc-framingham", "QTc Framingham Calculator", "physical", unit="msec"),
    Entry(58, "qtc-hodges", "QTc Hodges Calculator", "physical", unit="msec"),
    Entry(59, "qtc-rautaharju", "QTc Rautaharju Calculator", "physical", unit="msec"),
    Entry(60, "body-surface-area", "Body Surface Area Calculator", "physical", unit="m^2"),
    Entry(61, "target-weight", "Target weight", "physical", unit="kg"),
    Entry(62, "adjusted-body-weight", "Adjusted Body Weight", "physical", unit="kg"),
    Entry(63, "delta-gap", "Delta Gap", "lab", unit="mEq/L", also=_MMOL),
    Entry(64, "delta-ratio", "Delta Ratio", "lab"),
    Entry(65, "albumin-corrected-anion-gap", "Albumin Corrected Anion Gap", "lab", unit="mEq/L", also=_MMOL),
    Entry(66, "albumin-corrected-delta-gap", "Albumin Corrected Delta Gap", "lab", unit="mEq/L", also=_MMOL),
    Entry(67, "albumin-corrected-delta-ratio", "Albumin Corrected Delta Ratio", "lab"),
    Entry(
        68,
        "estimated-date-of-conception",
        "Estimated Date of Conception",
        "date",
        "date",
        aliases=("Estimated of Conception",),
    ),
    Entry(69, "estimated-gestational-age", "Estimated Gestational Age", "date", "weeks_days"),
)
CATALOGUE: dict[int, Entry] = {calculator.id: calculator for calculator in _ALL}


def entry_by_name(name: str) -> Entry:
    """Finds a calculator by name in any casing, spacing or quotes, by alias or by slug. Raises
    InputError."""
    found = _BY_NAME.get(_key(name))
    if found is None:
        raise InputError(f"'{name}' is not one of MedCalc-Bench's 55 calculators; `ehrmind calc list` names them.")
    return found


@lru_cache(maxsize=4096)
def unit_asked(calculator_id: int, question: str) -> str | None:
    """Returns the unit of the answer to this question. The Verified release asks for free water in
    kg, v1.0 in litres."""
    if calculator_id == 38 and re.search(r"in terms of kg\b", question):
        return "kg"
    return CATALOGUE[calculator_id].unit


def _key(name: str) -> str:
    """Keeps letters and digits only, so casing, spacing, curly quotes and dashes do not matter."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


_BY_NAME = {
    _key(spelling): calculator
    for calculator in _ALL
    for spelling in (calculator.name, calculator.slug, *calculator.aliases)
}
