"""Rules for every tracked file: sizes that a person can read, a docstring on top, nothing of
anyone's machine in it.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_LINES, MOST_TEST_LINES, MOST_FUNCTION_LINES = 400, 500, 90
# A path of somebody's machine, and addresses: only those of publications, licences and invented
# examples.
MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:work|farm|root|home|Users|mnt|srv|tmp|opt)/[A-Za-z0-9_.-]+")
ADDRESS = re.compile(r"\b(?:https?|wss?|ftp)://([^/\s\"'`)>:\]}]+)")
KNOWN_HOSTS = re.compile(
    r"(localhost|127\.0\.0\.1|\[?::1|[\w.-]*\.?example(\.(com|org|net))?|[\w.-]+\.invalid|arxiv\.org|doi\.org|www\.apache\.org"
    r"|keepachangelog\.com|schemas\.openxmlformats\.org|semver\.org|www\.w3\.org|docs\.python\.org|\{.*)"
)


def tracked() -> list[Path]:
    """Files under version control, and new ones that are not ignored; of an unpacked source
    archive, all."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    names = (
        listed.stdout.splitlines()
        if listed.returncode == 0
        else [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.rglob("*")]
    )
    return sorted(path for name in names if (path := REPOSITORY / name).is_file())


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_module_fits_a_reader(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= (MOST_TEST_LINES if "tests" in path.parts else MOST_LINES), (
        f"{len(lines)} lines; find the two things this file is about"
    )
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or not tree.body, "no docstring says which room this is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MOST_FUNCTION_LINES, f"{node.name} has {length} lines and does not fit a screen"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_holds_nothing_of_a_machine(path: Path) -> None:
    text = text_of(path)
    if text is None:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#!"):
            continue
        assert not MACHINE_PATH.search(line), f"line {number} names a path of one machine"
        strangers = [host for host in ADDRESS.findall(line) if not KNOWN_HOSTS.fullmatch(host)]
        assert not strangers, f"line {number} names {strangers}; only publications and licences have addresses here"


def test_no_large_or_unsafe_file_is_tracked() -> None:
    unsafe = {".pkl", ".pickle", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".joblib"}
    assert not [name(path) for path in FILES if path.suffix in unsafe]
    assert not [name(path) for path in FILES if path.stat().st_size > 10_000_000]


def test_test_names_are_sentences() -> None:
    for path in PYTHON:
        if path.name.startswith("test_"):
            names = [
                node.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef)
            ]
            assert not [f"{name(path)}: {test}" for test in names if test.startswith("test_") and test.count("_") < 3]


def test_every_command_in_the_documents_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, flags=re.MULTILINE))
    from ehrmind.cli.app import app, data, exports, reviews, runs

    groups = {"data", "export", "new", "review", "runs", "synthetic"}
    verbs = {
        command.name for group in (app, data, exports, reviews, runs) for command in group.registered_commands
    } | groups
    for path in [path for path in FILES if path.suffix == ".md"]:
        code = " \n".join(_code(path))
        for target in re.findall(r"(?:^|\s)make ([a-z][a-z0-9-]*)", code):
            assert target in targets, f"{name(path)} speaks of `make {target}`, which the Makefile does not have"
        for verb, second in re.findall(r"(?:^|\s)ehrmind ([a-z]+)(?: ([a-z]+))?", code):
            assert verb in verbs, f"{name(path)} speaks of `ehrmind {verb}`, which does not exist"
            assert verb not in ("data", "export", "review", "runs") or second in verbs, (
                f"{name(path)} speaks of `ehrmind {verb} {second}`"
            )


def _code(path: Path) -> list[str]:
    """The code of a Markdown file: fenced blocks and what stands between backticks."""
    found = re.findall(r"`{3}\w*\n(.*?)`{3}|`([^`\n]+)`", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [block or inline for block, inline in found]
