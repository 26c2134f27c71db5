"""`ehrmind data audit`: entities are cut out of notes, so neither the terminal nor --json says any
of their values.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.calculator import CONVENTIONS
from ehrmind.calculators.catalogue import CATALOGUE
from ehrmind.calculators.entities import work_entities
from ehrmind.calculators.inputs import Quantity, unquoted
from ehrmind.data.medcalc import REQUIRED
from ehrmind.types import InputError
from tests.new_rows import ehrmind

CANARY = "Zqx Canary, jane doe, HIV positive"
NUMBER = 918273.5  # no limit, factor or example of any calculator


def spoilt(name: str, unit: str | None) -> list[object]:
    """Ways to write a value that no input reads, a canary in each."""
    return [
        CANARY,
        [CANARY, unit or "kg"],
        [40, CANARY],
        [NUMBER, unit or "years"],
        (CANARY, CANARY, CANARY),
        {CANARY: CANARY},
        [CANARY] * 4,
        NUMBER,
    ]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_no_calculator_says_a_value_of_the_entities_it_refuses(convention: str) -> None:
    refusals = 0
    for calculator in CALCULATORS.values():
        for item in calculator.inputs:
            unit = item.unit if isinstance(item, Quantity) else None
            for value in spoilt(item.name, unit):
                try:
                    work_entities(calculator, {item.name: value, item.label: value, CANARY: value}, convention)  # type: ignore[arg-type]
                except InputError as error:
                    refusals += 1
                    said = unquoted(error)
                    assert "zqx" not in said.lower() and "918273" not in said and "9.18" not in said, said
    assert refusals > 1000


def sheet(path: Path, entities: list[str], answer: str = "38.0", ids: str = "zqxid{}") -> Path:
    name = CATALOGUE[2].name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Row Number", "Relevant Entities", "Ground Truth Explanation", *REQUIRED])
        for number, row in enumerate(entities, start=1):
            cells = {"Calculator Name": name, "Patient Note": f"{CANARY} {number}", "Question": "How much?"}
            writer.writerow([ids.format(number), row, CANARY, *(cells.get(column, answer) for column in REQUIRED)])
    return path


@pytest.mark.parametrize("more", [[], ["--json"], ["--convention", "medcalc"]])
def test_the_audit_says_row_calculator_and_reason_and_no_value(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fine = {
        "sex": "male",
        "age": [40, "years"],
        "weight": [7012, "kg"],
        "height": [170, "cm"],
        "creatinine": [1, "mg/dL"],
    }
    rows = [
        {**fine, "sex": CANARY},
        {**fine, "age": [CANARY, "years"]},
        {**fine, "weight": [70, CANARY]},
        fine,
        {**fine, "weight": [77, "kg"], "body weight": [78, "kg"], "Weight": [79, "kg"]},
        {**fine, "weight": [77.125, "kg"]},
    ]
    path = sheet(tmp_path / "rows.csv", [str(row) for row in rows])
    assert ehrmind("data", "audit", path, "--out", "corrected.csv", *more) == 0
    streams = capsys.readouterr()
    said = streams.out + streams.err
    assert all(word not in said.lower() for word in ("zqx", "jane", "7012", "77.125", "hiv")), said
    if more == []:
        assert "row 1, creatinine-clearance: not computable: sex: its value is none of" in said
        assert "row 2, creatinine-clearance: not computable: age: its value is not a number with a unit." in said
        assert "row 3, creatinine-clearance: not computable: weight: its unit is not read; give it in kg" in said
        assert "row 4, creatinine-clearance: not computable: weight: its value is outside" in said
        assert "row 6, creatinine-clearance: the entities give another value" in said
    if more == ["--json"]:
        rows_said = json.loads(streams.out)["disagreements"]
        assert [row["row"] for row in rows_said] == [1, 2, 3, 4, 5, 6]
        assert all(row.keys() == {"row", "calculator", "computable", "reason"} for row in rows_said)
    copy = Path("corrected.csv")
    assert copy.stat().st_mode & 0o777 == 0o600 and "7012" in copy.read_text(encoding="utf-8")
