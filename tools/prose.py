"""Finds what a program can find of the rules for prose: `python tools/prose.py`, part of `make
check`.

It reads docstrings, comments and help texts of Python files, and the pages in Markdown:

- openings: a docstring starts with a verb or a noun;
- words: some words have a plainer one;
- widths of Markdown: 100 columns. Ruff holds those of Python.

It prints a line for each finding and exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "tests", "benchmarks", "examples", "docs", "recipes", "tools")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
GENERATED = ("docs/recipe.md", "docs/calculators.md", "docs/gallery.md")
COLUMNS = 100

OPENINGS = re.compile(r"(Of|What|Where|That|One that)\b")
WORDS = {
    "beside": "next to, with, in addition to",
    "whom": "which, who",
    "thereof": "of it",
    "learnt": "learned",
    "told": "given, said, named",
    "of its own making": "its own",
    "made up": "synthetic",
    "made-up": "synthetic",
    "luck": "chance",
    "sampler gap": "train-inference mismatch",
}
FOUND = re.compile(r"(?<![\w-])(" + "|".join(re.escape(word) for word in WORDS) + r")(?![\w-])", re.IGNORECASE)
QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"")  # names and quotations are as they are


def texts(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yields (line, text, whether it is a docstring) of a Python file."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text, True
        elif isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            for part in ast.walk(node.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.lineno, part.value, False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


def of_python(path: Path) -> Iterator[str]:
    """Yields a finding for each opening and each word in a Python file."""
    for line, text, is_docstring in texts(path):
        if is_docstring and (opening := OPENINGS.match(text)):
            yield f"{line}: a docstring begins with '{opening[0]}'; begin with a verb or a noun"
        yield from (f"{line}: {found}" for found in words(text))


def of_markdown(path: Path) -> Iterator[str]:
    """Yields a finding for each word and each long line of a page. Code blocks, tables, and lines
    that are one word longer than the width, such as addresses, are passed over."""
    is_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        if is_code:
            continue
        yield from (f"{number}: {found}" for found in words(line))
        is_table = line.lstrip().startswith("|")
        if len(line) > COLUMNS and not is_table and " " in line.strip()[:COLUMNS].lstrip("-* "):
            yield f"{number}: {len(line)} columns; wrap at {COLUMNS}"


def words(text: str) -> Iterator[str]:
    """Yields a finding for each word of the list in a text."""
    for found in FOUND.finditer(QUOTED.sub("", text)):
        yield f"'{found[0]}'; write {WORDS[found[0].lower()]}"


def main() -> int:
    """Prints all findings of the files named, or of the whole project; returns the exit code."""
    named = [Path(name).resolve() for name in sys.argv[1:]]
    files = named or [
        *(ROOT / page for page in PAGES),
        *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".py", ".md")),
    ]
    findings = [
        f"{file.relative_to(ROOT)}:{finding}"
        for file in files
        if file.relative_to(ROOT).as_posix() not in GENERATED and file != Path(__file__).resolve()
        for finding in (of_python(file) if file.suffix == ".py" else of_markdown(file))
    ]
    print(*findings, sep="\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
