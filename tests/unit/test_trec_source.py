"""TREC's files: topics, judgments, trial records, criteria; and what is said when one does not
fit."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import TrialFiles
from ehrmind.data.splits import check_leaks
from ehrmind.data.trec import LABELS, read_trials
from ehrmind.data.trec.criteria import Criteria, split_criteria
from ehrmind.data.trec.formats import Trial
from ehrmind.data.trec.qrels import read_qrels
from ehrmind.data.trec.records import read_records
from ehrmind.data.trec.topics import read_topics
from ehrmind.types import InputError

NCT = [f"NCT0000000{digit}" for digit in range(10)]
RECORD = """<?xml version="1.0" encoding="UTF-8"?>
<clinical_study>
  <id_info><nct_id>{nct}</nct_id></id_info>
  <brief_title>Walking and
    asthma</brief_title>
  <brief_summary><textblock>  Does walking help?  </textblock></brief_summary>
  <condition>Asthma</condition><condition>Wheeze</condition>
  <intervention><intervention_name>Walking</intervention_name></intervention>
  <eligibility>
    <criteria><textblock>
        Inclusion Criteria:

          -  asthma for a year
             or longer

          -  able to walk

        Exclusion Criteria:

          -  pregnancy
    </textblock></criteria>
    <gender>Female</gender><minimum_age>18 Years</minimum_age><maximum_age>N/A</maximum_age>
  </eligibility>
</clinical_study>
"""
SPLIT = Criteria(("asthma for a year or longer", "able to walk"), ("pregnancy",))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def topics_xml(folder: Path, n: int = 2) -> Path:
    topics = "".join(f'<topic number="{i}">\n Patient {i} wheezes.\n</topic>' for i in range(1, n + 1))
    return write(folder / "topics2021.xml", f'<topics task="2021 TREC Clinical Trials">{topics}</topics>')


def test_topics_are_read_from_xml_as_nist_numbers_them(tmp_path: Path) -> None:
    topics, file = read_topics(topics_xml(tmp_path))
    assert {name: topic.text for name, topic in topics.items()} == {
        "1": "Patient 1 wheezes.",
        "2": "Patient 2 wheezes.",
    }
    assert file.rows == 2


def test_a_template_of_fields_becomes_lines_and_an_empty_field_is_left_out(tmp_path: Path) -> None:
    fields = (
        '<field name="eye pressure">19 mm Hg</field><field name="visual field"></field><field name="age">67\n'
        " years</field>"
    )
    topics, _ = read_topics(
        write(tmp_path / "t.xml", f'<topics><topic number="1" template="glaucoma">{fields}</topic></topics>')
    )
    assert topics["1"].text == "glaucoma\neye pressure: 19 mm Hg\nage: 67 years"


def test_topics_are_read_from_queries_jsonl_gzipped_too(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"_id": "trec-20211", "text": "Wheezes.", "metadata": {}}\n\n'))
    assert read_topics(path)[0]["trec-20211"].text == "Wheezes."


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.xml", "<topics><topic number='1'>a</topic>", "line 1: not well-formed XML"),
        ("t.xml", "<topics><topic>a</topic></topics>", "topic 1: no 'number'"),
        ("t.xml", "<topics><topic number='1'> </topic></topics>", "topic 1: no text"),
        (
            "t.xml",
            "<topics><topic number='1'>a</topic><topic number='1'>b</topic></topics>",
            "topic 2: its id is that of another topic before it",
        ),
        ("t.xml", "<topics/>", "holds no topic"),
        ("t.jsonl", '{"_id": "1", "text": "a"}\n{"_id": "2"', "row 2: not valid JSON"),
        ("t.jsonl", '{"_id": "1"}', "row 1: a topic needs"),
        ("t.jsonl", "[1]", "row 1: a topic needs"),
        ("t.csv", "a,b", "ending that is not known"),
        ("t.xml", "", "is empty"),
    ],
)
def test_topics_that_do_not_fit_are_refused_by_name(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_topics(write(tmp_path / name, text))


BOMB = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><topics><topic number="1">&b;</topic></topics>'
EXTERNAL = '<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/hostname">]><topics><topic number="1">&a;</topic></topics>'


@pytest.mark.parametrize("text", [BOMB, EXTERNAL])
def test_a_bomb_of_entities_and_an_outside_reference_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="XML entities or external references"):
        read_topics(write(tmp_path / "t.xml", text))
    with pytest.raises(InputError, match="XML entities or external references"):
        read_records([write(tmp_path / f"{NCT[1]}.xml", text)], {NCT[1]})


def test_judgments_are_read_with_four_columns_and_with_a_header(tmp_path: Path) -> None:
    four, _, _ = read_qrels(write(tmp_path / "qrels.txt", f"1 0 {NCT[1]} 2\n1 0 {NCT[2]} 0\n"))
    header, _, _ = read_qrels(
        write(tmp_path / "test.tsv", f"query-id\tcorpus-id\tscore\n1\t{NCT[1]}\t2\n1\t{NCT[2]}\t0\n")
    )
    assert (
        [(j.topic, j.trial, j.label) for j in four]
        == [(j.topic, j.trial, j.label) for j in header]
        == [("1", NCT[1], 2), ("1", NCT[2], 0)]
    )


def test_a_judgment_given_twice_is_counted_and_two_grades_are_refused(tmp_path: Path) -> None:
    judgments, _, repeated = read_qrels(write(tmp_path / "a", f"1 0 {NCT[1]} 2\n1 0 {NCT[1]} 2\n"))
    assert len(judgments) == 1 and repeated == 1
    with pytest.raises(InputError, match="rows 1 and 3: two grades"):
        read_qrels(write(tmp_path / "b", f"1 0 {NCT[1]} 2\n2 0 {NCT[1]} 2\n1 0 {NCT[1]} 1\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [(f"1 0 {NCT[1]} 3", "row 1: the grade is not 0"), ("1 2", "row 1: 2 columns"), ("\n", "no judgment")],
)
def test_judgments_that_do_not_fit_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_qrels(write(tmp_path / "q", text))


def same_trial(tmp_path: Path, kind: str) -> Path:
    """The record of one trial in each of the forms that people hold."""
    xml = RECORD.format(nct=NCT[1])
    text = "Inclusion Criteria:\n\n* asthma for a year or longer\n* able to walk\n\nExclusion Criteria:\n\n* pregnancy"
    if kind == "xml":
        return write(tmp_path / f"{NCT[1]}.xml", xml)
    if kind == "folder":
        (tmp_path / "NCT0000xxxx").mkdir()
        write(tmp_path / "NCT0000xxxx" / f"{NCT[1]}.xml", xml)
        write(tmp_path / "NCT0000xxxx" / f"{NCT[9]}.xml", "never opened")
        return tmp_path
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "part1.zip", "w") as archive:
            archive.writestr(f"a/{NCT[1]}.xml", xml)
            archive.writestr(f"a/{NCT[9]}.xml", "never opened")
        return tmp_path / "part1.zip"
    if kind == "api":
        section = {
            "identificationModule": {"nctId": NCT[1], "briefTitle": "Walking and asthma"},
            "descriptionModule": {"briefSummary": "Does walking help?"},
            "conditionsModule": {"conditions": ["Asthma", "Wheeze"]},
            "armsInterventionsModule": {"interventions": [{"type": "OTHER", "name": "Walking"}]},
            "eligibilityModule": {"eligibilityCriteria": text, "sex": "Female", "minimumAge": "18 Years"},
        }
        return write(tmp_path / "page.json", json.dumps({"studies": [{"protocolSection": section}]}))
    row: dict[str, Any] = {"brief_title": "Walking and asthma", "brief_summary": "Does walking help?"}
    if kind == "jsonl":
        row |= {
            "_id": NCT[1],
            "diseases_list": ["Asthma", "Wheeze"],
            "drugs_list": ["Walking"],
            "exclusion_criteria": "- pregnancy",
        }
        row |= {"inclusion_criteria": "inclusion criteria: \n\n - asthma for a year or longer\n - able to walk"}
        row |= {"gender": "Female", "minimum_age": "18 Years", "maximum_age": None}
        return write(tmp_path / "corpus.jsonl", json.dumps(row))
    row |= {"nct_id": NCT[1], "conditions": ["Asthma", "Wheeze"], "interventions": ["Walking"], "criteria": text}
    row |= {"gender": "Female", "minimum_age": "18 Years", "maximum_age": "N/A"}
    pl.DataFrame([row]).write_parquet(tmp_path / "trials.parquet")
    return tmp_path / "trials.parquet"


@pytest.mark.parametrize("kind", ["xml", "folder", "zip", "api", "jsonl", "parquet"])
def test_a_trial_reads_the_same_in_every_form(tmp_path: Path, kind: str) -> None:
    found = read_records([same_trial(tmp_path, kind)], {NCT[1]})
    wanted = Trial(
        NCT[1],
        "Walking and asthma",
        "Does walking help?",
        ("Asthma", "Wheeze"),
        ("Walking",),
        "Female",
        "18 Years",
        "",
        SPLIT,
    )
    assert found.by_id == {NCT[1]: wanted}


def test_of_a_trial_given_twice_the_first_is_kept_and_it_is_counted(tmp_path: Path) -> None:
    first, second = (
        same_trial(tmp_path, "xml"),
        write(tmp_path / "x.xml", RECORD.format(nct=NCT[1]).replace("Walking and", "Running and")),
    )
    found = read_records([first, second], {NCT[1]})
    assert found.by_id[NCT[1]].title == "Walking and asthma" and found.repeated == 1


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.xml", "<clinical_study>", "not well-formed"),
        ("a.xml", "<other/>", "no <clinical_study>"),
        ("a.xml", RECORD.format(nct="12"), "not of the form NCT01234567"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "5", "no list of studies"),
        ("a.json", "[5]", "study 1: not a JSON object"),
        ("a.jsonl", '{"title": "x"}', "row 1: no NCT number"),
        ("a.parquet", "PAR1", "not a parquet file"),
        ("a.zip", "PK", "not a whole zip"),
        ("a.txt", "x", "ending that is not known"),
        ("a.jsonl", "\n", "no trial record"),
    ],
)
def test_records_that_do_not_fit_are_refused_by_name(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_records([write(tmp_path / name, text)], {NCT[1], "12"})


@pytest.mark.parametrize(
    ("text", "inclusion", "exclusion", "other"),
    [
        ("INCLUSION CRITERIA\n- a\n- b\n\nEXCLUSION CRITERIA\n- c", ("a", "b"), ("c",), ()),
        ("Key inclusion criteria for adults:\n1. a\n2. b\nMain Exclusion Criteria -\n3. c", ("for adults:", "a", "b"), ("c",), ()),
        ("Exclusion:\n\n- c\n\nInclusion:\n\n- a", ("a",), ("c",), ()),
        ("Everyone.\n\nInclusion Criteria:\n- a", ("a",), (), ("Everyone.",)),
        ("Inclusion Criteria (part A):\n- a\n\nExclusion:\n- c\n\nInclusion:\n- b", ("(part A):", "a", "b"), ("c",), ()),
        ("DISEASE: glioma\n\nPATIENTS: adult", (), (), ("DISEASE: glioma", "PATIENTS: adult")),
        ("Inclusion of women is wanted.\nExclusion is rare.", (), (), ("Inclusion of women is wanted. Exclusion is rare.",)),
        ("", (), (), ()),
    ],
)  # fmt: skip
def test_criteria_split_where_headings_allow_and_lose_nothing(
    text: str, inclusion: tuple[str, ...], exclusion: tuple[str, ...], other: tuple[str, ...]
) -> None:
    found = split_criteria(text)
    assert found == Criteria(inclusion, exclusion, other)
    assert found.split == bool(inclusion or exclusion)


def a_collection(folder: Path, patients: int = 10, trials: int = 9, **settings: Any) -> TrialFiles:
    """Every patient judged against every trial; NCT00000009 has a judgment and no record."""
    pairs = [(p, t) for p in range(1, patients + 1) for t in range(1, trials + 1)]
    qrels = write(folder / "qrels.txt", "".join(f"{p} 0 {NCT[t]} {(p + t) % 3}\n" for p, t in pairs))
    for number in range(1, 9):
        write(folder / f"{NCT[number]}.xml", RECORD.format(nct=NCT[number]))
    return TrialFiles(
        topics=topics_xml(folder, patients),
        qrels=qrels,
        trials=[folder / f"{NCT[n]}.xml" for n in range(1, 9)],
        **settings,
    )


def test_a_pair_without_its_trial_is_counted_and_not_invented(tmp_path: Path) -> None:
    cases, counts = read_trials(a_collection(tmp_path))
    assert len(cases) == counts.kept == 80 and counts.left_out == {"the trial's text is not in the files": 10}
    assert {case.provenance["trial"] for case in cases} == set(NCT[1:9])
    assert sum(sum(labels.values()) for labels in counts.by_split.values()) == 80


def test_a_label_is_the_grade_and_its_word_in_truth_and_counts(tmp_path: Path) -> None:
    cases, _ = read_trials(a_collection(tmp_path))
    for case in cases:
        wanted = (int(case.provenance["topic"]) + int(case.provenance["trial"][-1])) % 3
        assert case.truth == {"kind": "label", "value": wanted, "labels": ["not relevant", "excluded", "eligible"]}
    assert LABELS == ("not relevant", "excluded", "eligible")


def by_split(cases: list[Any]) -> dict[str, list[Any]]:
    return {name: [case for case in cases if case.split == name] for name in ("train", "tuning", "held_out")}


def test_no_patient_crosses_splits_by_patient(tmp_path: Path) -> None:
    splits = by_split(read_trials(a_collection(tmp_path))[0])
    check_leaks(**splits)
    patients = [{case.provenance["topic"] for case in cases} for cases in splits.values()]
    assert [len(names) for names in patients] == [7, 1, 2] and not patients[0] & (patients[1] | patients[2])


def test_split_by_pair_every_patient_is_seen_and_no_pair_twice(tmp_path: Path) -> None:
    splits = by_split(read_trials(a_collection(tmp_path, split_by="pair", shares=(0.5, 0.25, 0.25)))[0])
    check_leaks(**splits)
    assert all(
        {case.provenance["topic"] for case in cases} == {str(n) for n in range(1, 11)} for cases in splits.values()
    )
    assert [len(cases) for cases in splits.values()] == [40, 20, 20]


def test_balance_is_for_train_only_and_counted(tmp_path: Path) -> None:
    plain, _ = read_trials(a_collection(tmp_path, patients=8))
    cases, counts = read_trials(a_collection(tmp_path, patients=8, balance=1.0))
    times = [sum(case.truth["value"] == value for case in by_split(cases)["train"]) for value in range(3)]
    assert len(set(times)) == 1 and counts.left_out["train: more than balance allows"] == len(plain) - len(cases)
    assert [case.id for case in plain if case.split != "train"] == [case.id for case in cases if case.split != "train"]


def test_a_judgment_of_an_unknown_topic_is_refused_with_its_row(tmp_path: Path) -> None:
    files = a_collection(tmp_path)
    write(files.qrels, f"1 0 {NCT[1]} 2\n99 0 {NCT[1]} 2\n")
    with pytest.raises(InputError, match=r"qrels.txt, row 2: its topic is not in the topics file"):
        read_trials(files)


def test_ids_with_the_year_in_front_find_nists_numbers(tmp_path: Path) -> None:
    files = a_collection(tmp_path)
    write(files.qrels, f"query-id\tcorpus-id\tscore\ntrec-20212\t{NCT[1]}\t2\n")
    assert read_trials(files)[0][0].fields["note"] == "Patient 2 wheezes."


def test_no_record_for_any_pair_is_an_error(tmp_path: Path) -> None:
    files = a_collection(tmp_path)
    write(files.qrels, f"1 0 {NCT[9]} 2\n")
    with pytest.raises(InputError, match="None of the 1 pairs"):
        read_trials(files)
