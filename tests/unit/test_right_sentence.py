"""Errors of the machine are named as such: one sentence, the right exit code, no traceback, whoever
wraps the error.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import polars as pl
import pytest

from ehrmind.cli import errors
from ehrmind.system import is_full, number_of, path_of
from tests.meds_data import write_meds
from tests.new_rows import ehrmind, medcalc_csv, trials_files

RECORD = "Zqx Doe, 63: No space left on device (os error 28)"  # a record may say anything
RUST = 'IoError(Os { code: 28, kind: StorageFull, message: "x" })'
FULL = "No space left on device (os error 28)"


def made(module: str, name: str, text: str) -> Exception:
    """An error of a library that need not be installed."""
    return type(name, (Exception,), {"__module__": module})(text)  # type: ignore[no-any-return]


def failing(change: Callable[[], object]) -> Exception:
    try:
        change()
    except Exception as error:  # noqa: BLE001 - whatever the library raises
        return error
    raise AssertionError("it should have failed")


def system(number: int, name: str | None = "runs/a") -> OSError:
    return OSError(number, os.strerror(number), name)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with mock.patch.dict("os.environ"):
        yield
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (system(errno.ENOSPC), 2, "the disk is full (runs/a); make room"),
        (system(errno.EDQUOT), 2, "the quota of this disk is used up (runs/a); make room"),
        (OSError(FULL), 2, "the disk is full; make room"),
        (pl.exceptions.ComputeError(f"parquet: File out of specification: underlying IO error: {FULL}"), 2, "the disk is full"),
        (made("safetensors_rust", "SafetensorError", f"Error while serializing: I/O error: {FULL}"), 2, "the disk is full"),
        (made("safetensors_rust", "SafetensorError", f"Error while serializing: {RUST}"), 2, "the disk is full"),
        (Exception(FULL), 2, "the disk is full"),  # of tokenizers
        (made("ray.exceptions", "OutOfDiskError", "Local disk is full"), 2, "the disk is full"),
        (system(errno.EROFS), 2, "runs/a cannot be used: Read-only file system; name a place that can be written"),
        (system(errno.EMFILE), 2, "Too many open files; raise the limit of open files"),
        (system(errno.EIO), 2, "Input/output error; check the disk"),
        (system(errno.ESTALE), 2, "Stale file handle; mount"),
        (system(errno.ENAMETOOLONG), 2, "File name too long; give it a shorter name"),
        (system(errno.EISDIR), 2, "Is a directory; name a file"),
        (system(errno.EACCES, None), 2, "a file or a connection cannot be used: Permission denied"),
        (pl.exceptions.ComputeError("Permission denied (os error 13): ..."), 2, "cannot be used: Permission denied"),
        (system(errno.EACCES, RECORD), 2, "a file or a connection cannot be used: Permission denied"),
        (system(errno.ENAMETOOLONG, RECORD * 9), 2, "a file or a connection cannot be used: File name too long"),
        (system(errno.ENOENT, f"{RECORD}\n{RECORD}"), 2, "cannot be used: No such file or directory"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, "whatever read the output has gone"),
        (MemoryError(), 2, "memory ran out"),
        (system(errno.ENOMEM, None), 2, "memory ran out"),
        (ImportError(f"cannot import name 'x' from {RECORD}", name="polars._reexport"), 2, "the package 'polars' is installed and cannot"),
        (ImportError(RECORD), 2, "a package is installed and cannot"),
        (OSError("libcudart.so.12: cannot open shared object file: No such file"), 2, "a package is installed and cannot"),
        (RecursionError(RECORD), 2, "nested too deeply"),
        (OverflowError(RECORD), 2, "larger than can be computed with"),
        (made("jinja2.exceptions", "SecurityError", RECORD), 2, "a template that was given does what is not allowed"),
        (UnicodeEncodeError("utf-8", "Zqx\udcff", 3, 4, "surrogates not allowed"), 2, "holds bytes that are no text"),
        (EOFError(RECORD), 1, "unexpected EOFError in ehrmind/cli/stages.py"),
        # A record that quotes an error of the system is no such error.
        (ValueError(RECORD), 1, "unexpected ValueError"),
        (ValueError(FULL), 1, "unexpected ValueError"),
        (KeyError(FULL), 1, "unexpected KeyError"),
        (RuntimeError(f"[Errno 28] {FULL}"), 1, "unexpected RuntimeError"),
        (failing(lambda: pl.Series([FULL]).cast(pl.Int64)), 1, "unexpected InvalidOperationError"),
        (failing(lambda: pl.read_csv(f"a\n1\n{FULL}\n".encode(), schema={"a": pl.Int64})), 1, "unexpected ComputeError"),
        (pl.exceptions.ComputeError(f"could not parse `{FULL}`"), 1, "unexpected ComputeError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)  # fmt: skip
def test_an_error_becomes_its_own_sentence(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ehrmind.config.load_recipe", mock.Mock(side_effect=error))
    assert ehrmind("run", "recipe.yaml", "--out", "run") == code
    streams = capsys.readouterr()
    assert said in streams.err and streams.err.strip().count("\n") == 0, streams.err
    assert "zqx" not in (streams.err + streams.out).lower() and "Traceback" not in streams.err


def test_what_polars_and_pyarrow_say_of_a_really_full_device_is_understood() -> None:
    frame = pl.DataFrame({"a": range(100_000)})
    for write in (
        lambda: frame.write_csv("/dev/full"),
        lambda: frame.write_ipc("/dev/full"),
        lambda: frame.lazy().sink_csv("/dev/full"),
        lambda: frame.lazy().sink_parquet("/dev/full"),
    ):
        error = failing(write)
        assert is_full(error) and number_of(error) == errno.ENOSPC, repr(error)


def test_a_path_is_shown_where_it_is_one(tmp_path: Path) -> None:
    there = tmp_path / "a file with blanks"
    assert path_of(system(errno.EACCES, str(there))) == str(there)
    assert path_of(OSError(errno.EACCES, "x", os.fsencode(there))) == str(there)
    assert path_of(system(errno.EACCES, "Jane Doe, 63 years")) is None
    assert path_of(system(errno.EACCES, "a\nb")) is None and path_of(system(errno.EACCES, None)) is None


def pipe(path: Path) -> None:
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.symlink_to(path.name)


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (pipe, "is a pipe or a device"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link to a file that is not there"),
    "a circle of links": (circle, "Too many levels of symbolic links"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
}
LABEL = ("--kind", "label", "--label", "no", "--label", "yes", "--out", "o.parquet")


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_file_is_refused_as_what_it_is_and_nothing_hangs(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics, records = trials_files(tmp_path)
    meds = write_meds(tmp_path / "meds", 6)
    odd, said = tmp_path / "odd", STRANGE[what][1]
    for name, *command in (
        ("a.csv", "data", "medcalc", "{}", "--out", "o.parquet"),
        ("a.csv", "data", "audit", "{}"),
        ("a.xlsx", "data", "table", "{}", *LABEL),
        ("a.jsonl.gz", "data", "table", "{}", *LABEL),
        ("a.parquet", "check", "{}"),
        ("a.yaml", "run", "{}", "--out", "r"),
        ("a.xml", "data", "new", "trials", "--topics", "{}", "--trials", records, "--out", "o.parquet"),
        ("a.zip", "data", "new", "trials", "--topics", topics, "--trials", "{}", "--out", "o.parquet"),
        ("a.zip", "data", "omop", "{}", "--out", "o"),
        ("a.csv", "data", "new", "ehr", "--meds", meds, "--times", "{}", "--out", "o.parquet"),
    ):
        if what == "a folder" and name == "a.zip":
            continue  # a folder of records
        odd.mkdir(exist_ok=True)
        path = odd / name
        STRANGE[what][0](path)
        signal.alarm(20)
        assert ehrmind(*(path if part == "{}" else part for part in command)) == 2
        signal.alarm(0)
        streams = capsys.readouterr()
        assert str(path) in streams.err and streams.err.count("\n") == 1, (command, streams.err)
        assert said in streams.err, (command, streams.err)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_a_name_that_is_too_long_is_told_as_that(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert ehrmind("data", "medcalc", tmp_path / ("a" * 300 + ".csv"), "--out", "o.parquet") == 2
    assert "File name too long; give it a shorter name" in capsys.readouterr().err


def test_an_end_of_file_in_a_command_is_no_answer_to_a_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ehrmind.data.medcalc.read_medcalc", mock.Mock(side_effect=EOFError(RECORD)))
    assert ehrmind("data", "medcalc", "rows.csv", "--out", "o.parquet") == 1
    said = capsys.readouterr().err
    assert "EOFError" in said and "nobody said yes" not in said and "Zqx" not in said


def test_control_signs_of_a_name_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ehrmind("data", "medcalc", tmp_path / "a\x1b[31mred\u202e\nline.csv", "--out", "o.parquet") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "\x1b" not in said and "\u202e" not in said


def test_an_options_value_is_shown_only_if_it_is_one_short_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert ehrmind("data", "table", "x.csv", "--kind", "Zqx Doe, 63", "--out", "o") == 2
    assert ehrmind("runs", "list", "a", "Zqx", "Doe") == 2
    said = capsys.readouterr().err
    assert "Zqx" not in said and "it is not one of 'number'" in said and "put quotes around" in said
    assert ehrmind("data", "table", "x.csv", "--kind", "labels", "--out", "o") == 2
    assert "'labels' is not one of" in capsys.readouterr().err


# Real processes: what the interpreter itself would print.


def process(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Python code before a command, in a process of its own."""
    whole = f"import sys\nsys.argv = ['ehrmind', *{list(arguments)!r}]\n{code}\nfrom ehrmind.cli import main\nmain()\n"
    environment = {**os.environ, **(options.pop("env", None) or {})}  # type: ignore[dict-item]
    return subprocess.run(
        [sys.executable, "-c", whole],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
        **options,
    )  # type: ignore[call-overload, no-any-return]


HOOKS = """
import asyncio, gc, logging, threading, warnings
from ehrmind.cli import quiet
before = quiet.withhold_texts
class Torn:
    def __del__(self):
        raise ValueError("Zqx Doe in a destructor")
def crash():
    raise KeyError("Zqx Doe in a thread")
async def lost():
    async def task():
        raise ValueError("Zqx Doe in a task")
    made = asyncio.ensure_future(task())
    await asyncio.sleep(0)
    del made
    gc.collect()
def after():
    before()
    thread = threading.Thread(target=crash); thread.start(); thread.join()
    Torn(); gc.collect()
    asyncio.run(lost())
    warnings.warn("Zqx Doe in a warning")
    logging.getLogger("some.library").warning("Zqx Doe in a log")
    logging.getLogger("ehrmind.x").warning("a sentence of ours")
    import resource
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
quiet.withhold_texts = after
"""


def test_threads_destructors_tasks_warnings_and_logs_are_said_without_their_texts() -> None:
    done = process(HOOKS, "runs", "list", ".")
    assert done.returncode == 0 and "Zqx" not in done.stdout + done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )
    for said in ("a thread ended by KeyError", "ValueError in a library while something was put away", "error of asyncio, ValueError",
                 "UserWarning of", "warning of some.library", "a sentence of ours"):  # fmt: skip
        assert said in done.stderr, (said, done.stderr)
    shown = process(HOOKS, "runs", "list", ".", env={"EHRMIND_TRACEBACK": "1"})
    assert shown.stderr.count("Zqx Doe") >= 5, "who asks for the texts sees them"


def test_output_that_nobody_reads_ends_in_a_sentence(tmp_path: Path) -> None:
    def to(redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from ehrmind.cli import main; main()"
        line = f'"$0" -c "{code}" {" ".join(arguments)} {redirected}'
        return subprocess.run(
            ["bash", "-c", line, sys.executable], capture_output=True, text=True, timeout=120, check=False
        )

    gone = to("| true; echo ${PIPESTATUS[0]} >&2", "data", "synthetic", "--help")
    codes = [int(word) for word in gone.stderr.split() if word.isdigit()]
    assert codes in ([0], [141]) and "Traceback" not in gone.stderr and "Exception ignored" not in gone.stderr, (
        gone.stderr
    )
    full = to(">/dev/full", "calc", "list")
    assert (
        full.returncode == 2 and full.stderr.startswith("ehrmind: the disk is full") and full.stderr.count("\n") == 1
    ), full.stderr
    closed = to(">&- 2>&-", "runs", "list", str(tmp_path / "nowhere"))
    assert closed.returncode == 2
    rows = medcalc_csv(tmp_path)
    made = to(">&-", "data", "new", "medcalc", str(rows), "--out", str(tmp_path / "new.parquet"))
    assert made.returncode == 0 and pl.read_parquet(tmp_path / "new.parquet").height == 2, (
        "what is printed does not run into a file"
    )


def test_a_terminal_without_utf8_and_bytes_that_are_no_text_end_in_a_sentence(tmp_path: Path) -> None:
    poor = {"PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C"}
    done = process("", "runs", "list", os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9"), env=poor)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "There is no folder" in done.stderr, done.stderr
    (tmp_path / "é.csv").write_text("a,b\n1,2\n")
    done = process("", "data", "medcalc", str(tmp_path / "é.csv"), "--out", "o.parquet", env=poor)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no column" in done.stderr, done.stderr


def test_ctrl_c_at_import_and_a_second_one_are_one_sentence() -> None:
    early = """
class Pressed:
    def find_spec(self, name, *rest):
        if name == "ehrmind.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
"""
    done = process(early, "runs", "list", ".")
    assert (
        done.returncode == 130
        and done.stderr == "ehrmind: stopped by the keyboard; nothing was begun, so give the same command again.\n"
    )
    twice = """
import os, signal
import ehrmind.runs.index as listing
def pressed(root):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
listing.list_runs = pressed
"""
    done = process(twice, "runs", "list", ".")
    assert done.returncode == 130 and done.stderr.count("\n") == 1 and "stopped by the keyboard" in done.stderr, (
        done.stderr
    )


def test_a_broken_installation_is_told_before_anything_else() -> None:
    broken = "sys.modules['typer'] = None"
    done = process(broken, "--help")
    assert (
        done.returncode == 2
        and done.stderr
        == "ehrmind: the package typer is missing or broken; install ehrmind again, with constraints.txt.\n"
    )


def test_a_second_signal_meets_the_systems_own_handler() -> None:
    errors.end_at_once_on_another_signal()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
