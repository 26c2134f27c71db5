"""Answers out to clinicians and their verdicts back: what the sheet holds, what a spreadsheet may
do to it, what is counted.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from ehrmind.cli.app import main
from ehrmind.report import write_report
from ehrmind.report.review.sheet import ASKED, GIVEN, export_review, harmless
from ehrmind.report.review.verdicts import agreement, read_reviews
from ehrmind.runs import Run
from ehrmind.runs.records import Review
from ehrmind.types import InputError
from tests.run_folder import CANARY, finished_run

Rows = list[list[str]]
SOUND, RIGHT = GIVEN.index("audit") + 2, GIVEN.index("audit") + 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("runs") / "reviewed", arms=("base", "rlvr"), cases=70)


def exported(run: Run, n: int = 20) -> Rows:
    file, count = export_review(run.path, n=n)
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    assert len(rows) == count + 1
    return rows


def filled(rows: Rows, judge: Callable[[int], tuple[str, str]], reviewer: str = "A") -> Rows:
    back = [row[:] for row in rows]
    for place, row in enumerate(back[1:]):
        row[SOUND - 1], (row[SOUND], row[RIGHT]) = reviewer, judge(place)
    return back


def write(path: Path, rows: Rows, encoding: str = "utf-8", mark: str = ",") -> Path:
    with path.open("w", encoding=encoding, errors="replace", newline="") as file:
        csv.writer(file, delimiter=mark).writerows(rows)
    return path


def test_the_sheet_is_its_owners_alone_and_takes_every_arm_verdict_and_audit_in_turn(run: Run) -> None:
    rows = exported(run)
    assert rows[0] == [*GIVEN, *ASKED]
    file = run.protected / "review.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert CANARY in file.read_text(encoding="utf-8")
    assert Counter(row[2] for row in rows[1:]).keys() == {"base", "rlvr"}
    assert {"right"} < {row[GIVEN.index("verifier")] for row in rows[1:]}
    assert rows == exported(run)
    assert all(cell == "" for row in rows[1:] for cell in row[len(GIVEN) :])


def test_arms_can_be_chosen_and_an_unknown_one_is_refused(run: Run) -> None:
    file, _ = export_review(run.path, ["rlvr"], n=5)
    assert "base" not in {row[2] for row in csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline=""))}
    with pytest.raises(InputError, match="has no arm 'nobody'; it has base, rlvr"):
        export_review(run.path, ["nobody"])


@given(st.text(max_size=60))
def test_no_cell_begins_as_a_formula_does(text: str) -> None:
    cell = harmless(text)
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert len(harmless("x" * 50_000)) < 32_767


SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
ALPHABET = st.sampled_from([*SIGNS, ";", ",", "|", "\t", "\n", "\r", '"', "'", " ", "\u00a0", "\u2028", "a", "cmd"])


@pytest.mark.parametrize(
    "cell",
    [
        "a;=1",
        "a;  =1",
        'a;"=1"',
        "a\n-1",
        "a\r=1",
        "a\u2028=1",
        "a|@x",
        "a\t+1",
        "\uff1d1",
        "a;\uff0b1",
        "\"\n=cmd|' /C calc'!A0",
    ],
)
def test_a_sign_that_could_begin_a_cell_has_an_apostrophe_in_front(cell: str) -> None:
    made = harmless(cell)
    at = next(place for place, letter in enumerate(made) if letter in SIGNS)
    assert made[at - 1] == "'" and made.replace("'", "") == cell.replace("'", "").replace("\r", "\n")


@given(st.lists(st.lists(ALPHABET.map(str), max_size=12).map("".join), min_size=1, max_size=4))
def test_no_cell_is_a_formula_wherever_a_spreadsheet_splits_the_file(cells: list[str]) -> None:
    lines = io.StringIO()
    csv.writer(lines, quoting=csv.QUOTE_ALL).writerow([harmless(cell) for cell in cells])
    text = lines.getvalue()
    for mark in (",", ";", "\t", "|"):
        rows = [
            *csv.reader(io.StringIO(text, newline=""), delimiter=mark),
            *([part] for part in re.split(rf"[\r\n{re.escape(mark)}]", text)),
        ]
        for found in (cell for row in rows for cell in row):
            assert not found.strip(' "\u00a0').startswith(tuple(SIGNS)), (mark, found)


def test_ordinary_text_and_numbers_within_it_stay_as_they_are() -> None:
    for text in (
        "BP 120/80, HR 70-80; T 37.2 = normal",
        "a-b_c@d.org",
        "CO2 + Hb",
        "x: -3 mmol/L",
        "line\nnext line",
        "it's; 'so'",
    ):
        assert harmless(text) == text


def test_ids_that_got_an_apostrophe_are_known_again(run: Run, tmp_path: Path) -> None:
    rows = exported(run)
    kept = run.protected / "review.json"
    before = kept.read_text(encoding="utf-8")
    answers = json.loads(before)
    names = ("=1+1", "a;=b", "-x", "'quoted", "\uff1da")
    for name, row, answer in zip(names, rows[1:], answers["answers"], strict=False):
        answer["case"], row[0] = name, harmless(name)
    run.write_json("protected/review.json", answers)
    try:
        for change in (
            lambda cell: cell,
            lambda cell: cell.lstrip("'"),
        ):  # some spreadsheets take the first apostrophe away
            back = [
                [change(row[0]), *row[1:]] if place else row
                for place, row in enumerate(filled(rows, lambda place: ("yes", "no")))
            ]
            assert read_reviews(run.path, [write(tmp_path / "back.csv", back)]).reviewed == 20
    finally:
        run.write_json("protected/review.json", json.loads(before))


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", ","), ("utf-8-sig", ";"), ("cp1252", ";"), ("utf-16", "\t")])
def test_a_sheet_comes_back_whatever_a_spreadsheet_made_of_it(
    run: Run, tmp_path: Path, encoding: str, mark: str
) -> None:
    rows = filled(exported(run), lambda place: (("Yes", "no", "")[place % 3], ("Y", "FALSE")[place % 2]))
    rows = (
        [row[::-1] for row in rows[:1]]
        + [row[::-1] for row in random.Random(0).sample(rows[1:], len(rows) - 1)]
        + [[""] * len(rows[0])]
    )
    found = read_reviews(run.path, [write(tmp_path / "back.csv", rows, encoding, mark)])
    assert (found.reviewers, found.reviewed, found.answer.n) == (1, 20, 20)
    assert found.reasoning.n == 14
    stored = (run.path / "review.json").read_text(encoding="utf-8")
    assert Review.from_dict(json.loads(stored), "") == found
    assert CANARY not in stored


def test_agreement_is_counted_against_verifier_and_audit_and_between_reviewers(run: Run, tmp_path: Path) -> None:
    rows = exported(run)
    kept = json.loads((run.protected / "review.json").read_text(encoding="utf-8"))["answers"]
    says = {True: "yes", False: "no"}
    first = filled(rows, lambda place: (says[kept[place]["sound"]], says[kept[place]["correct"]]))
    second = filled(rows, lambda place: ("no", says[kept[place]["correct"] != (place < 5)]), "B")
    found = read_reviews(run.path, [write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)])
    assert (found.answer.agree, found.answer.n) == (35, 40)
    between = found.answer_between_reviewers
    assert between is not None and (between.n, between.agree) == (20, 15)
    (page,) = write_report(run.path)
    assert "Clinicians' review" in page.read_text(encoding="utf-8").replace("&#39;", "'")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_kappa_is_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    found = agreement([(a, b, str(place)) for place, (a, b) in enumerate(pairs)])
    assert found.n == sum(found.table.values()) == len(pairs)
    if found.kappa is not None:
        assert found.kappa == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    else:
        assert len({a for a, _ in pairs} | {b for _, b in pairs}) == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows[1].__setitem__(RIGHT, "perhaps"), "row 2: answer_right is neither yes nor no"),
        (
            lambda rows: rows[2].__setitem__(0, "somebody-else"),
            "row 3: this run's exported review has no answer of this case",
        ),
        (lambda rows: rows[0].__setitem__(SOUND, "opinion"), "has no column reasoning_sound"),
        (
            lambda rows: rows.append([*rows[1][:SOUND], "no", *rows[1][RIGHT:]]),
            "judged this answer differently in an earlier row",
        ),
    ],
)
def test_a_bad_sheet_is_refused_in_one_sentence(
    run: Run, tmp_path: Path, spoil: Callable[[Rows], None], said: str
) -> None:
    rows = filled(exported(run), lambda place: ("yes", "yes"))
    spoil(rows)
    with pytest.raises(InputError, match=said):
        read_reviews(run.path, [write(tmp_path / "bad.csv", rows)])


def test_an_empty_sheet_and_a_spreadsheets_own_file_are_refused(run: Run, tmp_path: Path) -> None:
    rows = exported(run)
    with pytest.raises(InputError, match="has a yes or no"):
        read_reviews(run.path, [write(tmp_path / "empty.csv", rows)])
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(InputError, match="save it as CSV"):
        read_reviews(run.path, [tmp_path / "book.xlsx"])
    with pytest.raises(InputError, match="There is no file at"):
        read_reviews(run.path, [tmp_path / "nowhere.csv"])


def test_the_commands_say_what_they_wrote(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["review", "export", str(run.path), "--n", "6"])
    assert left.value.code == 0
    assert "wrote 6 answers" in capsys.readouterr().out
    back = write(tmp_path / "back.csv", filled(exported(run, 6), lambda place: ("yes", "no")))
    with pytest.raises(SystemExit) as left:
        main(["review", "read", str(run.path), str(back)])
    said = capsys.readouterr().out
    assert left.value.code == 0
    assert "6 verdicts by 1 on 6 of 6 answers" in said
    assert CANARY not in said
