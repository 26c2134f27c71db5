"""Topics, judgments and records find each other however their ids are spelled, and not across
years; other files next to them are named.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.config import TrialFiles
from ehrmind.data.trec import read_trials
from ehrmind.data.trec.keys import topic_key, trial_key
from ehrmind.data.trec.qrels import read_qrels
from ehrmind.data.trec.records import read_records
from ehrmind.data.trec.topics import read_topics
from ehrmind.data.unanswered import trials_to_ask
from ehrmind.types import InputError

NCT = [f"NCT0000000{digit}" for digit in range(10)]


def study(number: str, title: str = "Walking", **more: Any) -> dict[str, Any]:
    eligibility = {"eligibilityCriteria": "Inclusion Criteria:\n\n* adults", "sex": "ALL", "minimumAge": "18 Years"}
    return {
        "protocolSection": {
            "identificationModule": {"nctId": number, "briefTitle": title, **more},
            "eligibilityModule": eligibility,
        }
    }


def xml(number: str, more: str = "") -> str:
    return f"<clinical_study><id_info><nct_id>{number}</nct_id>{more}</id_info><brief_title>Walking</brief_title></clinical_study>"


def collection(
    folder: Path, *, topics: str, qrels: str, names: tuple[str, str] = ("topics.xml", "qrels.txt"), **more: Any
) -> TrialFiles:
    folder.mkdir(exist_ok=True)
    for name, text in zip(names, (topics, qrels), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "studies.json").write_text(json.dumps({"studies": [study(number) for number in NCT[1:4]]}))
    return TrialFiles(topics=folder / names[0], qrels=folder / names[1], trials=[folder / "studies.json"], **more)


def topics_of(*ids: str, task: str = "") -> str:
    return (
        "<topics"
        f' task="{task}">{"".join(f"<topic number={name!r}>Patient {name} walks.</topic>" for name in ids)}</topics>'
    )


@given(
    number=st.integers(1, 99),
    year=st.sampled_from(["", "2021", "2022"]),
    prefix=st.sampled_from(["", "trec-", "trec", "TREC ", "topic-", "trec-ct "]),
    join=st.sampled_from(["", "-", "_", " "]),
    zeros=st.sampled_from(["", "0", "00"]),
    ending=st.sampled_from(["", ".0", ".", " "]),
)
def test_one_topic_has_one_key_however_it_is_spelled(
    number: int, year: str, prefix: str, join: str, zeros: str, ending: str
) -> None:
    written = f"{prefix}{year}{join if year else ''}{(zeros + str(number))[-3:]}{ending}"
    assert topic_key(written) == ("", year, str(number))


@given(
    st.sampled_from(
        [
            "NCT00000001",
            "nct00000001",
            " NCT 00000001",
            "NCT00000001.xml",
            "a/b/NCT00000001.xml.gz",
            "nct-00000001",
            "NCT00000001",
        ]
    )
)
def test_one_trial_has_one_key_however_it_is_spelled(written: str) -> None:
    assert trial_key(written) == NCT[1]


@pytest.mark.parametrize("other", ["", "1", "NCT1", "NCT000000011", "ISRCTN00000001"])
def test_what_is_no_number_of_a_trial_has_no_key(other: str) -> None:
    assert trial_key(other) == ""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("1", "01"), ("1", "1.0"), ("1.0", "1"), ("01", "trec-20211"), ("trec-20211", "1"), ("2021-1", "trec-20211")],
)
def test_topics_and_judgments_meet_in_two_spellings(tmp_path: Path, ours: str, theirs: str) -> None:
    files = collection(
        tmp_path / "c", topics=topics_of(ours, "2"), qrels=f"{theirs} 0 nct00000001 2\n2 0 NCT00000002.xml 0\n"
    )
    cases, _ = read_trials(files)
    assert [(case.fields["note"], case.provenance["trial"]) for case in cases] == [
        (f"Patient {ours} walks.", NCT[1]),
        ("Patient 2 walks.", NCT[2]),
    ]


@pytest.mark.parametrize(
    ("task", "names", "ids"),
    [
        ("", ("topics2021.xml", "qrels2022.txt"), ("1", "1")),
        ("2022 TREC Clinical Trials", ("topics.xml", "qrels2021.txt"), ("1", "1")),
        ("2022 TREC Clinical Trials", ("topics2021.xml", "qrels2021.txt"), ("1", "1")),
        ("2021 TREC Clinical Trials", ("topics.xml", "qrels.txt"), ("1", "trec-20221")),
        ("", ("topics.xml", "qrels.txt"), ("trec-20211", "trec-20221")),
        ("", ("topics2021.xml", "qrels.txt"), ("1", "2022-1")),
    ],
)
def test_files_of_two_years_are_refused_unless_the_user_says_so(
    tmp_path: Path, task: str, names: tuple[str, str], ids: tuple[str, str]
) -> None:
    given_files = {"topics": topics_of(ids[0], task=task), "qrels": f"{ids[1]} 0 {NCT[1]} 2\n", "names": names}
    with pytest.raises(InputError, match=r"20(21|22).*20(21|22).*--any-year \(in a recipe `any_year: true`\)"):
        read_trials(collection(tmp_path / "c", **given_files))
    with pytest.raises(InputError, match="--any-year"):
        trials_to_ask(tmp_path / "c" / names[0], [tmp_path / "c" / "studies.json"], tmp_path / "c" / names[1])
    assert len(read_trials(collection(tmp_path / "c", **given_files, any_year=True))[0]) == 1


def test_a_bare_number_that_two_years_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 1: its topic is 2 topics .* write the year"):
        read_trials(collection(tmp_path / "c", topics=topics_of("trec-20211", "trec-20221"), qrels=f"1 0 {NCT[1]} 2\n"))


def test_a_topic_given_under_two_spellings_of_its_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.xml").write_text(topics_of("1", "01"))
    with pytest.raises(InputError, match="topic 2: its id is that of another topic before it"):
        read_topics(tmp_path / "t.xml")


def test_one_patient_under_two_numbers_and_years_is_one_group(tmp_path: Path) -> None:
    first = collection(
        tmp_path / "a", topics='<topics><topic number="1">A man walks.</topic></topics>', qrels=f"1 0 {NCT[1]} 2\n"
    )
    second = collection(
        tmp_path / "b", topics='<topics><topic number="33">A man\n walks.</topic></topics>', qrels=f"33 0 {NCT[1]} 2\n"
    )
    assert read_trials(first)[0][0].group == read_trials(second)[0][0].group


@pytest.mark.parametrize(
    "text",
    [
        f"1 0 {NCT[1]} 2\n",
        f"1\t0\t{NCT[1]}\t2\n",
        f"\ufeff1 0 {NCT[1]} 2.0\r\n",
        f"1 {NCT[1]} 2\n",
        f"topic,trial,grade\n1,{NCT[1]},2\n",
        f"qid\titer\tdocno\trel\n1\t0\t{NCT[1]}\t2\n",
        f"score\tquery-id\tcorpus-id\n2\t1\t{NCT[1]}\n",
        "1 0 NCT 00000001 2\n",
    ],
)
def test_judgments_are_read_in_the_columns_that_people_have(tmp_path: Path, text: str) -> None:
    (tmp_path / "q").write_text(text, encoding="utf-8")
    assert [(j.topic, j.trial, j.label) for j in read_qrels(tmp_path / "q")[0]] == [("1", NCT[1], 2)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"1 0 {NCT[1]} -1\n", "row 1: the grade"),
        (f"1 0 {NCT[1]} 3\n", "row 1: the grade"),
        (f"1 0 {NCT[1]} 1.5\n", "row 1: the grade"),
        (f"1 0 {NCT[1]} 2 x\n", "row 1: 5 columns"),
        ("1 0 12345678 2\n", "row 1: the trial's number"),
        (f"1 0 {NCT[1]} 2\n01 0 nct00000001 1\n", "rows 1 and 2: two grades"),
        (f"query-id\tcorpus-id\tscore\tsplit\n1\t{NCT[1]}\t2\ttest\n", "header: column 4"),
        (f"query-id\tcorpus-id\n1\t{NCT[1]}\n", "header: no column of the grade"),
    ],
)
def test_judgments_with_no_reading_are_refused_with_their_row(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "q").write_text(text)
    with pytest.raises(InputError, match=says):
        read_qrels(tmp_path / "q")


def test_a_trial_is_found_under_a_number_it_once_had_and_two_grades_of_it_are_refused(tmp_path: Path) -> None:
    files = collection(tmp_path / "c", topics=topics_of("1"), qrels=f"1 0 {NCT[9]} 2\n1 0 {NCT[5]} 2\n")
    files.trials[0].write_text(json.dumps(study(NCT[5], nctIdAliases=[NCT[9]])))
    cases, counts = read_trials(files)
    assert [case.provenance["trial"] for case in cases] == [NCT[5]] and counts.notes["judgments given twice"] == 1
    assert counts.kept + sum(counts.left_out.values()) + counts.notes["judgments given twice"] == 2
    files.qrels.write_text(f"1 0 {NCT[9]} 2\n1 0 {NCT[5]} 0\n")
    with pytest.raises(InputError, match="rows 1 and 2: two grades"):
        read_trials(files)
    (tmp_path / "x.xml").write_text(xml(NCT[5], f"<nct_alias>{NCT[9]}</nct_alias>"))
    assert read_records([tmp_path / "x.xml"], {NCT[9]}).find(NCT[9]) is not None


def in_a_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / f"{NCT[1]}.XML").write_text(xml(NCT[1]))
    (folder / f"{NCT[2]}.xml.gz").write_bytes(gzip.compress(xml(NCT[2]).encode()))
    (folder / f"{NCT[3]}.json.gz").write_bytes(gzip.compress(json.dumps(study(NCT[3])).encode()))
    (folder / "more.jsonl").write_text(
        json.dumps({"nct_id": NCT[4], "criteria": "a\u2028b\x85c"}, ensure_ascii=False) + "\n"
    )
    pl.DataFrame({"nct_id": [NCT[5]], "criteria": ["a"]}).write_parquet(folder / "table.parquet")
    (folder / "readme.txt").write_text("about")
    (folder / "package.json").write_text('{"version": 1}')
    (folder / f"._{NCT[1]}.xml").write_bytes(b"\x00\x05")
    return folder


@pytest.mark.parametrize("kind", ["folder", "zip", "zip in a folder"])
def test_every_file_of_a_folder_and_of_an_archive_is_read_or_named(tmp_path: Path, kind: str) -> None:
    given_path = folder = in_a_folder(tmp_path / "records")
    if kind != "folder":
        given_path = tmp_path / "z"
        given_path.mkdir()
        with zipfile.ZipFile(given_path / "part1.zip", "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"NCT0000xxxx/{file.name}")
        given_path = given_path / "part1.zip" if kind == "zip" else given_path
    if kind == "folder":
        with zipfile.ZipFile(folder / "inner.zip", "w") as archive:
            archive.writestr("study", xml(NCT[6]))
            archive.writestr("study.xml", xml(NCT[6]))
    found = read_records([given_path], set(NCT))
    assert set(found.by_id) == set(NCT[1:7] if kind == "folder" else NCT[1:6])
    (note,) = [note for note in found.notes if note.startswith("files next to")]
    assert "readme.txt" in note or "…" in note
    assert found.notes[note] == (4 if kind == "folder" else 3)


def test_an_archive_in_an_archive_and_a_member_that_cannot_be_read_are_refused_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/inner.zip", b"PK")
    with pytest.raises(InputError, match=r"a.zip holds another archive, inner.zip; unpack it"):
        read_records([tmp_path / "a.zip"], set(NCT))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(f"{NCT[1]}.xml", xml(NCT[1]) + " " * 500)
    raw = bytearray((tmp_path / "b.zip").read_bytes())
    raw[60] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(raw)
    with pytest.raises(InputError, match=rf"b.zip, {NCT[1]}.xml: cannot be read from the archive"):
        read_records([tmp_path / "b.zip"], set(NCT))


def test_a_download_as_csv_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ctg-studies.csv").write_text("NCT Number,Study Title\n")
    with pytest.raises(InputError, match="no eligibility criteria; download JSON"):
        read_records([tmp_path / "ctg-studies.csv"], set(NCT))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "ctg-studies.csv").write_text("NCT Number,Study Title\n")
    with pytest.raises(
        InputError, match=r"holds no trial record; files next to the records that were not read: ctg-studies.csv"
    ):
        read_records([tmp_path / "d"], set(NCT))


def test_a_page_that_says_more_follow_is_named_until_the_last_one_is_there(tmp_path: Path) -> None:
    first, last = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text(json.dumps({"studies": [study(NCT[1])], "nextPageToken": "abc"}))
    last.write_text(json.dumps({"studies": [study(NCT[2])]}))
    assert any("the download is incomplete" in note for note in read_records([first], set(NCT)).notes)
    assert not read_records([first, last], set(NCT)).notes


def test_a_record_given_twice_with_other_content_is_counted_apart_and_named(tmp_path: Path) -> None:
    for name, title in (("a", "Walking"), ("b", "Walking"), ("c", "Running")):
        (tmp_path / f"{name}.json").write_text(json.dumps(study(NCT[1], title)))
    notes = read_records([tmp_path / f"{name}.json" for name in "abc"], set(NCT)).notes
    assert notes == {
        "trial records given twice, the first one kept": 2,
        f"of them with other content, such as {NCT[1]}": 1,
    }


@pytest.mark.parametrize(
    ("age", "shown"),
    [
        ("18 Years", "18 Years"),
        ("17 Years 364 days", "17 Years 364 days"),
        ("N/A", ""),
        ("n/a (No limit)", ""),
        ("None", ""),
        (None, ""),
    ],
)
def test_ages_stay_the_registrys_own_words_and_no_limit_is_none(tmp_path: Path, age: str | None, shown: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"nct_id": NCT[1], "criteria": "a", "minimum_age": age}))
    assert read_records([tmp_path / "a.jsonl"], set(NCT)).by_id[NCT[1]].minimum_age == shown


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"criteria": "a", "minimum_age": 18}, "column 'minimum_age': int where a text"),
        ({"brief_title": "t"}, "no column of criteria"),
    ],
)
def test_a_number_for_a_text_and_a_record_without_criteria_columns_are_refused(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"nct_id": NCT[1], **row}))
    with pytest.raises(InputError, match=rf"row 1.*{says}"):
        read_records([tmp_path / "a.jsonl"], set(NCT))


def test_tags_inside_a_record_end_lines_and_comparisons_stay(tmp_path: Path) -> None:
    text = "Inclusion Criteria:<br/>- Hb &lt; 9 or &amp;lt;= 7<p>Exclusion Criteria:</p>- dialysis"
    block = f"<eligibility><criteria><textblock>{text}</textblock></criteria></eligibility>"
    (tmp_path / "x.xml").write_text(xml(NCT[1]).replace("</clinical_study>", f"{block}</clinical_study>"))
    criteria = read_records([tmp_path / "x.xml"], set(NCT)).by_id[NCT[1]].criteria
    assert (criteria.inclusion, criteria.exclusion) == (("Hb < 9 or <= 7",), ("dialysis",))


def test_undivided_records_are_counted_by_why(tmp_path: Path) -> None:
    files = collection(tmp_path / "c", topics=topics_of("1"), qrels=f"1 0 {NCT[1]} 2\n1 0 {NCT[2]} 2\n1 0 {NCT[3]} 1\n")
    texts = ["adults", "Inclusion Criteria:\n* adults\n* dialysis is excluded", "Inclusion:\n* adults"]
    rows = [json.dumps({"nct_id": number, "criteria": text}) for number, text in zip(NCT[1:4], texts, strict=True)]
    (tmp_path / "r.jsonl").write_text("\n".join(rows))
    counts = read_trials(files.model_copy(update={"trials": [tmp_path / "r.jsonl"]}))[1]
    assert [count for note, count in counts.notes.items() if note.startswith("criteria kept whole")] == [1, 1]
    asked = trials_to_ask(files.topics, [tmp_path / "r.jsonl"])[1]
    assert [count for note, count in asked.notes.items() if note.startswith("criteria kept whole")] == [1, 1]
