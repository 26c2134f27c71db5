"""Small files that grow are refused by a sentence, in bounded memory; ordinary ones of the same
forms are read. Bombs are made here.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehrmind.data import bounds, files, text_tables
from ehrmind.data.bounds import csv_batches, parquet_file, refuse_growth
from ehrmind.data.cases import load_cases
from ehrmind.data.ehr_labels import csv_table, label_table
from ehrmind.data.files import read_lines, read_table
from ehrmind.data.meds import open_meds, read_shard
from ehrmind.data.omop.convert import convert_omop
from ehrmind.data.trec.archives import from_file
from ehrmind.data.trec.qrels import read_qrels
from ehrmind.data.trec.topics import read_topics
from ehrmind.types import InputError

MIB = 1 << 20
NCT = "NCT10000010"
RECORD = f"<clinical_study><id_info><nct_id>{NCT}</nct_id></id_info><brief_title>{{}}</brief_title></clinical_study>"


def repeated(path: Path, rows: int, **columns: str) -> Path:
    """A parquet file of one row so many times: some kilobytes."""
    zeros = pa.array(np.zeros(rows, dtype=np.int32))
    table = pa.table({name: pa.DictionaryArray.from_arrays(zeros, [text]) for name, text in columns.items()})
    pq.write_table(table, path, compression="zstd", row_group_size=rows)
    return path


def peak_mib(code: str, *arguments: str) -> tuple[int, str]:
    """(peak memory of a process of its own that runs the code and has all that it imports, what it
    printed)."""
    # VmHWM is this program's own; `ru_maxrss` also has the memory of the process that started it.
    measured = (
        f"import sys\nfrom pathlib import Path\n{code}\nprint(next(line.split()[1] for line in"
        " Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    *said, peak = done.stdout.strip().splitlines() or ["0"]
    assert done.returncode == 0 and not done.stderr, done.stderr[-500:]
    return int(peak) >> 10, "\n".join(said)


REFUSED = """
from pathlib import Path
from typing import Any
from ehrmind.types import InputError
{imports}
try:
    {call}
    print("was read")
except InputError as error:
    print(error)
"""


def test_a_parquet_file_of_one_row_repeated_is_refused_by_its_footer_in_little_memory(tmp_path: Path) -> None:
    bomb = repeated(tmp_path / "bomb.parquet", 30_000_000, question="q" * 1000, answer="1")
    code = REFUSED.format(imports="from ehrmind.data.files import read_table", call="read_table(Path(sys.argv[1]))")
    peak, said = peak_mib(code, str(bomb))
    assert said.startswith(f"{bomb} announces 30,000,000 rows")
    assert peak < 1536


def test_a_zip_of_one_record_that_grows_is_refused_in_little_memory(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{NCT}.xml", "w", force_zip64=True) as member,
    ):
        member.write(RECORD.split("{}")[0].encode())
        for _ in range(300):
            member.write(b"x" * MIB)
        member.write(RECORD.split("{}")[1].encode())
    imports = "from ehrmind.data.trec.archives import from_file"
    peak, said = peak_mib(
        REFUSED.format(imports=imports, call=f'list(from_file(Path(sys.argv[1]), ["{NCT}"]))'), str(bomb)
    )
    assert said.startswith(f"{bomb}, {NCT}.xml grows to 200 times its size")
    assert peak < 1536


def test_zips_that_hold_themselves_links_passwords_or_members_over_each_other_are_refused(tmp_path: Path) -> None:
    record = RECORD.format("title").encode()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(f"{NCT}.xml", record)
    link = zipfile.ZipInfo(f"etc/{NCT}.xml")
    link.external_attr = 0o120777 << 16
    for name, member, content, said in (
        ("nested", "more.zip", inner.getvalue(), "holds another archive"),
        ("link", link, b"/etc/passwd", "not well-formed XML"),
        ("broken", f"{NCT}.xml", b"PK\x03\x04", "not well-formed XML"),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(member, content)
        with pytest.raises(InputError, match=said):
            list(from_file(tmp_path / f"{name}.zip", [NCT]))
    locked = bytearray(inner.getvalue())
    locked[6] |= 1
    locked[inner.getvalue().index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(locked))
    with pytest.raises(InputError, match="cannot be read from the archive"):
        list(from_file(tmp_path / "locked.zip", [NCT]))


@pytest.mark.parametrize(
    "read", [lambda path: list(from_file(path, [NCT])), lambda path: convert_omop(path, path.with_name("meds"))]
)
def test_members_that_lie_over_each_other_are_counted_together(tmp_path: Path, read: Callable[[Path], object]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("person.csv", b"x" * (60 * MIB))
    whole = buffer.getvalue()
    start, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    entry = whole[start:end]
    entries = b"".join(entry.replace(b"person.csv", f"p{n:05}.csv"[:10].ljust(10, "x").encode()) for n in range(50))
    count = (50).to_bytes(2, "little")
    tail = whole[end : end + 8] + count + count + len(entries).to_bytes(4, "little") + whole[end + 16 :]
    (tmp_path / "over.zip").write_bytes(whole[:start] + entries + tail)
    with pytest.raises(InputError, match=r"over\.zip grows to 200 times its size"):
        read(tmp_path / "over.zip")


def test_a_record_of_xml_that_has_no_end_is_refused_and_many_ordinary_ones_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ehrmind.data.trec.xml.MAX_RECORD", 1 << 18)
    (tmp_path / "one.xml").write_text(RECORD.format("word " * 100_000))
    with pytest.raises(InputError, match=r"one\.xml: a record of more than"):
        list(from_file(tmp_path / "one.xml", [NCT]))
    many = tmp_path / "many.xml"
    many.write_text(
        f"<studies>{''.join(RECORD.format('word ' * 5000).replace(NCT, f'NCT{n:08}') for n in range(1, 60))}</studies>"
    )
    assert many.stat().st_size > 4 << 18
    assert [found.id for found in from_file(many, [NCT])] == [f"NCT{n:08}" for n in range(1, 60)]  # type: ignore[union-attr]


def deep(of: str) -> str:
    return RECORD.replace("brief_title", "brief_summary").format(
        f"<textblock>{f'<{of}>' * 50_000}x{f'</{of}>' * 50_000}</textblock>"
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "laughs.xml",
            '<!DOCTYPE a [<!ENTITY a "aaa"><!ENTITY b "&a;&a;">]><clinical_study>&b;</clinical_study>',
            "entities",
        ),
        (
            "outside.xml",
            '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><clinical_study>&a;</clinical_study>',
            "entities",
        ),
        ("deep.json", "[" * 500_000, "deep in each other"),
        ("long.json", '{"nct_id": ' + "9" * 100_000 + "}", "not valid JSON"),
        ("deep.jsonl", "[" * 500_000, "row 1: lists and objects lie too deep"),
        ("long.jsonl", '{"nct_id": ' + "9" * 100_000 + "}", "row 1 is not valid JSON"),
    ],
)
def test_trial_records_that_are_deep_or_name_entities_are_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said) as refused:
        list(from_file(tmp_path / name, [NCT]))
    assert name in str(refused.value) and len(str(refused.value)) < 400


def test_elements_that_lie_deep_are_read_like_others(tmp_path: Path) -> None:
    (tmp_path / "deep.xml").write_text(deep("i"))
    (found,) = from_file(tmp_path / "deep.xml", [NCT])
    assert found.summary == "x"  # type: ignore[union-attr]


def packed(form: str, content: bytes) -> bytes:
    return (
        gzip.compress(content)
        if form == "gz"
        else bz2.compress(content)
        if form == "bz2"
        else pa.compress(content, "zstd", asbytes=True)
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits small enough for bombs that take no time."""
    monkeypatch.setattr(bounds, "FREE", MIB)


HEADER = b"question,answer\n"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.csv.gz", read_table),
        ("a.jsonl.gz", read_table),
        ("qrels.txt.gz", read_lines),
        ("topics.xml.gz", read_topics),
        ("topics.jsonl.gz", read_topics),
        ("qrels.tsv.gz", read_qrels),
        ("labels.csv.gz", csv_table),
        ("labels.csv.gz", label_table),
        ("ehrshot.csv.gz", lambda path: list(csv_batches(path, 10))),
        ("trials.xml.gz", lambda path: list(from_file(path, [NCT]))),
        ("trials.jsonl.gz", lambda path: list(from_file(path, [NCT]))),
    ],
)
def test_a_gzip_bomb_is_refused_by_every_reader(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    (tmp_path / name).write_bytes(gzip.compress(HEADER + b"x" * (8 * MIB)))
    with pytest.raises(InputError, match=rf"{name} grows to 200 times its size"):
        read(tmp_path / name)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("form", ["gz", "bz2", "zst"])
def test_a_packed_omop_table_that_grows_is_refused_and_an_ordinary_one_is_read(tmp_path: Path, form: str) -> None:
    person = b"person_id,gender_concept_id,year_of_birth,race_concept_id,ethnicity_concept_id\n"
    visits = b"visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime,visit_end_date\n"
    (tmp_path / "omop").mkdir()
    (tmp_path / "omop" / "visit_occurrence.csv").write_bytes(
        visits + b"1,1,9201,2020-01-01,2020-01-01 08:00:00,2020-01-02\n"
    )
    table = tmp_path / "omop" / f"person.csv.{form}"
    table.write_bytes(packed(form, person + b"1,8507,1980,0,0\n" * (MIB // 2)))
    with pytest.raises(InputError, match=rf"person\.csv\.{form} grows to 200 times"):
        convert_omop(tmp_path / "omop", tmp_path / "meds")
    assert not (tmp_path / "meds").exists()
    table.write_bytes(packed(form, person + b"1,8507,1980,0,0\n"))
    convert_omop(tmp_path / "omop", tmp_path / "meds")


@pytest.mark.usefixtures("small")
def test_an_omop_zip_whose_member_grows_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "omop.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("person.csv", b"person_id,year_of_birth\n" + b"1,1980\n" * MIB)
        archive.writestr("../../visit_occurrence.csv", "visit_occurrence_id,person_id\n1,1\n")
    with pytest.raises(InputError, match=r"omop\.zip, person\.csv grows to 200 times"):
        convert_omop(tmp_path / "omop.zip", tmp_path / "meds")
    assert not (tmp_path.parent / "visit_occurrence.csv").exists()


def test_a_line_without_end_in_a_packed_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ehrmind.data.bounds", "ehrmind.data.omop.packed"):
        monkeypatch.setattr(f"{module}.LONGEST_LINE", MIB)
    line = np.random.default_rng(0).integers(97, 123, 6 * MIB, dtype=np.uint8).tobytes()
    (tmp_path / "omop").mkdir()
    (tmp_path / "omop" / "person.csv.gz").write_bytes(gzip.compress(b"person_id,year_of_birth\n1," + line, 1))
    (tmp_path / "omop" / "visit_occurrence.csv").write_text("visit_occurrence_id,person_id\n1,1\n")
    with pytest.raises(InputError, match=r"person\.csv\.gz has a line of more than 1 MiB"):
        convert_omop(tmp_path / "omop", tmp_path / "meds")
    (tmp_path / "ehrshot.csv.gz").write_bytes(gzip.compress(b'patient_id,value\n1,"' + b"\n" + line, 1))
    with pytest.raises(InputError, match=r"ehrshot\.csv\.gz has a row of more than 1 MiB"):
        list(csv_batches(tmp_path / "ehrshot.csv.gz", 10))


def test_a_packed_csv_file_is_read_in_batches_as_it_is_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_BLOCK", 64)
    monkeypatch.setattr(bounds, "LONGEST_LINE", 256)
    rows = [f'{n},"a ""quoted"" line\nand another, {n}",{"" if n % 3 else n}\r\n' for n in range(400)]
    content = ("id,text,value\r\n" + "".join(rows)).encode()
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content))
    batches = list(csv_batches(tmp_path / "a.csv.gz", 10))
    assert len(batches) > 20 and pl.concat(batches).equals(pl.read_csv(tmp_path / "a.csv", infer_schema=False))
    assert pl.concat(csv_batches(tmp_path / "a.csv", 10)).equals(pl.concat(batches))


SCHEMA: dict[str, Any] = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
}


def meds(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    return folder / "data" / "0.parquet"


@pytest.mark.parametrize(
    "read",
    [read_table, label_table, load_cases, read_shard, lambda path: list(from_file(path, [NCT]))],
)
def test_every_reader_of_parquet_looks_at_the_footer_first(tmp_path: Path, read: Callable[[Path], object]) -> None:
    bomb = repeated(tmp_path / "bomb.parquet", 5_000_000, subject_id="1", nct_id=NCT, code="A")
    with pytest.raises(InputError, match=r"bomb\.parquet announces [0-9,]+ rows or list items"):
        read(bomb)


def test_meds_metadata_and_splits_and_omop_tables_are_looked_at_too(tmp_path: Path) -> None:
    pl.DataFrame(
        {"subject_id": [1], "time": [None], "code": ["X"], "numeric_value": [None]}, schema=SCHEMA
    ).write_parquet(meds(tmp_path))
    (tmp_path / "metadata").mkdir()
    for name in ("codes", "subject_splits"):
        bomb = repeated(
            tmp_path / "metadata" / f"{name}.parquet",
            5_000_000,
            code="A",
            subject_id="1",
            split="train",
            description="b",
        )
        with pytest.raises(InputError, match=rf"{name}\.parquet announces"):
            open_meds(tmp_path)
        bomb.unlink()
    (tmp_path / "omop").mkdir()
    repeated(tmp_path / "omop" / "person.parquet", 5_000_000, person_id="1", year_of_birth="1980")
    (tmp_path / "omop" / "visit_occurrence.csv").write_text("visit_occurrence_id,person_id\n1,1\n")
    with pytest.raises(InputError, match=r"person\.parquet announces"):
        convert_omop(tmp_path / "omop", tmp_path / "meds")


def test_list_items_count_and_a_page_that_grows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [[0] * 3_000_000]}), tmp_path / "list.parquet", compression="zstd")
    with pytest.raises(InputError, match=r"list\.parquet announces 3,000,000 rows or list items"):
        parquet_file(tmp_path / "list.parquet", str(tmp_path / "list.parquet"))
    pq.write_table(pa.table({"a": ["x" * (100 * MIB)]}), tmp_path / "page.parquet", compression="zstd")
    with pytest.raises(InputError, match=r"page\.parquet grows to 200 times"):
        read_table(tmp_path / "page.parquet")


def test_tables_with_too_many_columns_or_cells_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join(f"c{n}" for n in range(200_000)) + "\n")
    with pytest.raises(InputError, match=r"wide\.csv has 200,000 columns; at most 10,000"):
        read_table(wide)
    rows = tmp_path / "keys.jsonl"
    rows.write_text("".join(json.dumps({f"c{n}": 1}) + "\n" for n in range(6_000)))
    with pytest.raises(InputError, match=r"keys\.jsonl has more than 20,000,000 cells"):
        read_table(rows)
    monkeypatch.setattr(text_tables, "MAX_CELLS", 100)
    for name, content in (("a.csv", "a,b\n" + "1,2\n" * 60), ("a.jsonl", '{"a": 1, "b": 2}\n' * 60)):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="more than 100 cells"):
            read_table(tmp_path / name)
    pl.DataFrame({"a": ["1"] * 60, "b": ["2"] * 60}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="more than 100 cells"):
        read_table(tmp_path / "a.parquet")


def test_texts_of_parquet_are_bounded_once_they_are_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 10 * MIB)
    path = repeated(tmp_path / "a.parquet", 20_000, question="q" * 1000, answer="1")
    with pytest.raises(InputError, match="larger than 10 MiB once its texts are written out"):
        read_table(path)


def test_large_real_files_are_not_limited() -> None:
    for size, unpacked in ((9 << 30, 100 << 30), (5 * MIB, 900 * MIB), (10, 64 * MIB)):
        refuse_growth(size, unpacked, "ordinary")


def test_a_device_is_no_file_and_a_line_of_judgments_has_an_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a pipe or a device, no file"):
        read_lines(Path("/dev/zero"))
    (tmp_path / "qrels.txt").write_text("1 0 NCT10000010 1\n" + "1 " * 100_000)
    with pytest.raises(InputError, match="row 2: 200,000 characters"):
        read_qrels(tmp_path / "qrels.txt")
