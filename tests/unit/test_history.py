"""A coded history as text: days relative, tests folded, the newest first, within the budget,
nothing of the future.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators.units import convert
from ehrmind.config import EhrFiles, History
from ehrmind.data.ehr import read_ehr
from ehrmind.prompts import messages
from ehrmind.prompts.events import kind_of
from ehrmind.prompts.history import CHARACTERS_PER_TOKEN, history_digest
from ehrmind.prompts.records import with_histories
from ehrmind.prompts.reference_ranges import RANGES, limits
from ehrmind.types import Case, InputError
from tests.meds_data import write_meds


def cases_of(folder: Path, **settings: Any) -> list[Case]:
    return read_ehr(EhrFiles(meds=folder, labels=folder / "labels" / "high_potassium", **settings))[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_meds(tmp_path_factory.mktemp("meds"))


def test_a_history_reads_as_a_clinician_would_write_it(folder: Path) -> None:
    case = cases_of(folder)[0]
    (filled,), counts = with_histories([case], History())
    head, *days = filled.fields["history"].split("\n")
    newest, flag = (5.6, " high") if case.truth["value"] else (4.4, "")
    assert head in {f"{age} years old, {sex}" for age in range(18, 82) for sex in ("female", "male")}
    assert days == [
        "today: inpatient visit, no end known",
        f"1 day ago: potassium 4.1, {newest} mmol/L{flag} (39 days)",
        "100 days ago: asthma",
    ]
    assert (counts["findings_shown"], counts["findings_cut"]) == (3, 0)


def test_nothing_after_the_prediction_time_and_no_later_end_is_written(folder: Path) -> None:
    filled, _ = with_histories(cases_of(folder), History(trends=False))
    assert all(
        "acetaminophen" not in case.fields["history"] and "end" not in case.fields["history"].replace("no end", "")
        for case in filled
    )


def test_what_happens_at_the_prediction_time_is_left_out_on_request(folder: Path) -> None:
    (filled,), _ = with_histories(cases_of(folder)[:1], History(strictly_before=True))
    assert "today" not in filled.fields["history"]


def test_kinds_order_and_trends_are_the_recipes(folder: Path) -> None:
    case = cases_of(folder)[:1]
    (labs,), _ = with_histories(case, History(kinds=["labs"], newest_first=False, trends=False))
    days = [line.partition(":")[0] for line in labs.fields["history"].split("\n")[1:]]
    assert days == ["40 days ago", "1 day ago"] and "asthma" not in labs.fields["history"]


def test_the_budget_cuts_the_oldest_and_counts_it(folder: Path) -> None:
    (filled,), counts = with_histories(cases_of(folder)[:1], History(max_tokens=20, trends=False))
    body = filled.fields["history"].split("\n", 1)[1]
    assert body == "today: inpatient visit, no end known" and len(body) <= 20 * CHARACTERS_PER_TOKEN
    assert (counts["findings_shown"], counts["findings_cut"]) == (1, 3)
    (_,), counts = with_histories(cases_of(folder)[:1], History(max_events=2))
    assert counts["events_not_looked_at"] == 3  # of five dated ones, birth among them


def test_cases_come_back_in_their_order_whatever_the_shards(folder: Path) -> None:
    cases = cases_of(folder)
    filled, _ = with_histories(cases[::-1], History())
    assert [case.id for case in filled] == [case.id for case in cases[::-1]]
    assert [case.fields["history"] for case in filled] == [
        with_histories([case], History())[0][0].fields["history"] for case in cases[::-1]
    ]


def test_rendering_twice_gives_the_same_text(folder: Path) -> None:
    first, _ = with_histories(cases_of(folder), History())
    again, _ = with_histories(cases_of(folder), History())
    assert first == again


def test_the_digest_names_the_settings() -> None:
    assert history_digest(History()) == history_digest(History()) != history_digest(History(max_tokens=9))


def test_flags_are_the_recipes(folder: Path) -> None:
    filled, _ = with_histories(cases_of(folder), History(flags=False))
    assert not any("high" in case.fields["history"] for case in filled)


@pytest.mark.parametrize(
    ("code", "unit", "parents", "wanted"),
    [
        ("LOINC/2160-0", "mg/dL", {}, (0.5, 1.3)),
        ("LOINC//2160-0", "umol/L", {}, (44.2, 114.9)),
        ("LAB//50912//mg/dL", "mg/dL", {"LAB//50912//mg/dL": "LOINC/2160-0"}, (0.5, 1.3)),
        ("LOINC/777-3", "K/uL", {}, (150, 450)),
        ("LOINC/2093-3", "mg/dL", {}, (None, 200)),
        ("LOINC/2160-0", "kg", {}, (None, None)),
        ("LOINC/2160-0", None, {}, (None, None)),
        ("LOINC/0-0", "mg/dL", {}, (None, None)),
        ("SNOMED/2160-0", "mg/dL", {}, (None, None)),
        ("LOINC/4548-4", "%{HbA1c}", {}, (4.0, 5.6)),
        ("LOINC/4548-4", "% of total Hgb", {}, (4.0, 5.6)),
        ("LOINC/4548-4", "mmol/mol", {}, (20, 38)),
        ("LOINC/4548-4", "%{JDS}", {}, (None, None)),
        ("LOINC/4548-4", "mg/g", {}, (None, None)),
        ("LOINC/4544-3", "L/L", {}, (0.36, 0.51)),
        ("LOINC/4544-3", "mmol/mol", {}, (None, None)),
        ("LOINC/5902-2", "%", {}, (None, None)),
        ("LOINC/1742-6", "µkat/L", {}, (1 / 6, 2 / 3)),
        ("LOINC/19123-9", "mEq/L", {}, (1.317, 2.139)),
        ("LOINC/2777-1", "mmol/L", {}, (0.9686, 1.453)),
        ("LOINC/718-7", "G/L", {}, (120, 170)),
        ("LOINC/6690-2", "G/L", {}, (4, 11)),
        ("LOINC/6690-2", "M/uL", {}, (None, None)),
        ("LOINC/6690-2", "{cells}/uL", {}, (4000, 11000)),
    ],
)
def test_limits_are_found_by_loinc_number_and_come_in_the_results_own_unit(
    code: str, unit: str | None, parents: dict[str, str], wanted: tuple[float | None, float | None]
) -> None:
    for found, limit in zip(limits(code, unit, parents), wanted, strict=True):
        assert found is None if limit is None else found == pytest.approx(limit, rel=1e-3)


SPELLED = {
    "2160-0": "mg/dL mg/dl mg% mg/100mL umol/L µmol/L μmol/L mcmol/L umol.L-1",
    "2345-7": "mg/dL mmol/L mmol·L⁻¹ g/L",
    "6690-2": "10*9/L 10^9/L 10⁹/L x10E9/L G/L K/mcL K/uL thou/mm3 {cells}/uL cells/mm3 /cmm 10*3/uL",
    "4544-3": "% L/L {fraction}",
    "11557-6": "mm[Hg] mmHg kPa cm[H2O]",
    "1742-6": "U/L [iU]/L IU/L ukat/L µkat/L",
}


@given(
    st.sampled_from([(loinc, unit) for loinc, units in SPELLED.items() for unit in units.split()]), st.floats(0.3, 3)
)
def test_a_result_has_the_same_flag_in_every_unit_of_its_test(spelled: tuple[str, str], share: float) -> None:
    loinc, unit = spelled
    known = next(known for loincs, known in RANGES.items() if loinc in loincs)
    assert known.low is not None and known.high is not None
    value = known.low * share
    low, high = limits(f"LOINC/{loinc}", unit, {})
    there = convert(value, known.unit, unit, known.analyte)
    if min(abs(value / limit - 1) for limit in (known.low, known.high)) > 1e-6:
        assert low is not None and high is not None
        assert (there < low, there > high) == (value < known.low, value > known.high)


def test_results_in_a_unit_without_a_rule_get_no_flag_and_are_counted(tmp_path: Path) -> None:
    folder = write_meds(tmp_path)
    _, counts = with_histories(cases_of(folder), History(kinds=["labs"]))
    assert counts["findings_without_flag"] == 0
    for path in (folder / "data").rglob("*.parquet"):
        pl.read_parquet(path).with_columns(unit=pl.lit("mmol/mol")).write_parquet(path)
    filled, counts = with_histories(cases_of(folder), History(kinds=["labs"]))
    assert counts["findings_without_flag"] == counts["findings_shown"] == len(filled)
    assert not any("high" in case.fields["history"] or "low" in case.fields["history"] for case in filled)
    assert with_histories(cases_of(folder), History(kinds=["labs"], flags=False))[1]["findings_without_flag"] == 0


def test_hba1c_is_flagged_alike_in_per_cent_and_in_mmol_per_mol() -> None:
    for ifcc, flag in ((19, "low"), (20, ""), (38, ""), (39, "high"), (48, "high"), (120, "high")):
        for value, unit in ((ifcc, "mmol/mol"), (round(convert(ifcc, "mmol/mol", "%", "HbA1c"), 1), "%")):
            low, high = limits("LOINC/4548-4", unit, {})
            assert low is not None and high is not None
            assert ("high" if value > high else "low" if value < low else "") == flag, f"{value} {unit}"


def test_a_result_at_a_limit_is_neither_high_nor_low(tmp_path: Path) -> None:
    folder = write_meds(tmp_path)
    for path in (folder / "data").rglob("*.parquet"):
        events = pl.read_parquet(path)
        events.with_columns(
            pl.when(pl.col("numeric_value") > 4.2)
            .then(pl.lit(1.3))
            .otherwise(pl.lit(0.5))
            .cast(pl.Float32)
            .alias("numeric_value")
        ).with_columns(code=pl.col("code").replace("LOINC/2823-3", "LOINC/2160-0"), unit=pl.lit("mg/dL")).write_parquet(
            path
        )
    filled, _ = with_histories(cases_of(folder), History(kinds=["labs"]))
    assert all("LOINC/2160-0 0.5, 1.3 mg/dL (39 days)" in case.fields["history"] for case in filled)


def test_a_result_above_what_can_be_measured_keeps_its_sign(tmp_path: Path) -> None:
    folder = write_meds(tmp_path)
    for path in (folder / "data").rglob("*.parquet"):
        newest = pl.col("numeric_value") > 4.2
        pl.read_parquet(path).with_columns(pl.when(newest).then(pl.lit("> 4")).alias("text_value")).write_parquet(path)
    filled, _ = with_histories(cases_of(folder), History(kinds=["labs"], flags=False))
    assert {case.fields["history"].rpartition("potassium ")[2] for case in filled} == {
        "4.1, >5.6 mmol/L (39 days)",
        "4.1, >4.4 mmol/L (39 days)",
    }


def test_a_prompt_holds_history_and_question(folder: Path) -> None:
    (filled,), _ = with_histories(cases_of(folder, question="Was the potassium high?")[:1], History())
    text = messages(filled)[0].content
    assert filled.fields["history"] in text and "Was the potassium high? Answer with one of: no, yes." in text


def test_a_reference_without_its_history_is_not_asked(folder: Path) -> None:
    with pytest.raises(InputError, match="is a reference without its history"):
        messages(cases_of(folder)[0])


def test_a_data_set_that_changed_is_refused(tmp_path: Path) -> None:
    case = cases_of(write_meds(tmp_path / "a"))[0]
    (tmp_path / "a" / "data" / "0" / "0.parquet").write_bytes(
        (tmp_path / "a" / "data" / "1" / "0.parquet").read_bytes()
    )
    with pytest.raises(InputError, match="has changed since the cases were made"):
        with_histories([case], History())


def test_ages_are_whole_years_since_birth(tmp_path: Path) -> None:
    path = write_meds(tmp_path) / "data" / "1" / "0.parquet"
    events = pl.read_parquet(path)
    births = events.with_columns(
        pl.when(pl.col("code") == "MEDS_BIRTH").then(datetime(1980, 4, 11)).otherwise(pl.col("time")).alias("time")
    )
    births.write_parquet(path)
    (filled,), _ = with_histories(cases_of(tmp_path)[:1], History())  # seen on 10 April 2020
    assert filled.fields["history"].startswith("39 years old")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("SNOMED/22298006", "diagnoses"), ("DIAGNOSIS//ICD//9//496", "diagnoses"),
        ("ICD10PCS/0DTJ4ZZ", "procedures"), ("LOINC/718-7", "labs"),
        ("LAB//51222//g/dL", "labs"), ("RxNorm/161", "drugs"), ("MEDICATION//START//Heparin", "drugs"),
        ("Visit/IP", "visits"),
        ("HOSPITAL_ADMISSION//URGENT", "visits"),
        ("Blood Pressure Sitting", "vitals"),
        ("BMI (kg/m2)", "vitals"),
        ("Gender/F", "demographics"),
        ("MEDS_BIRTH", "demographics"), ("STANFORD_NOTE/x", "notes"), ("something else", "other"),
    ],
)  # fmt: skip
def test_codes_have_the_kind_of_their_vocabulary(code: str, kind: str) -> None:
    assert kind_of(code) == kind
