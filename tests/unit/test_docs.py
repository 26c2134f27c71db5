"""docs: the pages made from the code are current, links lead somewhere, recipes in the pages are
recipes, commands do what is said.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ehrmind.cli.app import app
from ehrmind.config import parse_recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHORT = ("start-here", "your-data", "your-model", "recipe", "reading-a-report", "extending")
PAGES = sorted(DOCS.glob("*.md"))


@cache
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced blocks of a page that are marked as `kind`."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [text for mark, text in found if mark == kind]


@pytest.mark.parametrize("name", ["recipe.md", "gallery.md", "results.schema.json", "rollouts.schema.json"])
def test_a_page_made_from_the_code_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == generator().PAGES[name](), "run python docs/generate.py"


def test_every_key_of_the_recipe_is_described() -> None:
    rows = [line for line in generator().recipe_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 150 and not [row for row in rows if row.endswith("|  |")]


def test_a_gold_response_in_the_gallery_is_right() -> None:
    from ehrmind.prompts import gold_response
    from ehrmind.verify import judge

    cases = [case for family in generator().examples().values() for case in family]
    assert {case.truth["kind"] for case in cases} == {"decimal", "integer", "date", "weeks_days", "label"}
    assert all(judge(case, gold_response(case)).correct for case in cases)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    words = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target, _, anchor in re.findall(r"\]\(((?!\w+:)[^)#\s]*)(#([^)\s]+))?\)", words):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            text = file.read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in known | set(re.findall(r'id="([^"]+)"', text)), f"{page.name} links to {target}#{anchor}"


def test_every_page_stands_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in PAGES if page.name != "README.md" and f"]({page.name})" not in index]


@pytest.mark.parametrize("name", SHORT)
def test_recipes_in_the_short_pages_are_recipes(name: str) -> None:
    for block in blocks(DOCS / f"{name}.md", "yaml"):
        synthetic = {"synthetic": {"n": 3}}
        tree = {"data": {"train": synthetic, "held_out": synthetic}, "model": {"tiny": {}}} | yaml.safe_load(block)
        assert parse_recipe(tree, source=name).model_fields_set == tree.keys()


def test_the_commands_of_your_data_prove_the_table_that_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, made, checked, *_ = blocks(DOCS / "your-data.md", "")
    monkeypatch.chdir(tmp_path)
    Path("questions.csv").write_text(table)
    for command in (made, checked):
        program, *arguments = shlex.split(command)
        told = CliRunner().invoke(app, arguments)
        assert program == "ehrmind" and told.exit_code == 0, told.output
    assert "kept 2 of 2 rows" in CliRunner().invoke(app, shlex.split(made)[1:]).output
