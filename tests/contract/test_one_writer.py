"""Every file that stays goes through `ehrmind.files`: no other module opens one for writing,
renames one, or lets a library write one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "ehrmind"
WRITING = {
    "write_text",
    "write_bytes",
    "write_parquet",
    "write_csv",
    "write_ndjson",
    "write_ipc",
    "sink_parquet",
    "save_file",
}
WRITING |= {
    "save_pretrained",
    "SummaryWriter",
    "mkstemp",
    "NamedTemporaryFile",
    "copyfile",
    "copyfileobj",
    "copytree",
    "move",
}
RENAMING = {"rename", "replace", "renames"}
# By module: why what it writes itself is no file that stays as it is. Everything in a folder of
# `written_whole` is renamed with it.
ELSEWHERE = {
    "files": "the one writer",
    "removal": "writes nothing",
    "engines/local/training/checkpoint": "in a folder of written_whole",
    "engines/local/saving/saved_model": "in a folder of written_whole",
    "engines/local/tiny": "in a folder of written_whole",
    "engines/local/saving/hf_export": "in a folder of written_whole, by `cli/export`",
    "engines/local/saving/converting": "in a folder of written_whole, by `cli/model`",
    "engines/local/saving/exporting": "in a folder of written_whole, by `cli/export`",
    "engines/local/opening/adapters": "in a folder of written_whole",
    "data/omop/convert": "in a folder of written_whole",
    "data/omop/tables": "columns of a frame",
    "data/omop/packed": "unpacks into a scratch folder that goes",
    "data/aces": "a scratch folder that goes, read by es-aces",
    "data/synthetic/cohort": "in a folder of written_whole, by `cli/ehr`",
    "runs/lock": "an empty lock file, and who holds it, which goes with the lock",
    "tracking": "TensorBoard's own writer; the folder is flushed and listed after it",
    "runs/folder": "a frame in memory, for the other workers",
    "cli/app": "the null device",
    "cli/quiet": "the null device",
    "engines/answers": "makes the empty file that answers are added to",
}


def writes(tree: ast.AST) -> Iterator[ast.Call]:
    imported = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "ehrmind.files"
        for name in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Name) and called in imported:
            continue
        if (called in WRITING and (node.args or not called.startswith("write_"))) or (
            called == "open" and _opens_for_writing(node)
        ):
            yield node
        elif called in RENAMING and isinstance(node.func, ast.Attribute) and len(node.args) == 1 and not node.keywords:
            owner = ast.unparse(node.func.value)
            if not isinstance(node.args[0], ast.Dict | ast.DictComp | ast.List) and "pl." not in owner:
                yield node


def _opens_for_writing(node: ast.Call) -> bool:
    said = [
        argument
        for argument in (*node.args, *(keyword.value for keyword in node.keywords))
        if isinstance(argument, ast.Constant)
    ]
    modes = [argument.value for argument in said if isinstance(argument.value, str) and len(argument.value) <= 3]
    return any(set(mode) & set("wax+") for mode in modes) or "O_CREAT" in ast.unparse(node)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_module_writes_files_beside_the_one_writer(path: Path) -> None:
    name = path.relative_to(SOURCE).with_suffix("").as_posix()
    found = [
        f"line {node.lineno}: {ast.unparse(node)[:80]}" for node in writes(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert name in ELSEWHERE or not found


def test_the_search_sees_every_way_of_writing() -> None:
    said = (
        "path.write_text('x')",
        "path.open('w')",
        "path.open(mode='ab')",
        "open(path, 'x')",
        "partial.replace(path)",
        "partial.rename(path)",
        "frame.write_parquet(path)",
        "os.open(path, os.O_CREAT | os.O_WRONLY)",
    )
    for line in said:
        assert list(writes(ast.parse(line))), line
    for line in (
        "text.replace('a', 'b')",
        "path.open('rb')",
        "path.open()",
        "frame.rename({'a': 'b'})",
        "from ehrmind.files import write_text\nwrite_text(p, t)",
    ):
        assert not list(writes(ast.parse(line))), line
