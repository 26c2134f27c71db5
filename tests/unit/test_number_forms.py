"""Numbers as people and models write them: read where there is one reading, refused where there are
two, the same in answers and inputs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.inputs import Quantity
from ehrmind.config import TableFile, load_recipe
from ehrmind.data import cells
from ehrmind.data.cells import CellError
from ehrmind.data.ehr_labels import whole_labels
from ehrmind.data.medcalc import read_medcalc
from ehrmind.data.omop.values import read_column
from ehrmind.data.table import read_table_cases
from ehrmind.parsing.compare import read_number
from ehrmind.prompts.protocol import wrap
from ehrmind.types import Case, InputError
from ehrmind.verify import judge

ONE_READING = {
    "1,00,000": 1e5,
    "12,34,567.5": 1234567.5,
    "1,234": 1234.0,
    "1,234,567": 1234567.0,
    "1e5": 1e5,
    "5e-1": 0.5,
    "+5": 5.0,
}
ONE_READING |= {"5.": 5.0, ".5": 0.5, "-0.5": -0.5, "\u22120.5": -0.5, "007": 7.0, "0.500": 0.5}
TWO_OR_NONE = [
    "",
    "9" * 400,
    "1 234",
    "5 6",
    "0,500",
    "00,500",
    "0,500,000",
    "000,500",
    "-0,500",
    "1,234,56",
    "1,2345",
    "1,0,0",
    "1.234,5",
]
TWO_OR_NONE += [
    "12,3",
    "--5",
    "+-5",
    "1_000",
    "0x10",
    "Infinity",
    "-inf",
    "NaN",
    "1/2",
    "1:2",
    "5\u00b2",
    "1\u00bd",
    "\u00bd",
    "2\u2153",
    "1e400",
]
TWO_OR_NONE += ["1.2.3", "5e", "1e5e5", ",5", ".", "-", "1,", "1,,000"]


def number_case(value: float) -> Case:
    truth = {"kind": "decimal", "value": value, "low": value, "high": value, "unit": None}
    return Case("c", "table", "t", "table/t/number", "train", "g", {"question": "q?", "record": ""}, truth)


def is_right(value: float, answer: Any) -> bool:
    return judge(number_case(value), wrap(None, json.dumps({"answer": answer})), think=False).correct


@pytest.mark.parametrize("text", ONE_READING)
def test_an_answer_with_one_reading_is_that_number(text: str) -> None:
    assert is_right(ONE_READING[text], text) and not is_right(ONE_READING[text] + 1, text)


@pytest.mark.parametrize("text", TWO_OR_NONE)
def test_an_answer_with_two_readings_or_none_is_no_number(text: str) -> None:
    found = read_number(text)
    assert found.reason is not None or found.unit, found
    assert not any(
        is_right(value, text)
        for value in (500.0, 0.5, 1.0, 5.0, 25.0, 52.0, 1000.0, 16.0, 1234.0, 1234.5, 123456.0, 0.0)
    )


def written(value: float, draw: random.Random) -> Iterator[Any]:
    """Forms of a number that have one reading."""
    yield value
    yield repr(value) if abs(value) < 1e15 else str(value)
    yield f"{value:e}".replace("e+0", "e") if float(f"{value:e}") == value else value
    if value == int(value) and abs(value) < 2**53:
        whole = int(value)
        yield from (whole, str(whole), f"{whole:,}", f" {whole}.0 ", f"{'-' if whole < 0 else ''}00{abs(whole)}")
        yield f"+{whole}" if whole >= 0 else f"\u2212{abs(whole)}"
    elif 1e-3 < abs(value) < 1e15:
        yield f"{value:,.3f}" if round(value, 3) == value else repr(value)
        yield repr(value).replace("0.", ".") if draw.random() < 0.5 and repr(value).startswith("0.") else repr(value)


def two_readings(draw: random.Random) -> Iterator[str]:
    digits = "".join(draw.choice("0123456789") for _ in range(3))
    yield from (
        f"0,{digits}",
        f"00,{digits}",
        f"{digits},{digits[:2]}",
        f"{digits}_{digits}",
        f"{digits}\u00b2",
        f"{digits} {digits}",
        f"{digits}/7",
    )
    yield "".join(draw.choice("0123456789,.eE+-_x \u00bd\u00b2'") for _ in range(draw.randint(1, 9)))


def test_a_number_is_right_in_every_form_with_one_reading_and_wrong_in_anothers() -> None:
    draw = random.Random(3)
    for _ in range(2_000):
        value, other = (
            round(draw.choice((1, -1)) * 10 ** draw.uniform(-3, 9), draw.choice((0, 0, 1, 3))) + 0.0 for _ in range(2)
        )
        for form in written(value, draw):
            assert is_right(value, form), (value, form)
            assert is_right(other, form) == (other == value), (other, form)
        for text in two_readings(draw):
            found = read_number(text)
            if found.unit:  # of no unit known here
                assert not is_right(found.value, text), text
            elif found.reason is None:
                assert float(text.strip().strip(".").replace(",", "")) == found.value or text.strip().startswith("."), (
                    text
                )
                assert "," not in text or not text.strip().lstrip("+-").startswith("0"), text


@pytest.mark.parametrize(
    "cell", ["0,500", "1_000", "0x10", "--5", "1/2", "1:2", "\u00bd", "5\u00b2", "9" * 400, "1.234,5,6"]
)
def test_a_cell_is_read_as_an_answer_is_or_refused(cell: str) -> None:
    with pytest.raises(CellError):
        cells.number(cell, "point")


WEIGHT = Quantity("weight", "weight", "kg", 0.1, 500_000)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("1,00,000 kg", 1e5), ("1,234 kg", 1234.0), (("1,234", "kg"), 1234.0), (("70", "kg"), 70.0), (" 70. kg", 70.0), ("7e1 kg", 70.0),
        ("\u0667\u0660 kg", 70.0),
    ],
)  # fmt: skip
def test_an_input_with_one_reading_is_that_number(given: Any, value: float) -> None:
    assert WEIGHT.read(given) == value


@pytest.mark.parametrize(
    "given",
    [
        ("1_000", "kg"), "1_000 kg", ("0,500", "kg"), "0,500 kg", "1,234,56 kg", ("0x10", "kg"), ("infinity", "kg"), (" ", "kg"),
        "70\u00b2 kg", "70\u00bd kg", "70 kg" + " " * 250 + "or 80 kg", ("70 or 80", "kg"), (10**400, "kg"),
    ],
)  # fmt: skip
def test_an_input_with_two_readings_or_none_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="weight"):
        WEIGHT.read(given)


def test_a_typed_minus_is_a_minus() -> None:
    excess = Quantity("base_excess", "base excess", "mEq/L", -30, 30)
    assert excess.read("\u22125 mEq/L") == excess.read("-5 mEq/L") == excess.read(("\u22125", "mEq/L")) == -5
    assert CALCULATORS["body-mass-index"](
        "published", weight="70 kg", height="1,70 m".replace(",", ".")
    ).value == pytest.approx(24.2, abs=0.1)


@pytest.mark.parametrize("number", ["1_000", "0x3e8", "0b11", "1000j"])
def test_entities_hold_plain_numbers(number: str, tmp_path: Path) -> None:
    row = {
        "Row Number": "1", "Calculator Name": "Body Mass Index (BMI)", "Patient Note": "A note.", "Question": "What is the BMI?",
        "Relevant Entities": f"{{'weight': [{number}, 'kg'], 'height': [170, 'cm'], 'said': '1_000'}}", "Ground Truth Answer": "24",
        "Lower Limit": "23", "Upper Limit": "25",
    }  # fmt: skip
    path = tmp_path / "rows.parquet"
    pl.DataFrame([row]).write_parquet(path)
    with pytest.raises(InputError, match=r"row 1 .*column 'Relevant Entities': a number in it is not in plain digits"):
        read_medcalc(path, split="train")
    pl.DataFrame([{**row, "Relevant Entities": row["Relevant Entities"].replace(number, "70.5", 1)}]).write_parquet(
        path
    )
    assert len(read_medcalc(path, split="train")[0]) == 1


def test_numbers_that_no_column_holds_are_refused_and_are_no_fault(tmp_path: Path) -> None:
    for values in (
        pl.Series("integer_value", ["0", "1e300"]),
        pl.Series("integer_value", [0.0, 1e300]),
        pl.Series("integer_value", ["1", "9" * 30]),
    ):
        with pytest.raises(InputError, match=r"row 2, column 'integer_value'"):
            whole_labels(values, "labels.csv")
    found, wrong = read_column(pl.Series("person_id", ["1", "9" * 5000]), "whole")
    assert found.to_list() == [1, None] and list(wrong) == [False, True]


@pytest.mark.parametrize("label", ["\u00b2", "1_0", "1,000", "\u00bd", "01x"])
def test_a_number_that_is_no_place_of_a_label_is_refused_with_its_row(label: str, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(f'question,answer\nq?,a\nr?,"{label}"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"row 2, column 'answer'"):
        read_table_cases(TableFile(path=path, kind="label", labels=["a", "b"], labels_from=1))


@pytest.mark.parametrize("said", [{"tolerance": 1e308}, {"tolerance": 1e200, "absolute_tolerance": 1.7e308}])
def test_a_tolerance_under_which_any_answer_is_right_is_refused(said: dict[str, float], tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,answer\nq?,5e307\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"row 1, column 'answer': its tolerance"):
        read_table_cases(TableFile(path=tmp_path / "q.csv", kind="number", **said))


@pytest.mark.parametrize("written", ["010", "0x10", "0b11", "1:30", "1_0", "-0_1", "1:30.5", "1_000.5", "[2, 010]"])
def test_a_number_that_yaml_reads_otherwise_than_people_is_refused_with_its_line(written: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    plain = (
        "name: t\nseed: SEED\ndata: {train: {synthetic: {n: 4}}, held_out: {synthetic: {n: 4, seed: 1}}}\nmodel: {tiny:"
        " {}}\n"
    )
    path.write_text(plain.replace("SEED", written))
    with pytest.raises(InputError, match=r"r\.yaml, line 2: YAML does not read"):
        load_recipe(path)
    path.write_text(plain.replace("SEED", "1_000").replace("name: t", "name: '010'"))
    assert (load_recipe(path).seed, load_recipe(path).name) == (1000, "010")
    with pytest.raises(InputError, match="The override seed, line 1"):
        load_recipe(path, [f"seed={written}"])
    assert load_recipe(path, ["seed=12", "model.date=2026-01-31", "rlvr.learning_rate=1.5e-5"]).seed == 12
