"""No untyped mappings between rooms: `dict[str, Any]` and `Mapping[str, Any]` stand only where JSON
is read or written."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "ehrmind"
ROOMS = ("stages", "predict", "export", "report", "view")
UNTYPED = ("dict[str, Any]", "Mapping[str, Any]")

# Functions and classes that touch JSON, and how many untyped mappings each names.
BOUNDARIES = {
    "export/questions.py:_changed": 1,  # a recipe's tree before it is parsed
}


def untyped(path: Path, root: Path = SOURCE) -> Counter[str]:
    """Counts untyped mappings by the function or method around them."""
    found: Counter[str] = Counter()

    def walk(node: ast.AST, names: tuple[str, ...]) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = (*names, node.name)
        if isinstance(node, ast.Subscript) and ast.unparse(node) in UNTYPED:
            found[f"{path.relative_to(root).as_posix()}:{'.'.join(names)}"] += 1
        for child in ast.iter_child_nodes(node):
            walk(child, names)

    walk(ast.parse(path.read_text(encoding="utf-8")), ())
    return found


def test_untyped_mappings_stand_only_at_the_boundaries_of_json() -> None:
    found: Counter[str] = Counter()
    for room in ROOMS:
        for path in sorted((SOURCE / room).rglob("*.py")):
            found += untyped(path)
    assert dict(found) == BOUNDARIES, "give what crosses rooms a type of runs/records, or add a boundary of JSON"


def test_an_untyped_mapping_is_found_in_a_signature_and_in_a_body(tmp_path: Path) -> None:
    path = tmp_path / "room.py"
    path.write_text("class A:\n def f(self, x: dict[str, Any]) -> None:\n  y: list[Mapping[str, Any]] = []\n")
    assert untyped(path, tmp_path) == {"room.py:A.f": 2}
