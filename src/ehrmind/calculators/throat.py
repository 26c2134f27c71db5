"""The sore throat: Centor (modified by McIsaac) and FeverPAIN."""

from __future__ import annotations

from dataclasses import replace

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Flag
from ehrmind.calculators.vocabulary import AGE, TEMPERATURE
from ehrmind.calculators.working import Steps, num

COUGH_ABSENT = Flag("cough_absent", "absence of cough")
EXUDATE = Flag("tonsil_exudate", "exudate or swelling on the tonsils", ("Exudate or swelling on tonsils",))
NODES = Flag(
    "tender_nodes", "tender or swollen anterior cervical lymph nodes", ("Tender/swollen anterior cervical lymph nodes",)
)

FEVER = Flag("fever_24_hours", "fever in the past 24 hours", ("Fever in past 24 hours",))
NO_COUGH_OR_CORYZA = Flag("no_cough_or_coryza", "absence of cough or coryza")
ONSET = Flag("onset_3_days", "symptom onset within 3 days", ("Symptom onset ≤3 days", "Symptom onset <=3 days"))
PURULENT = Flag("purulent_tonsils", "purulent tonsils")
INFLAMED = Flag("inflamed_tonsils", "severe tonsil inflammation")
_FEVERPAIN = (FEVER, NO_COUGH_OR_CORYZA, ONSET, PURULENT, INFLAMED)


def centor(
    steps: Steps,
    *,
    age: float,
    temperature: float,
    cough_absent: bool,
    tonsil_exudate: bool,
    tender_nodes: bool,
) -> float:
    steps.points(
        "age, 1 more from 3 to 14 and 1 less from 45",
        f"{num(age)} years",
        1 if 3 <= age < 15 else -1 if age >= 45 else 0,
    )
    steps.points("temperature above 38 C", f"{num(temperature)} C", int(temperature > 38))
    steps.flag(COUGH_ABSENT.label, cough_absent)
    steps.flag(EXUDATE.label, tonsil_exudate)
    steps.flag(NODES.label, tender_nodes)
    return steps.total("Centor score")


def feverpain(steps: Steps, **present: bool) -> float:
    for item in _FEVERPAIN:
        steps.flag(item.label, present[item.name])
    return steps.total("FeverPAIN score")


CALCULATORS = (
    Calculator(
        20,
        centor,
        (replace(AGE, low=3), TEMPERATURE, COUGH_ABSENT, EXUDATE, NODES),
        question="What is the patient's Centor score (modified by McIsaac)?",
        formula="1 point each: temperature above 38 C, no cough, tonsillar exudate, tender anterior cervical nodes; "
        "age 3 to 14: 1, from 45: -1",
        citation="McIsaac WJ, White D, Tannenbaum D, Low DE. A clinical score to reduce unnecessary antibiotic use in "
        "patients with sore throat. CMAJ. 1998;158(1):75-83.",
        deviations=(
            Deviation(
                "a cough that is not mentioned counts as absent, which earns its point",
                "the release takes what is not mentioned for absent, a cough included",
                defaults={"cough_absent": True},
                conventions=("medcalc-verified",),
            ),
        ),
    ),
    Calculator(
        33,
        feverpain,
        _FEVERPAIN,
        question="What is the patient's FeverPAIN score?",
        formula="1 point each: fever in the past 24 hours, no cough or coryza, onset within 3 days, purulent tonsils, "
        "severe tonsil inflammation",
        citation="Little P, Hobbs FD, Moore M, et al. Clinical score and rapid antigen detection test to guide "
        "antibiotic use for sore throats: randomised controlled trial of PRISM. BMJ. 2013;347:f5806.",
    ),
)
