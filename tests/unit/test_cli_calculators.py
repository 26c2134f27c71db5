"""`ehrmind calc`, `ehrmind data audit`, `ehrmind data synthetic medcalc`: what they print, write
and refuse.
"""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest

from ehrmind.calculators import CALCULATORS
from ehrmind.cli import main
from ehrmind.data import load_cases
from ehrmind.data.medcalc import read_medcalc

COLUMNS = (
    "Row Number", "Calculator ID", "Calculator Name", "Category", "Output Type", "Note ID", "Note Type", "Patient Note", "Question",
    "Relevant Entities", "Ground Truth Answer", "Lower Limit", "Upper Limit", "Ground Truth Explanation",
)  # fmt: skip
CURB = "CURB-65 Score for Pneumonia Severity"
VITALS = (
    "'Systolic Blood Pressure': [80.0, 'mm hg'], 'Diastolic Blood Pressure': [50.0, 'mm hg'], "
    "'Blood Urea Nitrogen (BUN)': [30.0, 'mg/dL'], 'respiratory rate': [16.0, 'breaths per minute']"
)
GCS = (
    "{'Best eye response': 'eyes open spontaneously', 'Best verbal response': 'confused', 'Best motor response': 'obeys"
    " commands'}"
)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Five synthetic rows: right, wrong in a way of the release's, wrong in no known way, without
    what it takes, and an abstention."""
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row, number, name, category, entities, answer in (
            (1, 45, CURB, "risk", f"{{'age': [70, 'years'], {VITALS}}}", "3"),
            (2, 21, "Glasgow Coma Score (GCS)", "severity", GCS, "18"),
            (3, 45, CURB, "risk", f"{{'age': [40, 'years'], {VITALS}}}", "5"),
            (4, 45, CURB, "risk", "{'age': [40, 'years']}", "5"),
            (5, 45, CURB, "risk", f"{{'age': [40, 'years'], {VITALS}}}", "N/A"),
        ):
            writer.writerow([row, number, name, category, "integer", f"n{row}", "Template", f"Made-up note {row}.", "What is the score?",
                             entities, answer, answer, answer, "as stored"])  # fmt: skip
    return path


def test_calc_list_names_all_55(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "calc", "list")
    assert code == 0
    assert len(out.splitlines()) == 55
    assert all(calculator.slug in out for calculator in CALCULATORS.values())


def test_calc_show_is_a_card_with_inputs_formula_citation_and_deviations(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "calc", "show", "ckd-epi-gfr")
    assert code == 0
    for said in (
        "142 * (creatinine / A)^B",
        "Inker LA",
        "creatinine: 0.05 to 60 mg/dL (required)",
        "medcalc: A is 0.7",
    ):
        assert said in out


def test_calc_prints_value_steps_and_citation(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "calc", "ckd-epi-gfr", "sex=female", "age=87", "creatinine=124 umol/L")
    assert code == 0
    assert out.splitlines()[0] == "CKD-EPI Equations for Glomerular Filtration Rate: 36.3283 mL/min/1.73 m^2"
    assert "1. creatinine in mg/dL = 124 * 0.011312 = 1.4027 mg/dL" in out
    assert "N Engl J Med" in out


def test_the_readmes_example_is_what_calc_prints(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    block = (repository / "README.md").read_text(encoding="utf-8").split("$ ehrmind calc ", 1)[1].split("```", 1)[0]
    command, *shown = block.strip().splitlines()
    _, out, _ = run(capsys, "calc", *shlex.split(command))
    for line, printed in zip(shown, out.splitlines(), strict=True):
        assert printed.startswith(line.removesuffix(" …"))


def test_calc_prints_json_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "calc", "69", "last_period=2024-02-14", "today=2024-05-23", "--json")
    found = json.loads(out)
    assert (code, found["value"], found["calculator"]) == (0, [14, 1], "estimated-gestational-age")


def test_calc_says_what_it_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "calc", "feverpain", "purulent_tonsils=yes")
    assert "assumed: fever in the past 24 hours: not mentioned, so taken as absent" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["horoscope"], "'horoscope' is not one of MedCalc-Bench's 55 calculators"),
        (["show"], "name one calculator"),
        (["6", "weight=70 kg"], "needs height"),
        (["6", "weight"], "'weight' is not an input; write input=value"),
        (["6", "weight=70 kg", "weight=71 kg", "height=1.7 m"], "weight is given twice"),
        (["6", "weight=70", "height=170 cm"], "weight: give the unit"),
        (["6", "weight=70 cm", "height=170 cm"], "weight: 'cm' does not convert to kg"),
        (["6", "weigth=70 kg", "height=170 cm"], "did you mean weight?"),
    ],
)
def test_what_calc_cannot_work_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = run(capsys, "calc", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_audit_counts_by_calculator_and_gives_every_disagreement_a_reason(
    capsys: pytest.CaptureFixture[str], rows: Path, tmp_path: Path
) -> None:
    code, out, _ = run(capsys, "data", "audit", rows, "--out", tmp_path / "corrected.csv", "--json")
    found = json.loads(out)
    assert (code, found["rows"], found["agree"], found["not_computable"]) == (0, 4, 1, 1)
    assert found["by_calculator"]["curb-65"] == {"agree": 1, "rows": 3}
    reasons = {row["row"]: row["reason"] for row in found["disagreements"]}
    assert reasons[2] == "MedCalc-Bench v1.0: the verbal response is counted twice"
    assert "the stored answer follows from none" in reasons[3]
    assert reasons[4].startswith("not computable: curb-65 needs urea_nitrogen")
    assert found["left_out"] == {"no answer (N/A)": 1} or sum(found["left_out"].values()) == 1


def test_audit_under_the_releases_convention_agrees_with_its_bug(
    capsys: pytest.CaptureFixture[str], rows: Path, tmp_path: Path
) -> None:
    _, out, _ = run(capsys, "data", "audit", rows, "--convention", "medcalc", "--out", tmp_path / "c.csv")
    assert out.startswith("2 of 4 labels agree with the medcalc convention")


def test_the_corrected_copy_is_a_medcalc_file_that_agrees(
    capsys: pytest.CaptureFixture[str], rows: Path, tmp_path: Path
) -> None:
    corrected = tmp_path / "corrected.csv"
    run(capsys, "data", "audit", rows, "--out", corrected)
    with corrected.open(newline="", encoding="utf-8") as file:
        table = {row["Row Number"]: row for row in csv.DictReader(file)}
    assert [table[row]["Ground Truth Answer"] for row in "12345"] == ["3", "14", "2", "5", "N/A"]
    assert table["1"]["Ground Truth Explanation"] == "as stored"
    assert "So the answer is 14 points." in table["2"]["Ground Truth Explanation"]
    assert table["2"]["Audit"].startswith("was 18: ")
    assert (corrected.stat().st_mode & 0o777) == 0o600
    cases, _ = read_medcalc([corrected], split="held_out")
    assert {case.provenance["row"]: case.truth["value"] for case in cases} == {1: 3, 2: 14, 3: 2, 4: 5}
    assert rows.read_text().count("as stored") == 5


def test_a_file_without_entities_cannot_be_audited(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("Unique ID,Calculator Name,Question,Patient Note,Ground Truth Answer,Lower Limit,Upper Limit\n"
                    f"1,{CURB},How?,A note.,3,3,3\n")  # fmt: skip
    code, _, err = run(capsys, "data", "audit", bare)
    assert code == 2
    assert "no column 'Relevant Entities'" in err


def test_synthetic_cases_are_written_and_proven(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "cases.parquet"
    code, said, _ = run(
        capsys, "data", "synthetic", "medcalc", "--n", "110", "--seed", "7", "--out", out, "--split", "held_out"
    )
    assert code == 0
    assert "generated 110 cases of 55 calculators" in said
    assert {case.split for case in load_cases(out)} == {"held_out"}
    assert run(capsys, "check", out)[0] == 0


def test_synthetic_cases_of_some_calculators_in_a_manner(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "cases.parquet"
    options = [
        "--calculator",
        "sofa",
        "--calculator",
        "28",
        "--difficulty",
        "hard",
        "--manner",
        "result_table",
        "--style",
        "prose",
    ]
    assert run(capsys, "data", "synthetic", "medcalc", "--n", "10", "--out", out, *options)[0] == 0
    cases = load_cases(out)
    assert {case.task for case in cases} == {"sofa", "apache-ii"}
    assert all("| test |" in case.fields["note"] for case in cases)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--n", "0"], "--n"),
        (["--n", "3", "--calculator", "horoscope"], "not one of MedCalc-Bench's 55"),
        (["--n", "3", "--manner", "sonnet"], "'sonnet' is not a manner"),
        (["--n", "3", "--style", "sonnet"], "'sonnet' is not a style"),
    ],
)
def test_bad_wishes_for_cases_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], said: str
) -> None:
    code, _, err = run(capsys, "data", "synthetic", "medcalc", "--out", tmp_path / "x.parquet", *options)
    assert code == 2
    assert said in err
    assert not (tmp_path / "x.parquet").exists()
