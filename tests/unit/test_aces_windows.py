"""Windows by a task's definition against what ACES makes of them: the definition holds, and any new
difference is refused.
"""

from __future__ import annotations

import random
import re
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehrmind.config import EhrFiles
from ehrmind.data.aces import EXCHANGED, REDRAWN, UNMATCHED, read_aces_labels
from ehrmind.data.ehr import read_ehr
from ehrmind.data.meds import open_meds
from ehrmind.types import InputError
from tests.meds_data import SCHEMA, START
from tests.unit.test_aces_labels import ADMISSION, DAY, HOUR, PREDICATES, READMISSION, folder, found, stays, task

pytest.importorskip("aces")
__all__ = ["folder"]  # the fixture

LAST_DAY = f"""\
{PREDICATES}trigger: discharge
windows:
  input: {{start: end - 24h, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: SIDE}}
  target: {{start: input.end, end: start + 30d, start_inclusive: false, end_inclusive: true, label: admission}}
"""
STAY = f"""\
{PREDICATES}trigger: discharge
windows:
  input: {{start: null, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}}
  target: {{start: trigger, end: start -> discharge, start_inclusive: false, end_inclusive: true, label: admission}}
"""


@pytest.mark.parametrize(("side", "earlier"), [("end", timedelta(0)), ("start", DAY)])
def test_the_prediction_time_is_the_side_of_the_window_that_the_task_names(
    folder: Path, side: str, earlier: timedelta
) -> None:
    expected = {(stay.subject, (stay.ends - earlier).isoformat()) for stay in stays() if not stay.died}
    cases, counts = read_ehr(EhrFiles(meds=folder, aces=task(folder, LAST_DAY.replace("SIDE", side))))
    assert {(case.provenance["subject"], case.provenance["as_of"]) for case in cases} == expected
    assert counts.notes[EXCHANGED] == len(cases)  # ACES takes the other side


def test_a_label_window_that_hangs_on_its_end_counts_what_lies_in_it(folder: Path) -> None:
    """Whether the patient was admitted within the two days before the discharge; asked two days
    before it."""
    text = READMISSION.replace("end: trigger, start_inclusive: true", "end: trigger - 48h, start_inclusive: true")
    target = (
        "  target: {start: end - 48h, end: trigger, start_inclusive: false, end_inclusive: true, label: admission}\n"
    )
    expected = {
        (stay.subject, (stay.ends - 2 * DAY).isoformat()): int(
            any(other.subject == stay.subject and stay.ends - 2 * DAY < other.begins <= stay.ends for other in stays())
        )
        for stay in stays()
        if not stay.died
    }
    known = found(folder, task(folder, text[: text.index("  target")] + target))
    assert {value for *_, value in known} == {0, 1} and len(known) > 50  # of those with a record two days before
    assert all(expected[subject, at] == value for subject, at, value in known)


def test_a_discharge_does_not_end_the_window_that_begins_after_it(folder: Path) -> None:
    discharges = sorted((stay.subject, stay.ends) for stay in stays() if not stay.died)
    expected = {}
    for subject, at in discharges:
        after = [later for other, later in discharges if other == subject and later > at]
        if after:
            expected[subject, at.isoformat()] = int(
                any(s.subject == subject and at < s.begins <= min(after) for s in stays())
            )
    cases, counts = read_ehr(EhrFiles(meds=folder, aces=task(folder, STAY)))
    assert {(case.provenance["subject"], case.provenance["as_of"]): case.truth["value"] for case in cases} == expected
    assert (
        set(expected.values()) == {1} and counts.notes[REDRAWN] > 0
    )  # ACES ends it at once, so that nobody ever comes back


@pytest.mark.parametrize("code", ["null", '""', "{regex: null}", "{any: [null]}", "{any: []}"])
def test_a_predicate_without_a_code_is_refused_by_name(folder: Path, code: str) -> None:
    with pytest.raises(InputError, match=r"my_task\.yaml, predicate 'admission': it has no code"):
        read_ehr(
            EhrFiles(meds=folder, aces=task(folder, READMISSION.replace("{code: Admission}", f"{{code: {code}}}")))
        )
    with pytest.raises(InputError, match=r"my_task\.yaml is no ACES task file: TypeError: .*'code'"):
        read_ehr(EhrFiles(meds=folder, aces=task(folder, READMISSION.replace("{code: Admission}", "{value_min: 5}"))))


def test_a_code_that_yaml_takes_for_a_number_is_the_code(folder: Path) -> None:
    for shard in (folder / "data").rglob("*.parquet"):
        pl.read_parquet(shard).with_columns(pl.col("code").replace(ADMISSION, "50912")).write_parquet(shard)
    numbered = task(folder, READMISSION.replace("{code: Admission}", "{code: 50912}"))
    assert {value for *_, value in found(folder, numbered)} == {0, 1}


def test_a_predicate_that_no_event_matches_is_named_and_so_are_labels_that_are_all_alike(folder: Path) -> None:
    _, counts = read_ehr(EhrFiles(meds=folder, aces=task(folder, READMISSION.replace("Admission", "Intake"))))
    assert counts.notes[UNMATCHED.format("admission")] == 0
    assert any(
        note.startswith("labels, and all of them are 'no'") and n == counts.kept for note, n in counts.notes.items()
    )
    high = READMISSION.replace("{code: Admission}", "{code: Admission, value_min: 5}")
    assert UNMATCHED.format("admission") in read_ehr(EhrFiles(meds=folder, aces=task(folder, high)))[1].notes
    with pytest.raises(InputError, match=r"nobody in .* meets this task; no event matches 'discharge'"):
        read_ehr(EhrFiles(meds=folder, aces=task(folder, READMISSION.replace("^Disch", "^Home"))))


def test_a_number_that_is_none_is_above_no_limit(folder: Path) -> None:
    high = READMISSION.replace("{code: Admission}", "{code: LOINC/2823-3, value_min: 4.6}")
    for shard in (folder / "data").rglob("*.parquet"):
        unreal = pl.when(pl.col("numeric_value") > 4).then(float("nan")).cast(pl.Float32)
        pl.read_parquet(shard).with_columns(unreal.alias("numeric_value")).write_parquet(shard)
    assert {value for *_, value in found(folder, task(folder, high))} == {0}  # polars holds NaN for the largest number


def test_a_static_predicate_chooses_subjects_by_what_is_known_without_a_time(folder: Path) -> None:
    for shard in (folder / "data").rglob("*.parquet"):
        events = pl.read_parquet(shard)
        first = events.unique("subject_id", keep="first", maintain_order=True)
        even = pl.when(pl.col("subject_id") % 8 < 4).then(pl.lit("GENDER//F")).otherwise(pl.lit("GENDER//M"))
        static = first.with_columns(even.alias("code"), pl.lit(None, dtype=pl.Datetime("us")).alias("time"))
        pl.concat([static, events]).sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(
            shard
        )
    everybody = found(folder, task(folder, READMISSION))
    women = task(
        folder, READMISSION.replace("trigger:", "patient_demographics:\n  woman: {code: GENDER//F}\ntrigger:", 1)
    )
    assert (
        found(folder, women) == {row for row in everybody if row[0] % 8 < 4}
        and len(everybody) > len(found(folder, women)) > 20
    )


SIDES = st.sampled_from(["start", "end"])
REFERENCES = st.one_of(st.just("trigger"), st.builds("{}.{}".format, st.sampled_from(["w1", "w2"]), SIDES))
LENGTHS = st.sampled_from(["6h", "1d", "48h"])
NAMES = st.sampled_from("abc")
BOUNDS = st.one_of(
    st.builds("start: null, end: {}".format, REFERENCES),
    st.builds("start: end - {1}, end: {0}".format, REFERENCES, LENGTHS),
    st.builds("start: end <- {1}, end: {0}".format, REFERENCES, NAMES),
    st.builds("start: {0} - {1}, end: start + {1}".format, REFERENCES, LENGTHS),
    st.builds("start: {0}, end: start -> {1}".format, REFERENCES, NAMES),
    st.builds("start: {0} + {1}, end: start -> {2}".format, REFERENCES, LENGTHS, NAMES),
    st.builds("start: {0}, end: null".format, REFERENCES),
)
INCLUSIVE = st.builds("start_inclusive: {}, end_inclusive: {}".format, *[st.sampled_from(["true", "false"])] * 2)
HAS = st.sampled_from(["", ', has: {a: "(1, None)"}', ', has: {b: "(None, 2)"}', ', has: {_ANY_EVENT: "(2, None)"}'])


@st.composite
def windows(draw: st.DrawFn) -> str:
    """Three windows, the later ones perhaps hanging on the earlier; the second has the prediction
    time, the third the label."""
    said = [f"{draw(BOUNDS)}, {draw(INCLUSIVE)}" for _ in range(3)]
    said[0] = re.sub(r"w\d\.\w+", "trigger", said[0]) + draw(HAS)
    said[1] = said[1].replace("w2", "w1") + f", index_timestamp: {draw(SIDES)}"
    said[2] += f", label: {draw(NAMES)}"
    return "\n".join(f"  w{place}: {{{text}}}" for place, text in enumerate(said, start=1))


@given(windows(), NAMES, st.integers(0, 99))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_drawn_windows_are_read_as_aces_reads_them_but_for_the_two_known_ways(
    tmp_path_factory: pytest.TempPathFactory, drawn: str, trigger: str, seed: int
) -> None:
    """Any further difference would be refused as one."""
    draw, rows = random.Random(seed), []
    for subject in (1, 2, 3):
        for hour in sorted(draw.sample(range(120), 14)):
            rows += [(subject, START + hour * HOUR, code) for code in draw.sample("ABC", draw.choice([1, 1, 2]))]
    meds = tmp_path_factory.mktemp("drawn")
    (meds / "data").mkdir()
    schema = {name: SCHEMA[name] for name in ("subject_id", "time", "code")}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(meds / "data" / "0.parquet")
    path = meds / "drawn.yaml"
    path.write_text(
        f"predicates: {{a: {{code: A}}, b: {{code: B}}, c: {{code: C}}}}\ntrigger: {trigger}\nwindows:\n{drawn}\n"
    )
    try:
        labels, _ = read_aces_labels(open_meds(meds), path)
    except InputError as error:
        assert "nobody in" in str(error)
    else:
        assert labels.height
