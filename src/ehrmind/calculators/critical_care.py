"""Intensive care: Glasgow Coma Score, SOFA and the SIRS criteria. (APACHE II is in `apache`.)"""

from __future__ import annotations

import math
from dataclasses import replace

from ehrmind.calculators.apache import NORMAL, Bands, band
from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice, Flag, Quantity
from ehrmind.calculators.vocabulary import (
    BILIRUBIN,
    CREATININE,
    DIASTOLIC,
    FIO2,
    GCS,
    HEART_RATE,
    PACO2,
    PAO2,
    PLATELETS,
    RESPIRATORY_RATE,
    SYSTOLIC,
    TEMPERATURE,
    URINE_OUTPUT,
    WHITE_CELLS,
)
from ehrmind.calculators.working import Steps, num
from ehrmind.types import InputError

NOT_TESTABLE = "not testable"
EYE = Choice(
    "eye_response",
    "best eye response",
    {
        "spontaneous": ("eyes open spontaneously", "opens eyes spontaneously"),
        "to speech": ("eye opening to verbal command", "to verbal command", "to voice"),
        "to pain": ("eye opening to pain",),
        "none": ("no eye opening",),
        NOT_TESTABLE: (),
    },
)
VERBAL = Choice(
    "verbal_response",
    "best verbal response",
    {
        "oriented": (),
        "confused": (),
        "inappropriate words": (),
        "incomprehensible sounds": (),
        "none": ("no verbal response",),
        NOT_TESTABLE: ("intubated",),
    },
)
MOTOR = Choice(
    "motor_response",
    "best motor response",
    {
        "obeys commands": (),
        "localizes pain": ("localises pain",),
        "withdraws from pain": ("withdrawal from pain",),
        "flexion to pain": ("abnormal flexion",),
        "extension to pain": (),
        "none": ("no motor response",),
        NOT_TESTABLE: (),
    },
)
VENTILATED = Flag("ventilated", "mechanical ventilation", ("On mechanical ventilation",))
CPAP = Flag("cpap", "continuous positive airway pressure", ("Continous positive airway pressure",))
HYPOTENSION = Flag("hypotension", "hypotension (mean arterial pressure below 70 mm Hg)", ("Hypotension",))


def _infusion(name: str, drug: str) -> Quantity:
    return Quantity(
        name,
        f"{drug} infusion",
        "mcg/kg/min",
        0,
        200,
        entities=(drug,),
        default=0.0,
        because="not mentioned, so not given",
    )


DOPAMINE, DOBUTAMINE = _infusion("dopamine", "dopamine"), _infusion("dobutamine", "dobutamine")
EPINEPHRINE, NOREPINEPHRINE = _infusion("epinephrine", "epinephrine"), _infusion("norepinephrine", "norepinephrine")

# (lowest value of the band, points), from the highest band down, as in `apache`.
PLATELET_COUNTS: Bands = ((150, 0), (100, 1), (50, 2), (20, 3))
COMA_SCORES: Bands = ((15, 0), (13, 1), (10, 2), (6, 3))
BILIRUBINS: Bands = ((12, 4), (6, 3), (2, 2), (1.2, 1))
CREATININES: Bands = ((5, 4), (3.5, 3), (2, 2), (1.2, 1))
# The same table in SI units, with the publication's own limits, not converted ones: "6.0-11.9
# (102-204)", ">12.0 (204)", ">5.0 (440)".
BILIRUBINS_SI: Bands = ((math.nextafter(204, math.inf), 4), (102, 3), (33, 2), (20, 1))
CREATININES_SI: Bands = ((math.nextafter(440, math.inf), 4), (300, 3), (171, 2), (110, 1))
# Lowest ratios for 0 and 1 points, and those below which respiratory support scores 3 and 4; in mm
# Hg and in kPa.
OXYGEN_RATIOS, OXYGEN_RATIOS_SI = (400, 300, 200, 100), (53.3, 40, 26.7, 13.3)


def glasgow_coma_score(
    steps: Steps,
    *,
    eye_response: str,
    verbal_response: str,
    motor_response: str,
    verbal_counted: int = 1,
    not_testable: tuple[int, int, int] | None = None,
) -> float:
    """Takes points from the order of the options. A response that cannot be tested leaves no total
    (Teasdale 2014)."""
    for place, (item, found, best) in enumerate(
        ((EYE, eye_response, 4), (VERBAL, verbal_response, 5), (MOTOR, motor_response, 6))
    ):
        points = best - list(item.options).index(found)
        if found == NOT_TESTABLE:
            if not_testable is None:
                raise InputError(f"{item.name}: not testable, so there is no total; report the other responses alone.")
            points = not_testable[place]
        for _ in range(verbal_counted if item is VERBAL else 1):
            steps.points(item.label, found, points)
    return steps.total("Glasgow Coma Score")


def sofa(
    steps: Steps,
    *,
    pao2: float,
    fio2: float,
    ventilated: bool,
    cpap: bool,
    platelets: float,
    gcs: float,
    bilirubin: float,
    systolic: float | None,
    diastolic: float | None,
    hypotension: bool,
    dopamine: float,
    dobutamine: float,
    epinephrine: float,
    norepinephrine: float,
    creatinine: float | None,
    urine_output: float | None,
    fio2_scale: float = 100,
    least_infusion_first: bool = False,
    creatinine_counts: bool = True,
    anuria: int = 4,
    pao2_si: float | None = None,
    bilirubin_si: float | None = None,
    creatinine_si: float | None = None,
) -> float:
    """Works SOFA. The table has its own limits in SI units.

    Values given in SI come as `pao2_si` in kPa, and `bilirubin_si` and `creatinine_si` in µmol/L.
    """
    _lungs(steps, *((pao2, "mm Hg") if pao2_si is None else (pao2_si, "kPa")), fio2, fio2_scale, ventilated or cpap)
    steps.points("platelet count", f"{num(platelets)} x10^9/L", band(platelets, PLATELET_COUNTS, 4))
    steps.points("Glasgow Coma Score", num(gcs), band(gcs, COMA_SCORES, 4))
    if bilirubin_si is None:
        steps.points("bilirubin", f"{num(bilirubin)} mg/dL", band(bilirubin, BILIRUBINS, 0))
    else:
        steps.points(
            "bilirubin, by the limits in µmol/L", f"{num(bilirubin_si)} µmol/L", band(bilirubin_si, BILIRUBINS_SI, 0)
        )
    pressure, low = _pressure(steps, systolic, diastolic, hypotension)
    low_dose = dobutamine > 0 or 0 < dopamine <= 5
    if least_infusion_first and (dobutamine > 0 or (dopamine <= 5 and (dopamine or epinephrine or norepinephrine))):
        circulation = 2
    elif dopamine > 15 or epinephrine > 0.1 or norepinephrine > 0.1:
        circulation = 4
    elif dopamine > 5 or epinephrine > 0 or norepinephrine > 0:
        circulation = 3
    else:
        circulation = 2 if low_dose else int(low)
    drugs = {
        "dopamine": dopamine,
        "dobutamine": dobutamine,
        "epinephrine": epinephrine,
        "norepinephrine": norepinephrine,
    }
    infused = ", ".join(f"{name} {num(dose)} mcg/kg/min" for name, dose in drugs.items() if dose)
    steps.points("circulation", infused or pressure, circulation)
    found, by_creatinine = list[str](), 0
    if creatinine_si is not None:
        found, by_creatinine = [f"creatinine {num(creatinine_si)} µmol/L"], band(creatinine_si, CREATININES_SI, 0)
    elif creatinine is not None:
        found, by_creatinine = (
            [f"creatinine {num(creatinine)} mg/dL"],
            band(creatinine, CREATININES, 0) if creatinine_counts else 0,
        )
    by_urine = 0 if urine_output is None else anuria if urine_output < 200 else 3 if urine_output < 500 else 0
    found += [f"urine {num(urine_output)} mL/day"] if urine_output is not None else []
    what = "kidneys" if creatinine_si is None else "kidneys, by the limits in µmol/L"
    steps.points(what, " and ".join(found) or NORMAL, max(by_creatinine, by_urine))
    return steps.total("SOFA score")


def _lungs(steps: Steps, pao2: float, unit: str, fio2: float, fio2_scale: float, supported: bool) -> None:
    healthy, mild, severe, worst = OXYGEN_RATIOS_SI if unit == "kPa" else OXYGEN_RATIOS
    quotient = round(pao2 / (fio2 / fio2_scale), 9)  # removes float noise: 56 / 0.28 is exactly 200
    ratio = steps("PaO2 / FiO2", f"{num(pao2)} / ({num(fio2)} / {num(fio2_scale)})", quotient, unit)
    points = band(ratio, ((healthy, 0), (mild, 1)), 2)
    if supported and ratio < severe:
        points = 4 if ratio < worst else 3
    what, said = ("lungs, by the limits in kPa", f"{num(ratio)} kPa") if unit == "kPa" else ("lungs", num(ratio))
    steps.points(what, f"PaO2 / FiO2 {said}, {'with' if supported else 'without'} respiratory support", points)


def _pressure(steps: Steps, systolic: float | None, diastolic: float | None, hypotension: bool) -> tuple[str, bool]:
    """Returns the finding, and whether the mean is below 70. A measured pressure overrides a
    statement about it."""
    if systolic is None or diastolic is None:
        return ("hypotension" if hypotension else "no hypotension"), hypotension
    expression = f"({num(systolic)} + 2 * {num(diastolic)}) / 3"
    mean = steps("mean arterial pressure", expression, (systolic + 2 * diastolic) / 3, "mm Hg")
    return f"mean arterial pressure {num(mean)} mm Hg", mean < 70


def sirs_criteria(
    steps: Steps,
    *,
    temperature: float,
    heart_rate: float,
    respiratory_rate: float,
    white_cells: float,
    paco2: float | None,
    any_heart_rate: bool = False,
    paco2_si: float | None = None,
) -> float:
    """Counts the SIRS criteria. The publication's limit for PaCO2 is 32 torr, or 4.3 kPa.

    `paco2_si` is in kPa, if it was given so.
    """
    steps.points(
        "temperature above 38 or below 36 C", f"{num(temperature)} C", int(temperature > 38 or temperature < 36)
    )
    steps.points("heart rate above 90", f"{num(heart_rate)} bpm", int(heart_rate > 90 or any_heart_rate))
    pressure, limit, unit = (paco2, 32, "mm Hg") if paco2_si is None else (paco2_si, 4.3, "kPa")
    breathing = f"{num(respiratory_rate)} breaths/min" + (
        f", PaCO2 {num(pressure)} {unit}" if pressure is not None else ""
    )
    fast = respiratory_rate > 20 or (pressure is not None and pressure < limit)
    steps.points(f"respiratory rate above 20 or PaCO2 below {num(limit)} {unit}", breathing, int(fast))
    steps.points(
        "white cell count above 12 or below 4 x10^9/L",
        f"{num(white_cells)} x10^9/L",
        int(white_cells > 12 or white_cells < 4),
    )
    return steps.total("SIRS criteria met", "criteria")


CALCULATORS = (
    Calculator(
        21,
        glasgow_coma_score,
        (EYE, VERBAL, MOTOR),
        question="What is the patient's Glasgow Coma Score?",
        formula="eye response (4 to 1) + verbal response (5 to 1) + motor response (6 to 1)",
        citation="Teasdale G, Jennett B. Assessment of coma and impaired consciousness. Lancet. 1974;2(7872):81-84. "
        "Responses that cannot be tested: Teasdale G, Maas A, Lecky F, et al. Lancet Neurol. 2014;13(8):844-854.",
        deviations=(
            Deviation("the verbal response is counted twice", "its code adds it in two places", {"verbal_counted": 2}),
            Deviation(
                "a response that cannot be tested counts as eye 4, verbal 4, motor 6",
                "the release takes it for the best one, and an oriented patient for 4 points",
                {"not_testable": (4, 4, 6)},
            ),
            Deviation(
                "a response that cannot be tested or is not mentioned counts as the best one",
                "its table gives the full score to both",
                {"not_testable": (4, 5, 6)},
                {"eye_response": "spontaneous", "verbal_response": "oriented", "motor_response": "obeys commands"},
                conventions=("medcalc-verified",),
            ),
        ),
    ),
    Calculator(
        43,
        sofa,
        (
            replace(PAO2, si="kPa"),
            FIO2,
            VENTILATED,
            CPAP,
            PLATELETS,
            GCS,
            replace(BILIRUBIN, si="µmol/L"),
            replace(SYSTOLIC, because="not given, so hypotension is as mentioned"),
            replace(DIASTOLIC, because="not given, so hypotension is as mentioned"),
            HYPOTENSION,
            DOPAMINE,
            DOBUTAMINE,
            EPINEPHRINE,
            NOREPINEPHRINE,
            replace(CREATININE, because=NORMAL, si="µmol/L"),
            replace(URINE_OUTPUT, because=NORMAL),
        ),
        question="What is the patient's Sequential Organ Failure Assessment (SOFA) score?",
        formula="0 to 4 points each for lungs (PaO2 / FiO2), platelets, Glasgow Coma Score, bilirubin, circulation, "
        "kidneys",
        citation="Vincent JL, Moreno R, Takala J, et al. The SOFA (Sepsis-related Organ Failure Assessment) score to "
        "describe organ dysfunction/failure. Intensive Care Med. 1996;22(7):707-710.",
        deviations=(
            Deviation(
                "PaO2 is divided by FiO2 in percent", "its code does not make a fraction of it", {"fio2_scale": 1}
            ),
            Deviation(
                "low-dose dopamine or dobutamine scores 2 whatever else is infused",
                "its code asks for the mildest case first",
                {"least_infusion_first": True},
            ),
            Deviation(
                "creatinine scores nothing", "its code reads it and never compares it", {"creatinine_counts": False}
            ),
            Deviation("urine below 200 mL a day scores 3", "its code asks for 500 first", {"anuria": 3}),
        ),
    ),
    Calculator(
        51,
        sirs_criteria,
        (
            TEMPERATURE,
            HEART_RATE,
            RESPIRATORY_RATE,
            WHITE_CELLS,
            replace(PACO2, because="not given, so the respiratory rate decides", si="kPa"),
        ),
        question="How many SIRS criteria does the patient meet?",
        formula="one each: temperature above 38 or below 36 C; heart rate above 90; respiratory rate above 20 or PaCO2 "
        "below 32 mm Hg; white cell count above 12 or below 4 x10^9/L",
        citation="Bone RC, Balk RA, Cerra FB, et al. Definitions for sepsis and organ failure and guidelines for the "
        "use of innovative therapies in sepsis. Chest. 1992;101(6):1644-1655.",
        deviations=(
            Deviation(
                "the heart rate's point is given always", "both branches of its code add it", {"any_heart_rate": True}
            ),
            Deviation(
                "white cell counts per µL score as above 12 whatever they are",
                "it is converted to cells per cubic metre and compared with limits per cubic millimetre",
                units={"µL": "10^9/mm^3", "mm^3": "10^9/mm^3", "L": "10^3/mm^3"},
            ),
        ),
    ),
)
