"""Spellings of units: UCUM's, laboratories' and clinicians'. What has one reading is read, what has
two is refused.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.inputs import Quantity
from ehrmind.calculators.spelling import normal_unit
from ehrmind.calculators.units import convert, converts
from ehrmind.types import InputError

# (unit wanted, analyte): {how many of it one of the spellings is: the spellings}
SPELLINGS: dict[tuple[str, str | None], dict[float, str]] = {
    ("10^9/L", None): {
        1: (
            "10*9/L|10^9/L|10⁹/L|x10E9/L|x 10^9/L|×10⁹/L|10**9/L"
            "|10*9.L-1|10⁹·L⁻¹|G/L|Giga/L|GIGA/L|Gpt/L|bil/L|10(9)/L|x109/L|10*3/uL|10^3/μL|10³/µL"
            "|10e3/uL|10E3/UL|10x3/uL|K/uL|K/µL|k/μL|K/mcL|K/MCL"
            "|K/mm3|K/cmm|K/cumm|K/cu mm|thou/mm3|THOU/UL|thousand/uL|x1000/mm3|/nL|10*3{cells}/uL"
            "|10*9{platelets}/L|x10^9 cells/L|10^3 per cubic mm"
        ),
        0.001: (
            "/uL|/µL|/mcL|{cells}/uL|cells/uL|cells/mm3|/mm3|/mm^3|/mm³|/cmm"
            "|/cumm|/cu mm|cells/cu.mm|#/uL|cells per microliter|1/uL|{#}/uL"
        ),
        1000: "10*12/L|10*6/uL|million/uL|T/L|Tera/L|mio/µL",
        10: "10^4/µL",
    },
    ("mg/dL", "creatinine"): {
        1: "mg/dL|mg/dl|MG/DL|mg%|mg %|mg/100mL|mg/100 ml|mg per dL|mg.dL-1|mg·dL⁻¹|mg/dL{creat}|㎎/㎗|mgs/dl|mg/dL.",
        0.1: "mg/L|ug/mL|µg/mL|μg/ml|mcg/mL",
        0.011312: (
            "umol/L|umol/l|µmol/L|μmol/L|UMOL/L|mcmol/L|µM|μM|uM|umol.L-1|µmol L⁻¹|µmol"
            " L−1|micromol/L|umol/L{creatinine}"
        ),
    },
    ("mEq/L", "sodium"): {1: "mEq/L|meq/L|MEQ/L|mEq/l|mmol/L|mM|mmol·L-1|mequiv/L|ueq/mL"},
    ("mEq/L", "calcium"): {2: "mmol/L|mM", 1: "mEq/L"},
    ("U/L", "enzyme"): {
        1: "U/L|u/l|IU/L|[iU]/L|[IU]/L|UI/L|mU/mL|units/L|international units/L",
        60: "ukat/L|µkat/L|μkat/L",
        1000: "U/mL|kU/L",
    },
    ("µIU/mL", "insulin"): {1: "µIU/mL|μIU/mL|uU/mL|mIU/L|m[IU]/L|u[IU]/mL|mU/L|MIU/L|mcU/mL|mUI/L", 1 / 6: "pmol/L"},
    ("mm Hg", None): {1: "mm Hg|mmHg|mm[Hg]|MMHG|torr|millimeters of mercury", 7.50061683: "kPa|KPA|kilopascals"},
    ("mL/day", None): {
        1: "mL/d|mL/24h|mL/24 hr|mL/(24.h)|cc/day|ml per day",
        24: "mL/h|mL/hr|ml.h-1",
        1000: "L/d|L/24h",
    },
    ("mcg/kg/min", None): {
        1: "ug/kg/min|mcg/kg/min|µg/kg/min|μg/kg/min|ug.kg-1.min-1|mcg/(kg·min)|ug/(kg.min)|mcg/kg/minute"
    },
    ("bpm", None): {1: "/min|{beats}/min|beats/min|BPM|1/min|min-1|min⁻¹|per minute|beats per minute|{breaths}/min"},
    ("kg", None): {1: "kg|KG|kilograms", 0.45359237: "lb|lbs|[lb_av]|pounds", 0.001: "g"},
    ("cm", None): {1: "cm|CM", 2.54: "in|[in_i]|inches", 30.48: "ft|[ft_i]", 100: "m"},
    ("kg/m^2", None): {1: "kg/m2|kg/m^2|kg/m²|kg.m-2|kg·m⁻²|kg/m**2|kg/sq m"},
    ("years", None): {1: "a|y|yr|years", 1 / 12: "mo|months", 7 / 365.25: "wk|weeks", 1 / 365.25: "d|days"},
    ("%", "hematocrit"): {1: "%|percent|％", 100: "L/L|1|{fraction}|ratio"},
    ("g/dL", "hemoglobin"): {1: "g/dL|gm/dl|G/DL|g%|g/100mL", 0.1: "g/L|G/L|gm/L", 1.6114: "mmol/L|mmol/L{Fe}"},
    ("ng/mL{FEU}", None): {1: "ng/mL{FEU}|ng/mL FEU|ug/L{FEU}|ug/L FEU", 1000: "mg/L{FEU}|ug/mL FEU"},
    ("%", "HbA1c"): {1: "%|%{HbA1c}|% NGSP|%(NGSP)|% of total Hgb|%{DCCT}|%{Hb}"},
    ("", None): {1: "ratio|{INR}|{ratio}|INR|1"},
}
CONCENTRATIONS = {"mg/dL", "mEq/L", "U/L", "µIU/mL", "g/dL"}
ALL = [
    (*wanted, size, text)
    for wanted, sizes in SPELLINGS.items()
    for size, texts in sizes.items()
    for text in texts.split("|")
]


@given(spelling=st.sampled_from(ALL), value=st.floats(1e-3, 1e5))
def test_every_spelling_of_a_unit_is_read_as_the_same_number(
    spelling: tuple[str, str | None, float, str], value: float
) -> None:
    wanted, analyte, size, text = spelling
    assert convert(value, text, wanted, analyte) == pytest.approx(value * size, rel=1e-6), text
    assert convert(convert(value, text, wanted, analyte), wanted, text, analyte) == pytest.approx(value), (
        "there and back"
    )


@pytest.mark.parametrize(("wanted", "analyte", "size", "text"), ALL)
def test_no_spelling_is_forgotten(wanted: str, analyte: str | None, size: float, text: str) -> None:
    assert convert(1.0, text, wanted, analyte) == pytest.approx(size, rel=1e-6)


@example(spelling=("g/dL", "hemoglobin", 1, "G/DL"), other=("10^9/L", None))  # giga stands before a litre alone
@given(spelling=st.sampled_from(ALL), other=st.sampled_from(sorted(SPELLINGS, key=str)))
def test_a_unit_of_another_kind_is_refused(
    spelling: tuple[str, str | None, float, str], other: tuple[str, str | None]
) -> None:
    wanted, _, _, text = spelling
    concentrations = wanted in CONCENTRATIONS and other[0] in CONCENTRATIONS  # by a rule of the analyte
    if wanted != other[0] and not concentrations and text not in {"1", "ratio", "{fraction}", "G/L"}:
        assert not converts(text, *other), f"{text} as {other}"


@given(
    st.text(max_size=90) | st.text("10^*/{}[]%.µμKMGUumgdLlx⁹ -", max_size=12),
    st.sampled_from(sorted(SPELLINGS, key=str)),
)
def test_any_text_is_read_or_refused_in_a_sentence(text: str, wanted: tuple[str, str | None]) -> None:
    try:
        assert convert(1.0, text, *wanted) == convert(1.0, text, *wanted)
    except InputError as refusal:
        assert "\n" not in str(refusal).replace(text, "")


TEMPERATURES = ("C|Cel|°C|℃|º C|˚C|deg C|degrees Celsius|CEL", "F|[degF]|°F|℉|deg F|Fahrenheit", "K|kelvin")


@given(
    a=st.floats(20, 45),
    b=st.floats(20, 45),
    texts=st.tuples(*(st.sampled_from(texts.split("|")) for texts in TEMPERATURES)),
)
def test_temperatures_keep_their_order_in_every_spelling_of_every_scale(
    a: float, b: float, texts: tuple[str, ...]
) -> None:
    for text in texts:
        there = [convert(value, "Cel", text) for value in (a, b)]
        assert [convert(value, text, "C") for value in there] == pytest.approx([a, b])
        if abs(a - b) > 1e-6:
            assert (there[0] < there[1]) == (a < b)


@given(a=st.floats(10, 160), b=st.floats(10, 160))
def test_hba1c_goes_by_its_line_and_keeps_its_order(a: float, b: float) -> None:
    percent = [convert(value, "mmol/mol", "%", "HbA1c") for value in (a, b)]
    assert [convert(value, "%", "mmol/mol", "HbA1c") for value in percent] == pytest.approx([a, b])
    if abs(a - b) > 1e-6:
        assert (percent[0] < percent[1]) == (a < b)


@pytest.mark.parametrize(
    ("ifcc", "ngsp"), [(20, 4.0), (38, 5.6), (42, 6.0), (48, 6.5), (53, 7.0), (64, 8.0), (75, 9.0), (86, 10.0)]
)
def test_hba1c_is_what_the_tables_of_both_methods_print(ifcc: float, ngsp: float) -> None:
    assert round(convert(ifcc, "mmol/mol", "%{HbA1c}", "HbA1c"), 1) == ngsp


@pytest.mark.parametrize(
    ("unit", "wanted", "analyte"),
    [
        ("mmol/mol", "%", None), ("mmol/mol", "%", "hematocrit"), ("%{JDS}", "%", "HbA1c"), ("JDS %", "%", "HbA1c"), ("1", "%", "HbA1c"),
        ("mmol/mol{NGSP}", "%", "HbA1c"), ("% IFCC", "%", "HbA1c"),
        ("mg/dL{PO4}", "mg/dL", "phosphorus"),
        ("%", "", None), ("mg/g", "%", "hematocrit"), ("g/g", "%", "oxygen"), ("mcg/kg/min", "bpm", None), ("/min", "mcg/kg/min", None),
        ("mL/L/h", "bpm", None), ("mg/dL", "nmol/L", "lipoprotein(a)"), ("ng/mL{FEU}", "ng/mL{DDU}", None), ("ng/mL FEU", "ng/mL", None),
        ("mEq/L", "mmol/L", "phosphorus"), ("mEq/L", "mmol/L", None), ("mOsm/L", "mOsm/kg", None), ("U/L", "µg/L", None),
        ("µkat/L", "µIU/mL", "insulin"), ("mmol/L{tetramer}", "g/dL", "hemoglobin"), ("g/L", "10^9/L", None), ("K", "10^9/L", None),
        ("10^9", "10^9/L", None), ("mL/min", "mL/min/{1.73_m2}", None), ("A", "years", None), ("mm", "mm Hg", None), ("mL", "mL/day", None),
    ],
)  # fmt: skip
def test_what_only_a_dimension_would_convert_is_refused(unit: str, wanted: str, analyte: str | None) -> None:
    assert not converts(unit, wanted, analyte)


@pytest.mark.parametrize(
    ("unit", "wanted", "analyte", "said"),
    [
        ("MIU/mL", "µIU/mL", "insulin", "milli and mega"),
        ("M[IU]/L", "µIU/mL", "insulin", "milli and mega"),
        ("M/uL", "10^9/L", None, "thousands and millions"),
        ("m/uL", "10^9/L", None, "thousands and millions"),
        ("mil/mm3", "10^9/L", None, "thousands and millions"),
    ],
)
def test_a_spelling_with_two_readings_is_refused_in_a_sentence(
    unit: str, wanted: str, analyte: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        convert(1.0, unit, wanted, analyte)


def test_urea_by_mass_is_no_urea_nitrogen() -> None:
    assert convert(60.056, "mg/dL{urea}", "mg/dL", "urea nitrogen") == pytest.approx(28.014)
    assert (
        convert(10, "mmol/L{urea}", "mg/dL", "urea nitrogen")
        == convert(10, "mmol/L", "mg/dL", "urea nitrogen")
        == pytest.approx(28.014)
    )


MEASUREMENTS = {
    item.name: item for calculator in CALCULATORS.values() for item in calculator.inputs if isinstance(item, Quantity)
}


@pytest.mark.parametrize("item", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_a_refusal_names_the_units_that_are_read_and_they_are_read(item: Quantity) -> None:
    with pytest.raises(InputError) as refusal:
        item.read((1.0, "mmol/mol"))
    named = str(refusal.value).partition("give it in ")[2].rstrip(".").replace(" or ", ", ").split(", ")
    assert named[0] == (item.unit or "no unit")
    for unit in named[1:]:
        assert converts(unit.split()[0], item.unit, item.analyte), unit


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("mL/min/{1.73_m2}", "mL/min/1.73 m^2"), ("mL·min⁻¹·1.73 m⁻²", "ml per min per 1.73 m²"), ("{score}", "score"),
        ("mm[Hg]", "mmHg"), ("mmol·L⁻¹", "mmol/L"), ("μg/dL", "µg/dL"), ("kg.m-2", "kg/m²"),
        ("mosm/kg{H2O}", "mOsm/kg"), ("mg.dL-1", "mg/dL"), ("mL/(24.h)", "mL/day"),
    ],
)  # fmt: skip
def test_an_answers_unit_in_ucum_is_the_unit(text: str, same: str) -> None:
    assert normal_unit(text) == normal_unit(same)


def test_an_annotation_that_changes_the_number_stays_in_the_answers_unit() -> None:
    assert normal_unit("ng/mL{FEU}") != normal_unit("ng/mL") and normal_unit("%{JDS}") != normal_unit("%")


def test_kinds_stay_apart_in_the_calculators() -> None:
    good: dict[str, Any] = {
        "temperature": "37 Cel",
        "heart_rate": "80 {beats}/min",
        "respiratory_rate": "14 {breaths}/min",
    }
    assert CALCULATORS["sirs"](**good, white_cells="8 10⁹/L").value == 0
    with pytest.raises(InputError, match=r"heart_rate: 'mcg/kg/min' does not convert to bpm; give it in bpm or /min\."):
        CALCULATORS["sirs"](**{**good, "heart_rate": "80 mcg/kg/min"}, white_cells="8 10⁹/L")
