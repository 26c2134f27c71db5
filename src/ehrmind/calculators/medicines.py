"""Medicines: equal doses of glucocorticoids, and opioids in morphine milligram equivalents."""

from __future__ import annotations

from collections.abc import Mapping

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import ABSENT, Choice, Quantity
from ehrmind.calculators.working import Steps, num
from ehrmind.types import InputError

# Equivalent doses in milligrams, and the routes for which they hold.
EQUAL_DOSES = {
    "betamethasone": 0.75,
    "cortisone": 25,
    "dexamethasone": 0.75,
    "hydrocortisone": 20,
    "methylprednisolone": 4,
    "prednisolone": 5,
    "prednisone": 5,
    "triamcinolone": 4,
}
_BY_MOUTH, _BY_VEIN = ("PO", "by mouth", "oral"), ("IV", "intravenous")
_ROUTES = {
    "betamethasone": _BY_VEIN,
    "cortisone": _BY_MOUTH,
    "prednisolone": _BY_MOUTH,
    "prednisone": _BY_MOUTH,
    "triamcinolone": _BY_VEIN,
}
STEROIDS = {
    name: tuple(
        spelling
        for route in _ROUTES.get(name, _BY_MOUTH + _BY_VEIN)
        for spelling in (f"{name} {route}", f"{route} {name}")
    )
    for name in EQUAL_DOSES
}
STEROID = Choice("steroid", "steroid given", STEROIDS, ("input steroid",))
STEROID_DOSE = Quantity("steroid_dose", "dose of the steroid given", "mg", 0.01, 5000, entities=("input steroid dose",))
TARGET_STEROID = Choice("target_steroid", "steroid to convert to", STEROIDS)

# Milligrams of morphine per milligram of the opioid; for buccal fentanyl per microgram, for a patch
# per microgram an hour.
MORPHINE_FACTORS = {
    "codeine": 0.15,
    "fentanyl_buccal": 0.13,
    "fentanyl_patch": 2.4,
    "hydrocodone": 1,
    "hydromorphone": 5,
    "methadone": 4.7,
    "morphine": 1,
    "oxycodone": 1.5,
    "oxymorphone": 3,
    "tapentadol": 0.4,
    "tramadol": 0.2,
}
_UNITS = {"fentanyl_buccal": "mcg", "fentanyl_patch": "mcg/h"}
_HIGHEST = {"mg": 3000.0, "mcg": 5000.0, "mcg/h": 1000.0}


def _doses(name: str) -> tuple[Quantity, Quantity]:
    label, unit = name.replace("_", " "), _UNITS.get(name, "mg")
    return (
        Quantity(f"{name}_dose", f"{label} dose", unit, 0, _HIGHEST[unit], because=ABSENT),
        Quantity(
            f"{name}_doses_per_day",
            f"{label} doses per day",
            "/day",
            0,
            48,
            bare=True,
            entities=(f"{label} dose per day",),
            because=ABSENT,
        ),
    )


def steroid_conversion(
    steps: Steps,
    *,
    steroid: str,
    steroid_dose: float,
    target_steroid: str,
    equal_doses: Mapping[str, float] = EQUAL_DOSES,
    digits: int | None = None,
) -> float:
    given, wanted = equal_doses[steroid], equal_doses[target_steroid]
    steps.note("equal doses", f"{num(given)} mg of {steroid} and {num(wanted)} mg of {target_steroid}")
    if digits is None:
        expression = f"{num(steroid_dose)} * {num(wanted)} / {num(given)}"
        return steps(f"dose of {target_steroid}", expression, steroid_dose * wanted / given, "mg")
    factor = round(wanted / given, digits)
    return steps(
        f"dose of {target_steroid}", f"{num(steroid_dose)} * {num(factor)}", round(steroid_dose * factor, digits), "mg"
    )


def morphine_equivalents(steps: Steps, *, patches_multiply: bool = False, **given: float | None) -> float:
    """Sums dose * doses per day * factor over the opioids.

    A patch's rate holds all day, however many patches are used.
    """
    parts: list[float] = []
    for name, factor in MORPHINE_FACTORS.items():
        dose, times = given[f"{name}_dose"], given[f"{name}_doses_per_day"]
        patch = name == "fentanyl_patch" and not patches_multiply
        if dose is None and times is None:
            continue
        if dose is None:
            raise InputError(f"{name}_dose: give it with {name}_doses_per_day, or neither.")
        if times is None and not patch:
            raise InputError(
                f"{name}_doses_per_day: give it with {name}_dose; where that is the day's whole dose, it is 1."
            )
        drug = name.replace("_", " ")
        if not patch:
            dose = steps(
                f"{drug} a day", f"{num(dose)} * {num(times or 0)}", dose * (times or 0), _UNITS.get(name, "mg")
            )
        parts.append(steps(f"{drug} in morphine", f"{num(dose)} * {num(factor)}", dose * factor, "MME/day"))
    if not parts:
        raise InputError(
            "morphine-equivalents needs the dose of at least one opioid, for example morphine_dose='15 mg'."
        )
    return steps("morphine milligram equivalents", " + ".join(map(num, parts)), sum(parts), "MME/day")


CALCULATORS = (
    Calculator(
        24,
        steroid_conversion,
        (STEROID, STEROID_DOSE, TARGET_STEROID),
        question="What dose in mg of the steroid to convert to equals the dose of the steroid that the patient is "
        "given?",
        formula="dose * (equal dose of the steroid wanted) / (equal dose of the steroid given); equal doses in mg: "
        "betamethasone 0.75, cortisone 25, dexamethasone 0.75, hydrocortisone 20, methylprednisolone 4, prednisolone "
        "5, prednisone 5, triamcinolone 4",
        citation="Meikle AW, Tyler FH. Potency and duration of action of glucocorticoids: effects of hydrocortisone, "
        "prednisone and dexamethasone on human pituitary-adrenal function. Am J Med. 1977;63(2):200-207.",
        deviations=(
            Deviation(
                "factor and dose are rounded to three decimals, the factor from doses that equal 1 mg of dexamethasone "
                "to two decimals",
                "its code keeps a table of rounded doses",
                {
                    "equal_doses": {
                        name: round(dose / EQUAL_DOSES["dexamethasone"], 2) for name, dose in EQUAL_DOSES.items()
                    },
                    "digits": 3,
                },
            ),
        ),
    ),
    Calculator(
        49,
        morphine_equivalents,
        tuple(item for name in MORPHINE_FACTORS for item in _doses(name)),
        question="How many morphine milligram equivalents (MME) per day does the patient take in opioids?",
        formula="sum of dose * doses per day * factor; factors: codeine 0.15, fentanyl buccal (mcg) 0.13, fentanyl "
        "patch (mcg/h) 2.4, hydrocodone 1, hydromorphone 5, methadone 4.7, morphine 1, oxycodone 1.5, oxymorphone 3, "
        "tapentadol 0.4, tramadol 0.2",
        citation="Dowell D, Ragan KR, Jones CM, Baldwin GT, Chou R. CDC clinical practice guideline for prescribing "
        "opioids for pain: United States, 2022. MMWR Recomm Rep. 2022;71(3):1-95. Buccal fentanyl: CDC, opioid oral "
        "morphine milligram equivalent conversion factors, 2016.",
        deviations=(
            Deviation(
                "the rate of a fentanyl patch is multiplied by the patches a day",
                "its code treats the patch as a tablet",
                {"patches_multiply": True},
            ),
            Deviation(
                "a fentanyl patch of so many mg is taken for one of so many mcg/h",
                "its entities write the rate as a mass, which no patch is named by",
                units={"fentanyl_patch_dose:mg": "mcg/h"},
            ),
        ),
    ),
)
