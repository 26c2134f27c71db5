"""Inputs that several calculators share, defined once: a creatinine is the same in every score.

`entities` are the keys under which MedCalc-Bench writes them, in addition to the label. The ranges
are deliberately wide: values that have been measured in living patients. A formula with a narrower
domain narrows its own copy.
"""

from __future__ import annotations

from ehrmind.calculators.inputs import Choice, Day, Flag, Quantity

# The person
AGE = Quantity("age", "age", "years", 0, 125, bare=True)
SEX = Choice("sex", "sex", {"female": ("f", "woman", "girl"), "male": ("m", "man", "boy")}, ("gender",))
WEIGHT = Quantity("weight", "weight", "kg", 0.3, 600)
HEIGHT = Quantity("height", "height", "cm", 25, 260)
BMI = Quantity("bmi", "body mass index", "kg/m^2", 7, 120, entities=("Body Mass Index (BMI)", "BMI"))

# Vital signs
SYSTOLIC = Quantity("systolic", "systolic blood pressure", "mm Hg", 20, 320, bare=True)
DIASTOLIC = Quantity("diastolic", "diastolic blood pressure", "mm Hg", 5, 220, bare=True)
HEART_RATE = Quantity("heart_rate", "heart rate", "bpm", 10, 350, bare=True, entities=("Heart Rate or Pulse", "pulse"))
RESPIRATORY_RATE = Quantity("respiratory_rate", "respiratory rate", "breaths/min", 1, 100, bare=True)
TEMPERATURE = Quantity("temperature", "temperature", "C", 20, 45)
OXYGEN_SATURATION = Quantity(
    "oxygen_saturation",
    "oxygen saturation",
    "%",
    20,
    100,
    "oxygen",
    bare=True,
    entities=("O2 saturation percentage", "oxygen saturation percentage"),
)
QT = Quantity("qt", "QT interval", "msec", 100, 900)
GCS = Quantity("gcs", "Glasgow Coma Score", "", 3, 15)
URINE_OUTPUT = Quantity("urine_output", "urine output", "mL/day", 0, 30000)

# Blood
ALBUMIN = Quantity("albumin", "albumin", "g/dL", 0.2, 8, "albumin")
ALT = Quantity("alt", "alanine aminotransferase", "U/L", 1, 30000, "enzyme", entities=("ALT",))
AST = Quantity("ast", "aspartate aminotransferase", "U/L", 1, 30000, "enzyme", entities=("AST",))
BICARBONATE = Quantity("bicarbonate", "bicarbonate", "mEq/L", 1, 80, "bicarbonate")
BILIRUBIN = Quantity("bilirubin", "total bilirubin", "mg/dL", 0.05, 90, "bilirubin", entities=("Bilirubin",))
CALCIUM = Quantity("calcium", "calcium", "mg/dL", 2, 30, "calcium")
CHLORIDE = Quantity("chloride", "chloride", "mEq/L", 40, 180, "chloride")
CHOLESTEROL = Quantity("cholesterol", "total cholesterol", "mg/dL", 20, 2000, "cholesterol")
CREATININE = Quantity("creatinine", "creatinine", "mg/dL", 0.05, 60, "creatinine", entities=("serum creatinine",))
GLUCOSE = Quantity("glucose", "glucose", "mg/dL", 5, 3000, "glucose")
HDL = Quantity(
    "hdl", "HDL cholesterol", "mg/dL", 1, 300, "cholesterol", entities=("high-density lipoprotein cholesterol", "HDL")
)
HEMATOCRIT = Quantity("hematocrit", "hematocrit", "%", 3, 85, "hematocrit")
HEMOGLOBIN = Quantity("hemoglobin", "hemoglobin", "g/dL", 1, 30, "hemoglobin")
INR = Quantity("inr", "INR", "", 0.3, 30, entities=("international normalized ratio",))
INSULIN = Quantity("insulin", "insulin", "µIU/mL", 0.1, 3000, "insulin")
PH = Quantity("ph", "arterial pH", "", 6.3, 8, entities=("pH",))
PACO2 = Quantity("paco2", "PaCO2", "mm Hg", 5, 250, entities=("Partial pressure of carbon dioxide",))
PAO2 = Quantity(
    "pao2",
    "PaO2",
    "mm Hg",
    10,
    760,
    entities=(
        "Partial pressure of oxygen (PaO2) for Apache II",
        "Partial pressure of oxygen",
        "Partial pressure of oxygen (PaO2)",
    ),
)
FIO2 = Quantity("fio2", "FiO2", "%", 20, 100, "oxygen")
AA_GRADIENT = Quantity("aa_gradient", "A-a gradient", "mm Hg", 0, 760, bare=True)
PLATELETS = Quantity("platelets", "platelet count", "10^9/L", 0, 5000)
POTASSIUM = Quantity("potassium", "potassium", "mEq/L", 0.5, 15, "potassium")
SODIUM = Quantity("sodium", "sodium", "mEq/L", 80, 220, "sodium")
TRIGLYCERIDES = Quantity("triglycerides", "triglycerides", "mg/dL", 5, 20000, "triglycerides")
UREA_NITROGEN = Quantity(
    "urea_nitrogen", "urea nitrogen", "mg/dL", 0.5, 400, "urea nitrogen", entities=("Blood Urea Nitrogen (BUN)", "BUN")
)
WHITE_CELLS = Quantity("white_cells", "white cell count", "10^9/L", 0, 1500, entities=("White blood cell count", "WBC"))

# Urine
URINE_CREATININE = Quantity("urine_creatinine", "urine creatinine", "mg/dL", 0.5, 1000, "creatinine")
URINE_SODIUM = Quantity("urine_sodium", "urine sodium", "mEq/L", 1, 500, "sodium")

# Days
LAST_PERIOD = Day("last_period", "first day of the last menstrual period", ("Last menstrual date",))
TODAY = Day("today", "day of the visit", ("Current Date",))
CYCLE_LENGTH = Quantity(
    "cycle_length",
    "cycle length",
    "days",
    15,
    60,
    bare=True,
    entities=("cycle length",),
    default=28,
    because="not given, so the standard 28 days",
)

# Habits
DRINKS = Quantity("drinks", "alcoholic drinks per week", "", 0, 300, entities=("Number of Alcoholic Drinks Per Week",))
SMOKING = Flag("smoking", "current smoking", ("Smoker", "smoking"))

# Illnesses and events that several scores ask for
COPD = Flag("copd", "chronic obstructive pulmonary disease", ("Chronic Pulmonary Disease",))
DEMENTIA = Flag("dementia", "dementia")
DIABETES = Flag("diabetes", "diabetes mellitus", ("Diabetes history", "Diabetes mellitus criteria for CCI rule"))
HEART_FAILURE = Flag(
    "heart_failure",
    "congestive heart failure",
    (
        "Congestive Heart Faliure",
        "Congestive Heart Failure criteria for the Cardiac Risk Index rule",
        "Congestive Heart Failure history",
    ),
)
HEMOPTYSIS = Flag("hemoptysis", "hemoptysis")
HYPERTENSION = Flag("hypertension", "hypertension", ("Hypertension history",))
LIVER_DISEASE = Flag(
    "liver_disease",
    "chronic liver disease",
    ("Liver disease severity", "Liver disease history", "Hepatic disease history", "Liver disease"),
)
PRIOR_DVT = Flag("prior_dvt", "previous deep vein thrombosis", ("Previously documented Deep Vein Thrombosis",))
PRIOR_PE = Flag("prior_pe", "previous pulmonary embolism", ("Previously Documented Pulmonary Embolism",))
STROKE = Flag("stroke", "previous stroke", ("Stroke", "Stroke history", "Cerebrovascular Accident"))
TIA = Flag("tia", "previous transient ischemic attack", ("Transient Ischemic Attacks History",))
CEREBROVASCULAR_DISEASE = Flag(
    "cerebrovascular_disease",
    "cerebrovascular disease",
    ("Cerebrovascular disease history", "History of cerebrovascular disease"),
)
CONFUSION = Flag("confusion", "confusion", ("Altered mental status", "Confusion"))
