"""The veins: the likelihood of a deep vein thrombosis (Wells), and its risk around an operation
(Caprini)."""

from __future__ import annotations

from dataclasses import replace

from ehrmind.calculators.calculator import Calculator, Deviation
from ehrmind.calculators.inputs import Choice, Flag
from ehrmind.calculators.vocabulary import AGE, BMI, PRIOR_DVT, PRIOR_PE, SEX
from ehrmind.calculators.working import Steps, num

# Wells
ACTIVE_CANCER = Flag("active_cancer", "active cancer")
BEDRIDDEN_3_DAYS = Flag(
    "bedridden_3_days",
    "confinement to bed for more than 3 days",
    ("Bedridden recently >3 days", "Bedridden recently >3 days or major surgery within 12 weeks"),
)
MAJOR_SURGERY_12_WEEKS = Flag("major_surgery_12_weeks", "major surgery within 12 weeks")
CALF_SWELLING = Flag(
    "calf_swelling",
    "calf swelling more than 3 cm beyond the other leg",
    ("Calf swelling >3 centimeters compared to the other leg", "Calf swelling >3 cm compared to the other leg"),
)
COLLATERAL_VEINS = Flag(
    "collateral_veins",
    "collateral nonvaricose superficial veins",
    ("Collateral (nonvaricose) superficial veins present",),
)
ENTIRE_LEG_SWOLLEN = Flag("entire_leg_swollen", "swelling of the entire leg", ("Entire Leg Swollen",))
DEEP_VEIN_TENDERNESS = Flag(
    "deep_vein_tenderness", "tenderness along the deep veins", ("Localized tenderness along the deep venous system",)
)
PITTING_EDEMA = Flag(
    "pitting_edema_one_leg",
    "pitting edema of the symptomatic leg only",
    ("Pitting edema, confined to symptomatic leg",),
)
LEG_PARALYZED = Flag(
    "leg_paralyzed_or_in_plaster",
    "paralysis, paresis or recent plaster cast of the leg",
    ("Paralysis, paresis, or recent plaster immobilization of the lower extremity",),
)
OTHER_DIAGNOSIS = Flag(
    "other_diagnosis_as_likely",
    "another diagnosis as likely as deep vein thrombosis",
    ("Alternative diagnosis to Deep Vein Thrombosis as likely or more likely",),
)

# Caprini
SURGERY_TYPE = Choice(
    "surgery_type",
    "type of surgery",
    {
        "none": ("no surgery",),
        "minor": ("minor surgery",),
        "major": ("major surgery", "major open surgery"),
        "laparoscopic": ("laparoscopic surgery",),
        "arthroscopic": ("arthroscopic surgery",),
        "elective major lower extremity arthroplasty": ("hip replacement", "knee replacement"),
    },
    ("Surgery Type",),
    default="none",
    because="not mentioned, so taken as none",
)
MOBILITY = Choice(
    "mobility",
    "mobility",
    {"normal": ("out of bed",), "on bed rest": ("bed rest",), "confined to bed >72 hours": ("confined to bed",)},
    default="normal",
    because="not mentioned, so taken as normal",
)
WEIGHT_FOR_HEIGHT = replace(BMI, because="not given, so taken as 25 kg/m^2 or less")
SURGERY_POINTS = {
    "none": 0,
    "minor": 1,
    "major": 2,
    "laparoscopic": 2,
    "arthroscopic": 2,
    "elective major lower extremity arthroplasty": 5,
}
MOBILITY_POINTS = {"normal": 0, "on bed rest": 1, "confined to bed >72 hours": 2}


def _month(name: str, label: str, points: int) -> tuple[Flag, int]:
    """Makes a finding that counts if it happened within the last month."""
    return Flag(f"{name}_1_month", f"{label} in the last month"), points


# Findings that add points. A previous deep vein thrombosis and a previous embolism are one
# criterion together.
CAPRINI_FINDINGS: tuple[tuple[Flag, int], ...] = (
    _month("major_surgery", "major surgery", 1),
    _month("heart_failure", "congestive heart failure", 1),
    _month("sepsis", "sepsis", 1),
    _month("pneumonia", "pneumonia", 1),
    _month("plaster_cast", "immobilizing plaster cast", 2),
    _month("leg_fracture", "hip, pelvis, or leg fracture", 5),
    _month("stroke", "stroke", 5),
    _month("multiple_trauma", "multiple trauma", 5),
    _month("spinal_cord_injury", "acute spinal cord injury causing paralysis", 5),
    (Flag("varicose_veins", "varicose veins"), 1),
    (Flag("swollen_legs", "swollen legs at present", ("Current swollen legs",)), 1),
    (Flag("central_venous_access", "central venous access at present", ("Current central venous access",)), 2),
    (Flag("family_thrombosis", "family history of thrombosis"), 3),
    (Flag("factor_v_leiden", "positive factor V Leiden"), 3),
    (Flag("prothrombin_20210a", "positive prothrombin 20210A"), 3),
    (Flag("high_homocysteine", "elevated serum homocysteine"), 3),
    (Flag("lupus_anticoagulant", "positive lupus anticoagulant"), 3),
    (Flag("anticardiolipin", "elevated anticardiolipin antibody"), 3),
    (Flag("heparin_thrombocytopenia", "heparin-induced thrombocytopenia"), 3),
    (Flag("other_thrombophilia", "other congenital or acquired thrombophilia"), 3),
    (Flag("inflammatory_bowel_disease", "history of inflammatory bowel disease"), 1),
    (Flag("acute_infarction", "acute myocardial infarction"), 1),
    (Flag("copd", "chronic obstructive pulmonary disease"), 1),
    (Flag("cancer_ever", "present or previous malignancy"), 2),
)
CAPRINI_WOMEN: tuple[tuple[Flag, int], ...] = (
    (Flag("contraceptives_or_hormones", "oral contraceptives or hormone replacement"), 1),
    (Flag("pregnant_or_postpartum", "pregnancy or birth in the last month"), 1),
    (
        Flag(
            "pregnancy_loss",
            "unexplained stillbirth, recurrent abortion, or premature birth with toxemia or growth restriction",
        ),
        1,
    ),
)


def wells_dvt(
    steps: Steps,
    *,
    active_cancer: bool,
    bedridden_3_days: bool,
    major_surgery_12_weeks: bool,
    calf_swelling: bool,
    collateral_veins: bool,
    entire_leg_swollen: bool,
    deep_vein_tenderness: bool,
    pitting_edema_one_leg: bool,
    leg_paralyzed_or_in_plaster: bool,
    prior_dvt: bool,
    other_diagnosis_as_likely: bool,
) -> float:
    steps.flag("active cancer", active_cancer)
    steps.flag("bed for more than 3 days or major surgery within 12 weeks", bedridden_3_days or major_surgery_12_weeks)
    steps.flag("calf swelling more than 3 cm beyond the other leg", calf_swelling)
    steps.flag("collateral nonvaricose superficial veins", collateral_veins)
    steps.flag("swelling of the entire leg", entire_leg_swollen)
    steps.flag("tenderness along the deep veins", deep_vein_tenderness)
    steps.flag("pitting edema of the symptomatic leg only", pitting_edema_one_leg)
    steps.flag("paralysis, paresis or recent plaster cast of the leg", leg_paralyzed_or_in_plaster)
    steps.flag("previous deep vein thrombosis", prior_dvt)
    steps.flag("another diagnosis as likely", other_diagnosis_as_likely, -2)
    return steps.total("Wells score for deep vein thrombosis")


def caprini(
    steps: Steps,
    *,
    sex: str,
    age: float,
    surgery_type: str,
    mobility: str,
    bmi: float | None,
    prior_dvt: bool,
    prior_pe: bool,
    findings_add_up: bool = True,
    **findings: bool,
) -> float:
    """Works the Caprini score.

    `findings` are the flags of CAPRINI_FINDINGS and CAPRINI_WOMEN by name; the latter count in
    women.
    """
    by_age = 0 if age < 41 else 1 if age < 61 else 2 if age < 75 else 3
    steps.points("age (1 from 41, 2 from 61, 3 from 75 years)", f"{num(age)} years", by_age)
    steps.points("type of surgery", surgery_type, SURGERY_POINTS[surgery_type])
    steps.points("mobility", mobility, MOBILITY_POINTS[mobility])
    if findings_add_up:
        for item, points in CAPRINI_FINDINGS:
            steps.flag(item.label, findings[item.name], points)
        steps.flag("previous deep vein thrombosis or pulmonary embolism", prior_dvt or prior_pe, 3)
        steps.points(
            "BMI above 25", "not given" if bmi is None else f"{num(bmi)} kg/m^2", int(bmi is not None and bmi > 25)
        )
        for item, points in CAPRINI_WOMEN if sex == "female" else ():
            steps.flag(item.label, findings[item.name], points)
    else:
        steps.note("every other finding", "does not add to the total")
    return steps.total("Caprini score")


CALCULATORS = (
    Calculator(
        16,
        wells_dvt,
        (
            ACTIVE_CANCER,
            BEDRIDDEN_3_DAYS,
            MAJOR_SURGERY_12_WEEKS,
            CALF_SWELLING,
            COLLATERAL_VEINS,
            ENTIRE_LEG_SWOLLEN,
            DEEP_VEIN_TENDERNESS,
            PITTING_EDEMA,
            LEG_PARALYZED,
            PRIOR_DVT,
            OTHER_DIAGNOSIS,
        ),
        question="How many points does the patient have on the Wells score for deep vein thrombosis?",
        formula="1 point for each of nine findings, minus 2 if another diagnosis is at least as likely",
        citation="Wells PS, Anderson DR, Rodger M, et al. Evaluation of D-dimer in the diagnosis of suspected "
        "deep-vein thrombosis. N Engl J Med. 2003;349(13):1227-1235.",
    ),
    Calculator(
        36,
        caprini,
        (
            SEX,
            AGE,
            SURGERY_TYPE,
            MOBILITY,
            WEIGHT_FOR_HEIGHT,
            PRIOR_DVT,
            PRIOR_PE,
            *(item for item, _ in CAPRINI_FINDINGS),
            *(item for item, _ in CAPRINI_WOMEN),
        ),
        question="How many points does the patient have on the Caprini score (2005) for venous thromboembolism?",
        formula="points for age, type of surgery, mobility, BMI > 25, events of the last month, venous disease and "
        "clotting disorders, and present or past illnesses",
        citation="Caprini JA. Thrombosis risk assessment as a guide to quality patient care. Dis Mon. "
        "2005;51(2-3):70-78.",
        deviations=(
            Deviation(
                "only age, type of surgery and mobility count",
                "the release's code writes the points of every other finding down, but does not carry them on into the "
                "total",
                {"findings_add_up": False},
            ),
        ),
    ),
)
