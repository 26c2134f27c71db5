"""Which files are which OMOP table: folders, part files, schema names; and what is said of all
else.
"""

from __future__ import annotations

import bz2
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from ehrmind.data.omop import convert_omop
from ehrmind.types import InputError
from tests.unit.test_omop_source import MEASUREMENT, PERSON, events, omop, told

HEADER, *ROWS = MEASUREMENT.splitlines(keepends=True)
HALVES = (HEADER + "".join(ROWS[:2]), HEADER + "".join(ROWS[2:]))


def without_measurements(folder: Path) -> Path:
    return omop(folder, {"MEASUREMENT": None})


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("measurement/000000000000.csv", "measurement/000000000001.csv"),
        ("MEASUREMENT/a.csv", "MEASUREMENT/b.csv"),
        ("measurement.csv/part-00000.csv", "measurement.csv/part-00001.csv"),
        ("measurement/year=2020/part-0.csv", "measurement/year=2021/part-0.csv"),
        ("omop/measurement/x/0.csv", "omop/measurement/y/0.csv"),
        ("measurement000.csv", "measurement001.csv"),
        ("measurement_000000000000.csv", "measurement_000000000001.csv"),
        ("measurement-00001-of-00002.csv", "measurement-00002-of-00002.csv"),
        ("measurement.csv-00000-of-00002", "measurement.csv-00001-of-00002"),
        ("measurement.part1.csv", "measurement.part2.csv"),
        ("measurement/part-00000", "measurement/part-00001"),
        ("measurement/000000_0", "measurement/000001_0"),
        ("measurement_1.csv", "measurement_2.csv"),
        ("Measurement_2020.TXT", "Measurement_2021.TXT"),
        ("cdm.measurement-part-1.csv", "cdm.measurement-part-2.csv"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_table_in_parts_is_read_whole(tmp_path: Path, names: tuple[str, str], packed: bool) -> None:
    wanted = events(omop(tmp_path / "o"))
    folder = put(without_measurements(tmp_path / "parts"), dict(zip(names, HALVES, strict=True)))
    put(
        folder,
        {
            f"{Path(names[0]).parent}/_SUCCESS": "",
            f"{Path(names[0]).parent}/.part-0.csv.crc": b"crc\0",
            ".DS_Store": b"\0",
        },
    )
    source = folder
    if packed:
        source = tmp_path / "parts.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.rglob("*"):
                if path.is_file():
                    archive.write(path, f"export/{path.relative_to(folder)}")
    assert wanted.equals(events(source))
    counts = convert_omop(source, tmp_path / "again")
    assert counts.unread == [] and "measurement: 6 rows of 2 files, 6 events" in counts.lines()


@pytest.mark.parametrize(
    "name",
    [
        "cdm.MEASUREMENT.csv",
        "OMOP_MEASUREMENT.csv",
        "dbo.measurement.csv",
        "omop_cdm_v5_4_measurement.tsv",
        "measurement_20240131.csv",
        "deep/er/measurement.csv",
    ],
)
def test_the_name_of_a_schema_a_date_or_a_folder_around_a_table_changes_nothing(tmp_path: Path, name: str) -> None:
    wanted = events(omop(tmp_path / "o"))
    assert wanted.equals(events(put(without_measurements(tmp_path / "other"), {name: MEASUREMENT})))


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("measurement.csv.bz2", bz2.compress),
        ("measurement.csv.zst", lambda raw: pa.compress(raw, codec="zstd", asbytes=True)),
        ("measurement.txt.gz", gzip.compress),
    ],
)
@pytest.mark.parametrize("mark", [",", ";", "|", "\t"])
def test_packed_texts_are_read_with_any_separator(
    tmp_path: Path, name: str, packed: Callable[[bytes], bytes], mark: str
) -> None:
    wanted = events(omop(tmp_path / "o"))
    if name.endswith("zst"):
        with pa.OSFile(str(tmp_path / "zst"), "wb") as file, pa.CompressedOutputStream(file, "zstd") as stream:
            stream.write(MEASUREMENT.replace(",", mark).encode())
        content = (tmp_path / "zst").read_bytes()
    else:
        content = packed(MEASUREMENT.replace(",", mark).encode())
    assert wanted.equals(events(put(without_measurements(tmp_path / "other"), {name: content})))


@pytest.mark.parametrize("ending", ["parq", "snappy.parquet", "arrow", "feather"])
def test_other_endings_of_parquet_and_arrow_files_are_read(tmp_path: Path, ending: str) -> None:
    wanted = events(omop(tmp_path / "o"))
    folder = without_measurements(tmp_path / "other")
    frame = pl.read_csv(tmp_path / "o" / "MEASUREMENT.csv")
    target = folder / f"measurement.{ending}"
    frame.write_parquet(target) if ending.startswith(("parq", "snappy")) else frame.write_ipc(target)
    assert wanted.equals(events(folder))


def test_what_a_folder_says_in_its_name_is_a_column(tmp_path: Path) -> None:
    rows = "person_id,measurement_date,value_as_number\n1,2020-01-05,5.6\n"
    folder = put(without_measurements(tmp_path / "o"), {"measurement/measurement_concept_id=2/part-0.csv": rows})
    assert told(events(folder), "measurement", "code") == [("LOINC/2823-3",)]


def test_a_vocabulary_in_part_files_is_read(tmp_path: Path) -> None:
    wanted = events(omop(tmp_path / "o"))
    concept = (tmp_path / "o" / "CONCEPT.csv").read_text()
    header, *rows = concept.splitlines(keepends=True)
    folder = put(
        omop(tmp_path / "other", {"CONCEPT": None}),
        {
            "vocabulary/concept/0.csv": header + "".join(rows[:3]),
            "vocabulary/concept/1.csv": header + "".join(rows[3:]),
        },
    )
    assert wanted.equals(events(folder))


def test_all_that_is_not_read_is_named(tmp_path: Path) -> None:
    beside = {
        "README.md": "about",
        "care_site/part-0.parquet": b"PAR1",
        "drug_era.csv": "a,b\n",
        "2b_concept.csv": "a\n",
        "hosp_measurement.csv": "a\n",
        "measurement (1).csv": "a\n",
        "measurement/notes.md": "about",
        "measurement.xlsx": "an export of the same",
        "death/_SUCCESS": "",
        "note/.keep": "",
        **{f"scripts/{n}.sql": "select" for n in range(9)},
    }
    (omop(tmp_path / "o") / "observation").mkdir()
    counts = convert_omop(put(tmp_path / "o", beside), tmp_path / "meds")
    assert counts.unread == [
        "2b_concept.csv", "README.md", "care_site", "death/ (no part files)", "drug_era", "hosp_measurement.csv", "measurement (1).csv",
        "measurement.xlsx", "measurement/notes.md", "note/ (no part files)", "observation/ (no part files)", "scripts/ (9 files)",
    ]  # fmt: skip
    assert counts.lines()[-1].startswith("not looked at: 2b_concept.csv, README.md")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"measurement.csv": HALVES[0], "measurement/0.csv": HALVES[1]}, "are the same table; leave one"),
        ({"measurement.csv": HALVES[0], "measurement_1.csv": HALVES[1]}, "are the same table; leave one"),
        ({"a/measurement.csv": HALVES[0], "b/measurement.csv": HALVES[1]}, "are the same table; leave one"),
        ({"measurement/0.csv": HALVES[0], "measurement/1.csv.gz": gzip.compress(HALVES[1].encode())}, "are the same table; leave one"),
        ({"measurement/0.csv": HALVES[0], "measurement/1.csv": "".join(ROWS)}, r"0\.csv and .*1\.csv are parts of one table, and only one"),
        ({"measurement/0.csv": HALVES[0], "measurement/1.csv": HALVES[0]}, r"0\.csv and .*1\.csv hold the same rows; leave one"),
        ({"measurement-00001-of-00003.csv": HALVES[0], "measurement-00002-of-00003.csv": HALVES[1]}, "2 of 3 part files are there"),
        ({"measurement.orc": b"ORC"}, r"measurement\.orc holds MEASUREMENT in a form that is not read \(\.orc\)"),
        ({"measurement.csv.zip": b"PK"}, r"holds MEASUREMENT in a form that is not read \(\.zip\)"),
        ({"measurement.xlsx": b"PK"}, "in a form that is not read"),
        ({"measurement/part-0.avro": b"Obj"}, "in a form that is not read"),
        ({"measurement/_delta_log/0.json": "{}", "measurement/a.parquet": b"PAR1"}, "is a Delta Lake table"),
        ({"measurement.csv": HALVES[0][:-12]}, r"measurement\.csv is cut off within its last row"),
        ({"measurement.csv": MEASUREMENT.replace("\n", "\r")}, "ends its lines with a carriage return alone"),
        ({"measurement.csv": MEASUREMENT.encode("utf-16")}, "is text in UTF-16"),
        ({"measurement.csv": MEASUREMENT.replace("cloudy", "tr\u00fcb").encode("latin-1")}, r"csv cannot be read as CSV in UTF-8"),
    ],
)  # fmt: skip
def test_a_table_that_is_there_twice_or_in_no_form_that_is_read_is_refused(
    tmp_path: Path, files: dict[str, str | bytes], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        convert_omop(put(without_measurements(tmp_path / "o"), files), tmp_path / "meds")
    assert not (tmp_path / "meds").exists()


def test_persons_without_any_table_of_events_are_refused(tmp_path: Path) -> None:
    folder = put(tmp_path / "o", {"person.csv": PERSON, "hosp_measurement.csv": "a\n"})
    with pytest.raises(InputError, match=r"has PERSON and no table of events .*it holds hosp_measurement\.csv"):
        convert_omop(folder, tmp_path / "meds")


def test_two_exports_of_a_table_side_by_side_are_refused(tmp_path: Path) -> None:
    head, rows = "measurement_id," + HEADER, [f"{number}," + row for number, row in enumerate(ROWS)]
    files = {"measurement_20240131.csv": head + "".join(rows[:4]), "measurement_20240229.csv": head + "".join(rows[3:])}
    with pytest.raises(
        InputError, match=r"measurement_20240131\.csv .*two rows have one measurement_id, as where two exports"
    ):
        convert_omop(put(without_measurements(tmp_path / "o"), files), tmp_path / "meds")


def test_links_to_folders_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    wanted = events(omop(tmp_path / "o"))
    folder = without_measurements(tmp_path / "other")
    put(tmp_path / "elsewhere", {"0.csv": HALVES[0], "1.csv": HALVES[1]})
    (folder / "measurement").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert wanted.equals(events(folder))
