"""Patients with trials, and coded histories: nothing that is said of a file that is wrong quotes it
(see `test_failures_quote_nothing`).
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from tests.canaries import ID, TEXT, WORD, as_csv, spoilt_csv, spoilt_lines, spoilt_parquet, spoilt_xml, spoilt_zip
from tests.meds_data import write_meds
from tests.watched import Watched

RECORD: dict[str, object] = {"_id": "NCT00000001", "brief_title": f"A trial, {TEXT}", "brief_summary": TEXT, "diseases_list": [TEXT],
          "drugs_list": [ID], "inclusion_criteria": f"Inclusion Criteria:\n - {TEXT}", "exclusion_criteria": f" - {ID}",
          "minimum_age": "18 Years", "maximum_age": "N/A", "gender": "All"}  # fmt: skip
STUDY = f"""<clinical_study><id_info><nct_id>NCT00000001</nct_id></id_info><brief_title>{TEXT}</brief_title>
<brief_summary><textblock>{TEXT}</textblock></brief_summary><condition>{TEXT}</condition>
<eligibility><criteria><textblock>Inclusion Criteria: - {TEXT}</textblock></criteria><gender>All</gender></eligibility></clinical_study>"""
API = {"studies": [{"protocolSection": {"identificationModule": {"nctId": "NCT00000001", "briefTitle": TEXT},
       "eligibilityModule": {"eligibilityCriteria": TEXT, "sex": "ALL"}, "conditionsModule": {"conditions": [TEXT]}}}]}  # fmt: skip


def test_trials_topics_and_judgments_are_not_quoted(watched: Watched) -> None:
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
            folder / name
            for name in (
                "queries.jsonl",
                "qrels.txt",
                "records.jsonl",
                "t.xml",
                "r.xml",
                "r.json",
                "r.zip",
                "r.parquet",
            )
        ]
        watched.run(
            how,
            "data",
            "trials",
            "--topics",
            topics,
            "--qrels",
            qrels,
            "--trials",
            records,
            "--out",
            "o.parquet",
            given=given,
        )
        watched.run(
            how,
            "data",
            "new",
            "trials",
            "--topics",
            topics,
            "--pairs",
            qrels,
            "--trials",
            records,
            "--out",
            "o.parquet",
            given=given,
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


def test_histories_of_meds_and_their_labels_are_not_quoted(watched: Watched) -> None:
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
    rows = [
        ["subject_id", "prediction_time", "boolean_value"],
        ["1", "2020-04-10 00:00", "yes"],
        ["2", "2020-04-10 00:00", "no"],
    ]
    for how, content in watched.drawn(spoilt_csv(rows)):
        file.write_bytes(content)
        both(how)
    assert {0, 2} == set(watched.codes)


EVENTS = [["start", "end", "code", "value", "unit", "omop_table", "patient_id"],
          *([start, "", code, TEXT, ID, "measurement", str(patient)] for patient in (1, 2, 3)
            for start, code in (("1960-05-01 00:00:00", "SNOMED/3950001"), ("2020-01-05 10:00:00", ID)))]  # fmt: skip


def test_the_files_of_ehrshot_are_not_quoted(watched: Watched) -> None:
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
            watched.run(
                f"{path.name}: {how}",
                "data",
                "ehr",
                "--ehrshot",
                data,
                "--task",
                "guo_los",
                "--out",
                "o.parquet",
                given=[data],
            )
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


def test_tables_of_omop_are_not_quoted(watched: Watched) -> None:
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
