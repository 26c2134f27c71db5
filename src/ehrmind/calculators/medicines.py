"""Doses of one drug in terms of another: glucocorticoids and opioids."""

from __future__ import annotations

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice, Quantity
from ehrmind.calculators.working import Steps, num
from ehrmind.types import InputError

# Glucocorticoid by route -> the dose in mg that equals 20 mg of hydrocortisone.
STEROIDS = {
    "betamethasone IV": 0.75,
    "cortisone PO": 25.0,
    "dexamethasone IV": 0.75,
    "dexamethasone PO": 0.75,
    "hydrocortisone IV": 20.0,
    "hydrocortisone PO": 20.0,
    "methylprednisolone IV": 4.0,
    "methylprednisolone PO": 4.0,
    "prednisolone PO": 5.0,
    "prednisone PO": 5.0,
    "triamcinolone IV": 4.0,
}
# Opioid -> (unit of its dose, oral morphine in mg that one such unit a day equals).
OPIOIDS = {
    "codeine": ("mg", 0.15),
    "fentanyl buccal": ("mcg", 0.13),
    "fentanyl patch": ("mcg/hr", 2.4),
    "hydrocodone": ("mg", 1.0),
    "hydromorphone": ("mg", 5.0),
    "methadone": ("mg", 4.7),
    "morphine": ("mg", 1.0),
    "oxycodone": ("mg", 1.5),
    "oxymorphone": ("mg", 3.0),
    "tapentadol": ("mg", 0.4),
    "tramadol": ("mg", 0.2),
}
STEROID = Choice("steroid", "glucocorticoid", {name: () for name in STEROIDS}, ("input steroid",))
STEROID_DOSE = Quantity("steroid_dose", "glucocorticoid dose", "mg", 0.01, 5000, entities=("input steroid dose",))
TARGET_STEROID = Choice("target_steroid", "glucocorticoid to convert to", {name: () for name in STEROIDS}, ("target steroid",))


def _key(opioid: str) -> str:
    return opioid.replace(" ", "_")


_NOT_TAKEN = "not mentioned, so not taken"
OPIOID_INPUTS = tuple(
    item
    for opioid, (unit, _) in OPIOIDS.items()
    for item in (
        Quantity(f"{_key(opioid)}_dose", f"{opioid} dose", unit, 0, 5000, because=_NOT_TAKEN),
        Quantity(
            f"{_key(opioid)}_doses_per_day",
            f"{opioid} doses per day",
            "/day",
            0,
            48,
            bare=True,
            entities=(f"{opioid} Dose Per Day",),
            because=_NOT_TAKEN,
        ),
    )
)


def steroid_conversion(steps: Steps, *, steroid: str, steroid_dose: float, target_steroid: str) -> float:
    given, wanted = STEROIDS[steroid], STEROIDS[target_steroid]
    steps.note("equivalent doses", f"{num(given)} mg of {steroid} equal {num(wanted)} mg of {target_steroid}")
    return steps(f"dose of {target_steroid}", f"{num(steroid_dose)} * {num(wanted)} / {num(given)}", steroid_dose * wanted / given, "mg")


def morphine_equivalents(steps: Steps, *, tramadol: float = 0.2, fentanyl_patch_by_dose: bool = False, **amounts: float | None) -> float:
    """Sum over the opioids of dose, doses a day and factor. A patch releases its dose all day, however often it is changed."""
    total: list[float] = []
    for opioid, (unit, listed) in OPIOIDS.items():
        dose, times = amounts[f"{_key(opioid)}_dose"], amounts[f"{_key(opioid)}_doses_per_day"]
        if dose is None and times is None:
            continue
        patch = opioid == "fentanyl patch" and not fentanyl_patch_by_dose
        if dose is None or (times is None and not patch):
            missing = "dose" if dose is None else "doses_per_day"
            raise InputError(f"{_key(opioid)}_{missing}: {opioid} is taken, so give its {missing.replace('_', ' ')} too.")
        factor = tramadol if opioid == "tramadol" else listed
        if patch:
            total.append(steps(opioid, f"{num(dose)} * {num(factor)}", dose * factor, "MME/day"))
        else:
            assert times is not None
            total.append(steps(opioid, f"{num(dose)} * {num(times)} * {num(factor)}", dose * times * factor, "MME/day"))
    if not total:
        raise InputError(f"morphine-equivalents needs an opioid with its dose and doses per day: {', '.join(map(_key, OPIOIDS))}.")
    return steps("morphine milligram equivalents", " + ".join(map(num, total)), sum(total), "MME/day")


CALCULATORS = (
    Calculator(
        24,
        steroid_conversion,
        (STEROID, STEROID_DOSE, TARGET_STEROID),
        question="What is the equivalent dose in mg of the other glucocorticoid that the note names?",
        formula="dose * equivalent dose of the target / equivalent dose of the given (mg: betamethasone and dexamethasone 0.75, "
        "methylprednisolone and triamcinolone 4, prednisolone and prednisone 5, hydrocortisone 20, cortisone 25)",
        citation="Liu D, Ahmet A, Ward L, et al. A practical guide to the monitoring and management of the complications of systemic "
        "corticosteroid therapy. Allergy Asthma Clin Immunol. 2013;9(1):30.",
    ),
    Calculator(
        49,
        morphine_equivalents,
        OPIOID_INPUTS,
        question="What is the patient's daily dose of opioids in morphine milligram equivalents (MME/day)?",
        formula="sum over the opioids of dose * doses per day * factor (codeine 0.15, fentanyl buccal 0.13 per µg, fentanyl patch 2.4 per µg/h, "
        "hydrocodone 1, hydromorphone 5, methadone 4.7, morphine 1, oxycodone 1.5, oxymorphone 3, tapentadol 0.4, tramadol 0.2)",
        citation="Dowell D, Ragan KR, Jones CM, Baldwin GT, Chou R. CDC clinical practice guideline for prescribing opioids for pain - "
        "United States, 2022. MMWR Recomm Rep. 2022;71(3):1-95.",
        deviations=(
            Deviation(
                "a fentanyl patch is dosed in mg and multiplied by how often it is changed",
                "the release treats the patch as a tablet; a patch is labelled in µg per hour",
                {"fentanyl_patch_by_dose": True},
                units={"fentanyl_patch_dose:mg": "mcg/hr"},
            ),
        ),
    ),
)
