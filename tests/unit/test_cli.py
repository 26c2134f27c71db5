"""The command line: quick help, one sentence and the right exit code when something is wrong, and
its light verbs.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from ehrmind import __version__
from ehrmind.cli import main
from ehrmind.data import load_cases, save_cases
from ehrmind.types import Case

CANARY = "Zelda Quux has an unusual rash"
VERBS = [
    ["demo"],
    ["recipes"],
    ["run"],
    ["pilot"],
    ["evaluate"],
    ["check"],
    ["report"],
    ["doctor"],
    ["data"],
    ["calc"],
    ["data", "medcalc"],
    ["data", "audit"],
    ["data", "synthetic"],
    ["data", "synthetic", "medcalc"],
    ["runs"],
    ["runs", "list"],
    ["runs", "purge"],
]
COLUMNS = [
    "Row Number", "Calculator ID", "Calculator Name", "Category", "Output Type", "Note ID", "Note Type", "Patient Note", "Question",
    "Relevant Entities", "Ground Truth Answer", "Lower Limit", "Upper Limit", "Ground Truth Explanation",
]  # fmt: skip


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Keeps what the command line sets for the libraries from other tests; a wide terminal keeps
    lines whole."""
    with mock.patch.dict(os.environ, {"COLUMNS": "200", "TERM": "dumb"}):
        os.environ.pop("EHRMIND_TRACEBACK", None)
        os.environ.pop("HF_HUB_OFFLINE", None)
        yield


def run(arguments: Sequence[object]) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three synthetic rows: two with a note of their own, and an abstention."""
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row, answer, lower, upper in (
            (1, "22.5", "21.375", "23.625"),
            (2, "30.0", "28.5", "31.5"),
            (3, "N/A", "N/A", "N/A"),
        ):
            note = f"Made-up patient {row}. {CANARY}. Weight 65 kg, height 170 cm."
            writer.writerow(
                [row, 6, "Body Mass Index (BMI)", "physical", "decimal", f"n{row}", "Template", note, "What is the patient's BMI?",
                 "{'weight': [65, 'kg']}", answer, lower, upper, "BMI is weight over height squared, which is the answer."]
            )  # fmt: skip
    return path


@pytest.mark.slow
@pytest.mark.alone
def test_help_answers_within_half_a_second() -> None:
    def seconds() -> float:
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from ehrmind.cli import main; main(['--help'])"], check=True, capture_output=True
        )
        return time.perf_counter() - begin

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("verb", [[], *VERBS], ids=" ".join)
def test_every_command_says_in_a_sentence_what_it_does(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb, "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].startswith("Usage: ehrmind")
    assert lines[1][0].isupper() and lines[1].endswith(".")


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"ehrmind {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["rnu"], "rnu"),
        (["run"], "RECIPE"),
        (["run", "recipe.yaml"], "--out"),
        (["run", "absent.yaml", "--out", "run"], "absent.yaml"),
        (["pilot", "absent.yaml", "--out", "run"], "absent.yaml"),
        (["evaluate", "absent.yaml", "--out", "run"], "absent.yaml"),
        (["check", "absent.parquet"], "absent.parquet"),
        (["data"], "command"),
        (["data", "medcalc", "absent.csv", "--out", "cases.parquet"], "absent.csv"),
        (["data", "medcalc", "owner/name", "--out", "cases.parquet"], "owner/name"),
        (["data", "medcalc", "absent.csv", "--out", "cases.parquet", "--split", "dev"], "dev"),
    ],
)
def test_bad_input_is_one_sentence_that_names_it_and_the_exit_code_is_2(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and named in said and "Traceback" not in said
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def wrapped(inner: Exception) -> Exception:
    """An error as a library hands it on."""
    try:
        raise RuntimeError("could not write") from inner
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a/metrics.jsonl"),
            2,
            "the disk is full (runs/a/metrics.jsonl)",
        ),
        (OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"), 2, "the disk is full"),
        (wrapped(OSError(errno.ENOSPC, "No space left on device")), 2, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), 2, "runs/a cannot be used: Permission denied"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "'torch', which is not installed"),
        (MemoryError(), 2, "memory ran out"),
        (KeyboardInterrupt(), 130, "--resume"),
        (KeyError(CANARY), 1, "unexpected KeyError in ehrmind/cli/stages.py, line"),
        (ValueError(f"could not parse {CANARY}"), 1, "unexpected ValueError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_goes_wrong_is_one_sentence_without_record_text(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ehrmind.config.load_recipe", mock.Mock(side_effect=error))
    assert run(["run", "recipe.yaml", "--out", "run"]) == code
    streams = capsys.readouterr()
    assert said in streams.err and streams.err.count("\n") == 1
    assert CANARY not in streams.err + streams.out and "Traceback" not in streams.err


def test_the_traceback_is_shown_to_who_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ehrmind.config.load_recipe", mock.Mock(side_effect=KeyError("a key")))
    monkeypatch.setenv("EHRMIND_TRACEBACK", "1")
    assert run(["run", "recipe.yaml", "--out", "run"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_rows_become_cases_and_every_row_is_counted(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cases.parquet"
    assert run(["data", "medcalc", rows, "--out", out, "--split", "held_out"]) == 0
    assert "kept 2 of 3 rows" in (said := capsys.readouterr().out) and CANARY not in said
    cases = load_cases(out)
    assert [case.split for case in cases] == ["held_out", "held_out"]
    assert all(CANARY in case.fields["note"] for case in cases)
    assert run(["data", "medcalc", rows, "--out", out, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["kept"] == 2 and sum(counts["left_out"].values()) == 1


def test_a_proven_data_set_leaves_with_0_and_a_broken_one_with_1(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    run(["data", "medcalc", rows, "--out", good])
    cases = load_cases(good)
    save_cases([cases[0], unprovable(cases[1])], bad)
    capsys.readouterr()
    assert run(["check", good]) == 0
    assert "2 of 2" in capsys.readouterr().out
    assert run(["check", good, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert run(["check", bad]) == 1
    said = capsys.readouterr().out
    assert "1 of 2" in said and cases[1].id in said and CANARY not in said
    assert run(["check", bad, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def unprovable(case: Case) -> Case:
    """A truth that its own limits exclude, so that the gold answer cannot be right."""
    return Case.from_json(
        json.dumps(json.loads(case.to_json()) | {"truth": dict(case.truth) | {"low": 90.0, "high": 99.0}})
    )


def test_the_doctor_works_without_torch_and_says_what_is_missing() -> None:
    code = "import sys; sys.modules['torch'] = None; from ehrmind.cli import main; main(['doctor', '--json'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["devices"]["cuda"] == "unknown, torch cannot be used"
    assert facts["versions"]["ehrmind"] == __version__
    assert set(facts["extras"]) >= {"train", "dev", "tracking"}
    assert facts["offline"]["state"].startswith("offline")


def test_the_libraries_are_told_to_stay_offline_unless_the_person_says_otherwise() -> None:
    def state(arguments: list[str], **environment: str) -> str:
        code = (
            f"import os; from ehrmind.cli import main\ntry: main({arguments!r})\nfinally: print('HF',"
            " os.environ.get('HF_HUB_OFFLINE'))"
        )
        clean = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=clean | environment,
            timeout=60,
            check=False,
        )
        return done.stdout.rpartition("HF ")[2].strip()

    medcalc = ["data", "medcalc", "absent.csv", "--out", "cases.parquet"]
    assert state(medcalc) == "1"
    assert state([*medcalc, "--online"]) == "None"
    assert state(medcalc, HF_HUB_OFFLINE="0") == "0"
