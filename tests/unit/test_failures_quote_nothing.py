"""Whatever is wrong with a file of records, and whichever command reads it: nothing that is said quotes a cell, a name or a header.

Every text in these files is a canary, ids and headers included. A command may succeed or refuse; it never ends as a fault, and no canary
reaches the terminal, a log, a warning or a file that others may read.
"""

from __future__ import annotations

import json
import logging
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from ehrmind.sources import save_cases
from ehrmind.sources.made_up import made_up_cases
from tests.canaries import (
    ID,
    TEXT,
    WORD,
    as_csv,
    holds,
    open_files_with_a_canary,
    spoilt_csv,
    spoilt_lines,
    spoilt_parquet,
    spoilt_xml,
    spoilt_zip,
)
from tests.meds_data import write_meds
from tests.new_rows import ehrmind

NUMBER = 918273


class Watched:
    """Runs commands in a folder and keeps what they say."""

    def __init__(self, folder: Path, share: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self.share, self.capsys, self.caplog = folder, share, capsys, caplog
        self.codes: list[int] = []

    def drawn(self, ways: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        """The first way and one of `share` others, the same ones every time."""
        for place, (how, content) in enumerate(ways):
            if place == 0 or (zlib.crc32(how.encode()) + place) % self.share == 0:
                yield how, content

    def run(self, what: str, *arguments: object, given: Sequence[Path] = ()) -> None:
        self.caplog.clear()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            code = ehrmind(*arguments)
        streams = self.capsys.readouterr()
        logged = "\n".join(f"{record.getMessage()} {record.exc_info}" for record in self.caplog.records)
        said = "\n".join([streams.out, streams.err, logged, *(str(one.message) for one in warned)])
        assert not holds(said), f"{what}: {' '.join(map(str, arguments))}\n{said}"
        assert "fault of ehrmind" not in streams.err and "Traceback" not in streams.err, f"{what}: {streams.err}"
        assert code in (0, 2), f"{what}: {streams.err}"
        if code == 2:
            assert streams.err.count("\n") == 1 and len(streams.err) < 1500, streams.err
        assert not open_files_with_a_canary(self.folder, given), what
        self.codes.append(code)


@pytest.fixture(params=[pytest.param(6, id="a sixth"), pytest.param(1, id="all", marks=pytest.mark.long)])
def watched(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Watched]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EHRMIND_TRACEBACK", raising=False)
    with caplog.at_level(logging.INFO):
        yield Watched(tmp_path, request.param, capsys, caplog)


def test_the_canaries_would_be_seen(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    (watched.folder / "open.txt").write_text(f"so {TEXT}")
    assert open_files_with_a_canary(watched.folder, []) == ["open.txt"]
    with pytest.raises(AssertionError):
        watched.run("a name that is given", "data", "medcalc", watched.folder / f"{WORD}.csv", "--out", "o.parquet")


MEDCALC = [
    ["Row Number", "Calculator ID", "Calculator Name", "Category", "Note ID", "Patient Note", "Question", "Relevant Entities",
     "Ground Truth Answer", "Lower Limit", "Upper Limit", "Ground Truth Explanation", "note_in_test"],
    *([str(row), "2", "Creatinine Clearance (Cockcroft-Gault Equation)", "lab test", ID, f"{TEXT} {row}", f"How much, {TEXT}?",
       str({"sex": TEXT, "age": [40, "years"], "weight": [NUMBER, ID], "height": [170, "cm"], "creatinine": [1, "mg/dL"], ID: TEXT}),
       "38.5", "36.5", "40.5", TEXT, "False"] for row in (1, 2, 3)),
]  # fmt: skip


def test_medcalc_rows(watched: Watched) -> None:
    file = watched.folder / "rows.csv"
    for how, content in watched.drawn(spoilt_csv(MEDCALC)):
        file.write_bytes(content)
        watched.run(how, "data", "medcalc", file, "--out", "o.parquet", given=[file])
        watched.run(how, "data", "new", "medcalc", file, "--out", "o.parquet", given=[file])
        watched.run(how, "data", "audit", file, "--json", "--out", "corrected.csv", given=[file])
    assert {0, 2} == set(watched.codes)


TABLE = [["question", "answer", "note", "patient", "id", "rationale", "split"],
         *([f"Is it so, {TEXT}?", "yes" if row % 2 else "no", f"{TEXT} {row}", f"{ID}{row}", f"{ID}-{row}", TEXT, "train"]
           for row in range(4))]  # fmt: skip
LABELS = ("--kind", "label", "--label", "no", "--label", "yes")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(LABELS, "yes"), (("--kind", "number"), "3.5"), (("--kind", "integer"), "3"), (("--kind", "date"), "2020-01-31")],
    ids=["label", "number", "integer", "date"],
)
def test_tables_in_every_form(kind: Sequence[str], answer: str, watched: Watched) -> None:
    rows = [TABLE[0], *([*row[:1], answer, *row[2:]] for row in TABLE[1:])]
    columns = ("--record", "note", "--group", "patient")
    file = watched.folder / "rows.csv"
    for how, content in watched.drawn(spoilt_csv(rows)):
        file.write_bytes(content)
        watched.run(how, "data", "table", file, *kind, *columns, "--rationale", "rationale", "--out", "o.parquet", given=[file])
        watched.run(how, "data", "new", "table", file, *kind, *columns, "--id", "id", "--out", "o.parquet", given=[file])
    if kind is not LABELS:
        return
    lines: list[dict[str, object]] = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    forms = {"rows.parquet": spoilt_parquet(pl.DataFrame(lines)), "rows.jsonl": spoilt_lines(lines)}
    for name, ways in forms.items():
        file = watched.folder / name
        for how, content in watched.drawn(ways):
            file.write_bytes(content)
            watched.run(
                how,
                "data",
                "table",
                file,
                *kind,
                *columns,
                "--out",
                "o.parquet",
                given=[watched.folder / "rows.csv", *(watched.folder / other for other in forms)],
            )
    assert {0, 2} == set(watched.codes)


def test_workbooks(watched: Watched) -> None:
    from openpyxl import Workbook

    for at in range(0, len(TABLE[0]), 3 if watched.share > 1 else 1):
        book = Workbook()
        sheet = book.active
        assert sheet is not None
        sheet.title = TEXT[:20]
        for number, row in enumerate(TABLE):
            sheet.append([*row[:at], TEXT if number else f"{ID}{at}", *row[at + 1 :]])
        book.create_sheet(ID)["A1"] = TEXT
        book.save(watched.folder / "two.xlsx")
        book.remove(book[ID])
        book.save(watched.folder / "one.xlsx")
        sheet["B2"] = f'="{TEXT}"'
        book.save(watched.folder / "formula.xlsx")
        sheet.merge_cells("A2:B2")
        book.save(watched.folder / "merged.xlsx")
        whole = (watched.folder / "one.xlsx").read_bytes()
        (watched.folder / "cut.xlsx").write_bytes(whole[:-200])
        (watched.folder / "text.xlsx").write_bytes(TEXT.encode())
        books = [watched.folder / f"{name}.xlsx" for name in ("one", "two", "formula", "merged", "cut", "text")]
        for file in books:
            watched.run(f"{file.name} {at}", "data", "table", file, *LABELS, "--record", "note", "--out", "o.parquet", given=books)


RECORD: dict[str, object] = {"_id": "NCT00000001", "brief_title": f"A trial, {TEXT}", "brief_summary": TEXT, "diseases_list": [TEXT],
          "drugs_list": [ID], "inclusion_criteria": f"Inclusion Criteria:\n - {TEXT}", "exclusion_criteria": f" - {ID}",
          "minimum_age": "18 Years", "maximum_age": "N/A", "gender": "All"}  # fmt: skip
STUDY = f"""<clinical_study><id_info><nct_id>NCT00000001</nct_id></id_info><brief_title>{TEXT}</brief_title>
<brief_summary><textblock>{TEXT}</textblock></brief_summary><condition>{TEXT}</condition>
<eligibility><criteria><textblock>Inclusion Criteria: - {TEXT}</textblock></criteria><gender>All</gender></eligibility></clinical_study>"""
API = {"studies": [{"protocolSection": {"identificationModule": {"nctId": "NCT00000001", "briefTitle": TEXT},
       "eligibilityModule": {"eligibilityCriteria": TEXT, "sex": "ALL"}, "conditionsModule": {"conditions": [TEXT]}}}]}  # fmt: skip


def test_trials_topics_and_judgments(watched: Watched) -> None:
    folder = watched.folder
    topics, qrels, records = folder / "queries.jsonl", folder / "qrels.txt", folder / "records.jsonl"
    patients: list[dict[str, object]] = [{"_id": f"{ID}-{row}", "text": f"{TEXT} {row}"} for row in range(3)]
    judged = "".join(f"{ID}-{row} 0 NCT00000001 {row}\n" for row in range(3))

    def whole() -> None:
        topics.write_text("".join(json.dumps(patient) + "\n" for patient in patients))
        qrels.write_text(judged)
        records.write_text(json.dumps(RECORD) + "\n")

    def both(how: str, topics: Path = topics, records: Path = records, qrels: Path = qrels) -> None:
        given = [
            folder / name for name in ("queries.jsonl", "qrels.txt", "records.jsonl", "t.xml", "r.xml", "r.json", "r.zip", "r.parquet")
        ]
        watched.run(how, "data", "trials", "--topics", topics, "--qrels", qrels, "--trials", records, "--out", "o.parquet", given=given)
        watched.run(
            how, "data", "new", "trials", "--topics", topics, "--pairs", qrels, "--trials", records, "--out", "o.parquet", given=given
        )

    whole()
    both("whole")
    assert watched.codes == [0, 0]
    for how, content in watched.drawn(spoilt_lines(patients)):
        topics.write_bytes(content)
        both(how)
    xml = "".join(f"<topic number='{row}'>{TEXT} {row}</topic>" for row in range(3))
    for how, content in watched.drawn(spoilt_xml(f"<topics task='{ID}'>{xml}</topics>".encode())):
        (folder / "t.xml").write_bytes(content)
        both(how, topics=folder / "t.xml")
    whole()
    for how, content in watched.drawn(spoilt_lines([RECORD])):
        records.write_bytes(content)
        both(how)
    whole()
    for line in (f"{ID} 0 NCT00000001 1", f"{ID}-1 0 {ID} 1", f"{ID}-1 0 NCT00000001 {ID}", TEXT, f"{ID}-1 0 NCT00000001 2 {ID}",
                 f"{ID} {ID} score", f"query-id corpus-id score\n{TEXT}", f"{ID}-1 0 NCT00000001 0\n{ID}-1 0 nct00000001 2"):  # fmt: skip
        qrels.write_text(judged + line + "\n" if "score" not in line else line + "\n")
        both(line.replace(WORD, "…"))
    whole()
    for name, ways in {
        "r.xml": spoilt_xml(STUDY.encode()),
        "r.zip": spoilt_zip({"NCT00000001.xml": STUDY.encode(), "b.json": json.dumps(API).encode()}, spoilt_xml),
        "r.parquet": spoilt_parquet(pl.DataFrame([{key: str(value) for key, value in RECORD.items()}])),
        "r.json": [(how, content) for how, content in spoilt_lines([API["studies"][0]])],  # type: ignore[list-item]
    }.items():
        for how, content in watched.drawn(ways):
            (folder / name).write_bytes(content)
            both(f"{name}: {how}", records=folder / name)


def test_histories_of_meds_and_their_labels(watched: Watched) -> None:
    meds = write_meds(watched.folder / "meds", 9)
    shard, splits = meds / "data" / "0" / "0.parquet", meds / "metadata" / "subject_splits.parquet"
    events = pl.read_parquet(shard).with_columns(pl.lit(TEXT).alias("text_value"), pl.lit(ID).alias("unit"))
    labels = pl.read_parquet(meds / "labels" / "high_potassium" / "labels.parquet")
    sound, known = shard.read_bytes(), splits.read_bytes()
    file = watched.folder / "labels.parquet"
    site = ("--split-by", "site", "--site-column", "unit", "--held-out-site", "nowhere")

    def both(how: str, *more: object) -> None:
        given = [meds, file, watched.folder / "labels.csv"]
        watched.run(how, "data", "ehr", "--meds", meds, "--labels", file, "--out", "o.parquet", *more, given=given)
        watched.run(how, "data", "new", "ehr", "--meds", meds, "--times", file, "--out", "o.parquet", given=given)

    for how, content in watched.drawn(spoilt_parquet(labels)):
        file.write_bytes(content)
        both(how)
    labels.write_parquet(file)
    for how, content in watched.drawn(spoilt_parquet(events)):
        shard.write_bytes(content)
        both(how)
        both(how, *site)
    shard.write_bytes(sound)
    for how, content in watched.drawn(spoilt_parquet(pl.read_parquet(splits))):
        splits.write_bytes(content)
        both(how)
    splits.write_bytes(known)
    file = watched.folder / "labels.csv"
    rows = [["subject_id", "prediction_time", "boolean_value"], ["1", "2020-04-10 00:00", "yes"], ["2", "2020-04-10 00:00", "no"]]
    for how, content in watched.drawn(spoilt_csv(rows)):
        file.write_bytes(content)
        both(how)
    assert {0, 2} == set(watched.codes)


EVENTS = [["start", "end", "code", "value", "unit", "omop_table", "patient_id"],
          *([start, "", code, TEXT, ID, "measurement", str(patient)] for patient in (1, 2, 3)
            for start, code in (("1960-05-01 00:00:00", "SNOMED/3950001"), ("2020-01-05 10:00:00", ID)))]  # fmt: skip


def test_the_files_of_ehrshot(watched: Watched) -> None:
    data = watched.folder / "shot"
    files = {
        data / "ehrshot.csv": EVENTS,
        data / "benchmark" / "guo_los" / "labeled_patients.csv": [
            ["patient_id", "prediction_time", "label_type", "value"],
            *([str(row), "2020-01-05T23:59:00", "boolean", "True"] for row in (1, 2, 3)),
        ],
        data / "person_id_map.csv": [["split", "omop_person_id"], ["train", "1"], ["val", "2"], ["test", "3"]],
    }
    (data / "benchmark" / "guo_los").mkdir(parents=True)
    for path, rows in files.items():
        path.write_bytes(as_csv(rows))
    for path, rows in files.items():
        for how, content in watched.drawn(spoilt_csv(rows)):
            path.write_bytes(content)
            watched.run(f"{path.name}: {how}", "data", "ehr", "--ehrshot", data, "--task", "guo_los", "--out", "o.parquet", given=[data])
        path.write_bytes(as_csv(rows))
    assert {0, 2} == set(watched.codes)


OMOP = {
    "PERSON": [["person_id", "gender_concept_id", "year_of_birth", "month_of_birth", "day_of_birth", "race_concept_id",
                "race_source_value"],
               ["1", "8532", "1960", "5", "1", "0", TEXT], ["2", "8532", "1970", "", "", "0", ID]],
    "CONDITION_OCCURRENCE": [["person_id", "condition_concept_id", "condition_start_date", "visit_occurrence_id", "condition_source_value"],
                             ["1", "0", "2020-01-05", "7", TEXT], ["2", "0", "2020-01-06", "", ID]],
    "MEASUREMENT": [["person_id", "measurement_concept_id", "measurement_date", "value_as_number", "unit_source_value",
                     "value_source_value"],
                    ["1", "0", "2020-01-05", "5.6", ID, TEXT], ["2", "0", "2020-01-05", "60", ID, TEXT]],
    "CONCEPT": [["concept_id", "concept_name", "vocabulary_id", "concept_code"], ["8532", TEXT, "Gender", "F"]],
}  # fmt: skip


def test_tables_of_omop(watched: Watched) -> None:
    tables = watched.folder / "omop"
    tables.mkdir()
    for name, rows in OMOP.items():
        (tables / f"{name}.csv").write_bytes(as_csv(rows))
    for name, rows in OMOP.items():
        for at, (how, content) in enumerate(watched.drawn(spoilt_csv(rows))):
            (tables / f"{name}.csv").write_bytes(content)
            out = watched.folder / f"{name}{at}"
            watched.run(f"{name}: {how}", "data", "omop", tables, "--out", out, given=[tables, out])
        (tables / f"{name}.csv").write_bytes(as_csv(rows))
    assert {0, 2} == set(watched.codes)


def test_files_of_cases(watched: Watched) -> None:
    file = watched.folder / "cases.parquet"
    save_cases(made_up_cases(3, 1, "held_out", ["sirs"]), file)
    for how, content in watched.drawn(spoilt_parquet(pl.read_parquet(file))):
        file.write_bytes(content)
        for command in (
            ("check", file),
            ("predict", "nowhere", file, "--out", "p"),
            ("export", "trl", file, "--model", "nowhere", "--out", "x"),
        ):
            watched.run(f"{command[0]}: {how}", *command, given=[file])


@pytest.mark.parametrize(
    "text",
    [
        f"data: {{train: {{cases: [a]}}}}\nendpoints: {{far: {{url: 'http://localhost:8000/v1', model: m, api_key: {ID}}}}}\n",
        f"data: [\napi_key: {ID}\n",
        f"api_key: '{ID}\n",
        f"a: *{ID}\n",
        f"a: !{ID} b\n",
        f"endpoints:\n\tapi_key: {ID}\n",
        f"url: http://user:{ID}@host/v1\ndata: 3\n",
        f"model: {{tiny: {{hidden: {ID}}}}}\ndata: {{train: 3}}\n",
        f"a: %{ID}\n",
        f"a: @{ID}\n",
        f"api_key_env: {ID}: {ID}\n",
    ],
)
def test_recipes_with_a_key_in_them(text: str, watched: Watched) -> None:
    file = watched.folder / "recipe.yaml"
    file.write_text(text)
    for command in ("run", "pilot", "evaluate"):
        watched.run(text, command, file, "--out", "out", given=[file])
    watched.run("an endpoint's section", "predict", "m", "cases.parquet", "--endpoint", file, "--out", "p", given=[file])
    assert set(watched.codes) == {2}
