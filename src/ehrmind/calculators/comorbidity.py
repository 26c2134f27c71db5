"""Comorbidity: the age-adjusted Charlson index."""

from __future__ import annotations

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice, Flag
from ehrmind.calculators.vocabulary import AGE, COPD, DEMENTIA, HEART_FAILURE, STROKE, TIA
from ehrmind.calculators.working import Steps, num

ABSENT = "not mentioned, so taken as none"
MYOCARDIAL_INFARCTION = Flag("myocardial_infarction", "previous myocardial infarction", ("Myocardial infarction",))
PERIPHERAL_VASCULAR = Flag("peripheral_vascular_disease", "peripheral vascular disease")
CONNECTIVE_TISSUE = Flag("connective_tissue_disease", "connective tissue disease")
PEPTIC_ULCER = Flag("peptic_ulcer_disease", "peptic ulcer disease")
LIVER_SEVERITY = Choice(
    "liver_severity",
    "liver disease severity",
    {"none": ("no", "false", "absent"), "mild": ("true",), "moderate to severe": ("moderate", "severe")},
    ("Liver disease severity", "Liver disease"),
    default="none",
    because=ABSENT,
)
DIABETES_SEVERITY = Choice(
    "diabetes_severity",
    "diabetes mellitus status",
    {
        "none": ("no", "false", "absent"),
        "diet-controlled": ("none or diet-controlled",),
        "uncomplicated": ("true",),
        "end-organ damage": (),
    },
    ("Diabetes mellitus criteria for CCI rule", "Diabetes mellitus"),
    default="none",
    because=ABSENT,
)
HEMIPLEGIA = Flag("hemiplegia", "hemiplegia")
KIDNEY_DISEASE = Flag("chronic_kidney_disease", "moderate to severe chronic kidney disease")
SOLID_TUMOR = Choice(
    "solid_tumor",
    "solid tumor",
    {"none": ("no", "false", "absent"), "localized": ("true", "localised"), "metastatic": ()},
    ("Solid tumor",),
    default="none",
    because=ABSENT,
)
LEUKEMIA, LYMPHOMA, AIDS = Flag("leukemia", "leukemia"), Flag("lymphoma", "lymphoma"), Flag("aids", "AIDS")


def charlson(
    steps: Steps,
    *,
    age: float,
    stroke: bool,
    tia: bool,
    liver_severity: str,
    diabetes_severity: str,
    hemiplegia: bool,
    chronic_kidney_disease: bool,
    solid_tumor: str,
    leukemia: bool,
    lymphoma: bool,
    aids: bool,
    liver_points: tuple[int, int] = (1, 3),
    diabetes_points: tuple[int, int, int] = (0, 1, 2),
    tumor_points: tuple[int, int] = (2, 6),
    blood_cancer_points: int = 2,
    aids_points: int = 6,
    **single: bool,
) -> float:
    steps.points("age, a point per decade from 50, at most 4", f"{num(age)} years", min(max(int(age // 10) - 4, 0), 4))
    for item in _SINGLE:
        steps.flag(item.label, single[item.name])
    steps.flag("stroke or transient ischemic attack", stroke or tia)
    steps.points(
        "liver disease", liver_severity, (0, *liver_points)[list(LIVER_SEVERITY.options).index(liver_severity)]
    )
    steps.points(
        "diabetes mellitus",
        diabetes_severity,
        (0, *diabetes_points)[list(DIABETES_SEVERITY.options).index(diabetes_severity)],
    )
    steps.flag("hemiplegia", hemiplegia, 2)
    steps.flag(KIDNEY_DISEASE.label, chronic_kidney_disease, 2)
    steps.points("solid tumor", solid_tumor, (0, *tumor_points)[list(SOLID_TUMOR.options).index(solid_tumor)])
    steps.flag("leukemia", leukemia, blood_cancer_points)
    steps.flag("lymphoma", lymphoma, blood_cancer_points)
    steps.flag("AIDS", aids, aids_points)
    return steps.total("Charlson Comorbidity Index")


_SINGLE = (MYOCARDIAL_INFARCTION, HEART_FAILURE, PERIPHERAL_VASCULAR, DEMENTIA, COPD, CONNECTIVE_TISSUE, PEPTIC_ULCER)

CALCULATORS = (
    Calculator(
        32,
        charlson,
        (
            AGE,
            *_SINGLE,
            STROKE,
            TIA,
            LIVER_SEVERITY,
            DIABETES_SEVERITY,
            HEMIPLEGIA,
            KIDNEY_DISEASE,
            SOLID_TUMOR,
            LEUKEMIA,
            LYMPHOMA,
            AIDS,
        ),
        question="What is the patient's age-adjusted Charlson Comorbidity Index?",
        formula="1 point per decade from 50 (at most 4); 1 each for infarction, heart failure, peripheral vascular, "
        "cerebrovascular, pulmonary, connective tissue and ulcer disease, dementia, mild liver disease, diabetes; 2 "
        "each for diabetes with organ damage, hemiplegia, kidney disease, solid tumor, leukemia, lymphoma; 3 for "
        "severe liver disease; 6 each for metastatic tumor and AIDS",
        citation="Charlson ME, Pompei P, Ales KL, MacKenzie CR. A new method of classifying prognostic comorbidity in "
        "longitudinal studies. J Chronic Dis. 1987;40(5):373-383. Age: Charlson M, Szatrowski TP, Peterson J, Gold J. "
        "J Clin Epidemiol. 1994;47(11):1245-1251.",
        deviations=(
            Deviation(
                "liver disease scores 1 whatever its severity",
                "its code asks only whether it is mentioned",
                {"liver_points": (1, 1)},
            ),
            Deviation(
                "diabetes scores 1 whatever its state, diet-controlled included",
                "its code asks only whether it is mentioned",
                {"diabetes_points": (1, 1, 1)},
            ),
            Deviation(
                "a solid tumor scores 1, metastatic or not",
                "its code asks only whether it is mentioned",
                {"tumor_points": (1, 1)},
            ),
        ),
    ),
)
