"""One broken run folder never hides the others: from the list, the view, or a comparison. What it
is called does nothing to a terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ehrmind.cli import main
from ehrmind.files import json_bytes
from ehrmind.printable import printable
from ehrmind.report.compare import matrix
from ehrmind.runs import Run
from ehrmind.runs.index import list_runs
from ehrmind.view.curves import curves
from ehrmind.view.rollout_index import stamps_of
from ehrmind.view.run_index import described, known_runs, run_of
from tests.run_folder import finished_run


def command(*given: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(one) for one in given])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("whole") / "good", cases=20).path


def replaced(part: str, content: bytes) -> Callable[[Path], object]:
    return lambda run: (run / part).write_bytes(content)


def pipe(run: Path) -> None:
    (run / "recipe.yaml").unlink()
    os.mkfifo(run / "recipe.yaml")


def folder_in_place(run: Path) -> None:
    (run / "recipe.yaml").unlink()
    (run / "recipe.yaml").mkdir()


def link_to_itself(run: Path) -> None:
    (run / "recipe.yaml").unlink()
    (run / "recipe.yaml").symlink_to(run / "recipe.yaml")


def huge(run: Path) -> None:
    with (run / "recipe.yaml").open("ab") as file:
        file.truncate(10 << 30)


def no_protected(run: Path) -> None:
    shutil.rmtree(run / "protected")
    (run / "protected").symlink_to(run / "protected")


def no_stages(run: Path) -> None:
    shutil.rmtree(run / "stages")
    (run / "stages").write_text("")


def other_seeds(run: Path) -> None:
    (run / "seeds" / "abc").mkdir(parents=True)
    (run / "seeds" / "abc" / "recipe.yaml").write_text("name: a")


BROKEN: dict[str, Callable[[Path], object]] = {
    "missing": lambda run: (run / "recipe.yaml").unlink(),
    "torn": lambda run: (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text()[:100] + "\n  x: ["),
    "empty": replaced("recipe.yaml", b""),
    "binary": replaced("recipe.yaml", bytes(range(256)) * 100),
    "a list": replaced("recipe.yaml", b"- a\n"),
    "of laughs": replaced(
        "recipe.yaml",
        b"a: &a [x]\n"
        + b"".join(
            b"a%d: &a%d [*a%s, *a%s]\n" % (n, n, b"%d" % (n - 1) if n else b"", b"%d" % (n - 1) if n else b"")
            for n in range(40)
        ),
    ),
    "deep": replaced("recipe.yaml", b"name: " + b"[" * 50_000),
    "name a number": replaced("recipe.yaml", b"name: [1]\n"),
    "a pipe": pipe,
    "a folder": folder_in_place,
    "a link to itself": link_to_itself,
    "huge": huge,
}
LISTED_AS_EVER: dict[str, Callable[[Path], object]] = {
    "marks torn": lambda run: [mark.write_bytes(b'{"sec') for mark in (run / "stages").glob("*.json")],
    "a mark is a folder": lambda run: (run / "stages" / "x.json").mkdir(),
    "a mark is a link to nothing": lambda run: (run / "stages" / "x.json").symlink_to(run / "nowhere"),
    "results of another form": replaced("results.json", b"[]"),
    "results nested": replaced("results.json", b"[" * 100_000),
    "metrics of another type": replaced("metrics.jsonl", b'[1]\n{"stage": 1}\n"a"\n' + b"[" * 50_000 + b"\n\xff\xfe\n"),
    "protected leads to itself": no_protected,
    "stages is a file": no_stages,
    "seeds that are none": other_seeds,
}


@pytest.mark.parametrize("what", [*BROKEN, *LISTED_AS_EVER])
def test_a_broken_folder_is_listed_with_the_reason_and_the_others_as_ever(
    tmp_path: Path, whole: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "a-good")
    shutil.copytree(whole, tmp_path / "broken", symlinks=True)
    shutil.copytree(whole, tmp_path / "z-good")
    {**BROKEN, **LISTED_AS_EVER}[what](tmp_path / "broken")
    started = time.monotonic()
    assert command("runs", "list", tmp_path) == 0
    listed = capsys.readouterr().out
    first, broken, last = list_runs(tmp_path)
    assert (first.problem, last.problem) == ("", "") and first.name == last.name == "a made-up run"
    assert bool(broken.problem) == (what in BROKEN) and ("cannot be read: " in listed) == (what in BROKEN)

    shown = [described(name, run) for name, run in known_runs(tmp_path).items()]
    assert [row["id"] for row in shown] == ["a-good", "broken", "z-good"] and json.dumps(shown)
    assert ("cannot be read" in shown[1]["state"]) == (what in BROKEN) and shown[0]["state"] == shown[2][
        "state"
    ] == "finished"
    json.dumps(curves(run_of(tmp_path, "broken")))

    good = matrix([tmp_path / "a-good", tmp_path / "z-good"])
    compared = matrix([tmp_path / "a-good", tmp_path / "broken", tmp_path / "z-good"])
    assert [row for row in compared.rows if row.folder != "broken"] == list(good.rows)
    if what in BROKEN:
        assert str(tmp_path / "broken") in compared.unread[0]
        assert command("compare", *(tmp_path / name for name in ("a-good", "broken", "z-good"))) == 2
        said = capsys.readouterr()
        assert "rlvr" in said.out and "The others are compared" in said.err
    assert time.monotonic() - started < 20


def test_a_pipe_among_the_rollouts_is_passed_over(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    rollouts = tmp_path / "run" / "protected" / "rollouts"
    before = set(stamps_of(rollouts))
    os.mkfifo(rollouts / "pilot-000009.parquet")
    (rollouts / "pilot-000010.parquet").symlink_to(rollouts / "pilot-000010.parquet")
    assert before and set(stamps_of(rollouts)) == before


def test_results_of_another_form_are_named_even_where_the_manifest_lists_them(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "good")
    for number, found in enumerate(
        ([], {}, {"arms": {}}, {"arms": {"base": {"n": 1}}, "pairs": {}, "decoding": "greedy", "scorer": "ehrmind"})
    ):
        shutil.copytree(whole, tmp_path / f"run-{number}")
        Run(tmp_path / f"run-{number}").put("results.json", json_bytes(found))
        said = (
            *matrix([tmp_path / "good", tmp_path / f"run-{number}"]).unread,
            curves(Run(tmp_path / f"run-{number}"))["said"],
        )
        assert all("this version of ehrmind" in sentence for sentence in said)


def test_a_folder_that_may_not_be_read_is_listed_with_the_reason(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a-good", "locked", "z-good"):
        shutil.copytree(whole, tmp_path / name)
    opened = Path.stat

    def refused(self: Path, **how: bool) -> os.stat_result:
        if "locked" in self.parts and self.name == "recipe.yaml":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, **how)

    monkeypatch.setattr(Path, "stat", refused)  # the tests may run as root, who may read everything
    assert [bool(run.problem) for run in list_runs(tmp_path)] == [False, True, False]
    assert "Permission denied" in list_runs(tmp_path)[1].problem


NAMES = ("\x1b[2Jrun", "two\nlines", "\u202eturned", "\x9b31m", "tab\there", "\r\x1b]0;title\x07")


def test_names_of_folders_and_runs_do_nothing_to_a_terminal(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(NAMES):
        shutil.copytree(whole, tmp_path / name)
        (tmp_path / name / "recipe.yaml").write_text(f"name: {json.dumps(NAMES[-number])}\n")
        (tmp_path / name / "stages" / f"{name}.json").write_text("{}")
    assert command("runs", "list", tmp_path) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(NAMES) + 4 and all(sign.isprintable() for sign in out.replace("\n", ""))
    assert "\\x1b[2Jrun" in out and "\\u202eturned" in out


def test_bytes_that_are_no_text_in_a_folder_s_name_are_an_id_that_a_browser_can_send(
    tmp_path: Path, whole: Path
) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    shutil.copytree(whole, os.fsdecode(odd))
    (name,) = known_runs(tmp_path)
    assert name.encode() and run_of(tmp_path, name).path == Path(os.fsdecode(odd)) and printable(odd)


def test_thousands_of_runs_are_listed_in_seconds(tmp_path: Path, whole: Path) -> None:
    text = (whole / "recipe.yaml").read_text()
    for number in range(1000):
        (tmp_path / f"run-{number:04}").mkdir()
        (tmp_path / f"run-{number:04}" / "recipe.yaml").write_text(text)
    started = time.monotonic()
    assert len(list_runs(tmp_path)) == 1000 and len(known_runs(tmp_path)) == 1000
    assert time.monotonic() - started < 15
