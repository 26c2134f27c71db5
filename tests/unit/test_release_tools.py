"""`make audit` and `make sbom`: what is said of a report, and a bill of materials without places of
this machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import audit, sbom

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0)"}
CLEAN = {"name": "rich", "version": "15.0.0", "vulns": []}
FOUND = {
    "name": "jinja2",
    "version": "2.10",
    "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"]}, {"id": "X-1", "fix_versions": []}],
}


def answers(monkeypatch: pytest.MonkeyPatch, **reports: Any) -> None:
    monkeypatch.setattr(audit, "ask", lambda constraints, service: reports.get(service))


def test_a_database_that_knows_no_package_does_not_pass_for_one_without_advisories(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mirror of the index answers pip-audit's questions with "not found", and pip-audit then says
    that nothing was found."""
    for reports in ({"pypi": {"dependencies": [SKIPPED, SKIPPED]}}, {}):
        answers(monkeypatch, **reports)
        monkeypatch.delenv("STRICT", raising=False)
        assert audit.main(ROOT / "constraints.txt") == 0
        assert "no version was looked up" in capsys.readouterr().out
        monkeypatch.setenv("STRICT", "1")
        assert audit.main(ROOT / "constraints.txt") == 1


def test_findings_are_listed_and_fail_when_asked_to_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, osv={"dependencies": [SKIPPED, CLEAN, FOUND]})
    monkeypatch.setenv("STRICT", "")
    assert audit.main(ROOT / "constraints.txt") == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "jinja2 2.10: PYSEC-2019-217, mended in 2.10.1",
        "jinja2 2.10: X-1, no mended version yet",
        "2 of 3 pinned versions looked up (osv): 2 known advisories",
    ]
    monkeypatch.setenv("STRICT", "1")
    assert audit.main(ROOT / "constraints.txt") == 1
    answers(monkeypatch, pypi={"dependencies": [CLEAN]})
    assert audit.main(ROOT / "constraints.txt") == 0


def test_a_bill_names_no_place_on_this_machine() -> None:
    files = [
        {"type": "distribution", "url": "file:///somewhere/wheelhouse/x.whl"},
        {"type": "website", "url": "https://x.example/a/b/c"},
    ]
    part = {
        "name": "x",
        "purl": "pkg:pypi/x@1?download_url=file%3A%2F%2F%2Fsomewhere%2Fx.whl",
        "externalReferences": files,
    }
    tree: dict[str, Any] = {
        "metadata": {"component": {"name": "root", "externalReferences": files[:1]}},
        "components": [part],
    }
    assert sbom.places_left(json.loads(json.dumps(tree))) == ["root", "x", "x"]
    cleaned = sbom.without_places(tree)
    assert sbom.places_left(cleaned) == [] and "somewhere" not in json.dumps(cleaned)
    assert cleaned["components"][0] == {"name": "x", "purl": "pkg:pypi/x@1", "externalReferences": files[1:]}


def test_the_hooks_before_a_commit_are_the_checks_of_make_check() -> None:
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (check,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in check.splitlines()]
    assert [hook["entry"] for hook in hooks["hooks"]] == commands


@pytest.mark.long
def test_the_bill_of_this_environment_is_valid_and_the_same_each_time(tmp_path: Path) -> None:
    tools = ROOT / ".venv-tools" / "bin" / "python"
    if not tools.exists():
        pytest.skip("no .venv-tools here; `make sbom` makes it")
    for name in ("one", "two"):
        command = [tools, ROOT / "tools" / "sbom.py", ROOT / ".venv" / "bin" / "python", tmp_path / name]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "random"}, capture_output=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    bill = json.loads((tmp_path / "one").read_text())
    assert bill["bomFormat"] == "CycloneDX" and str(ROOT) not in (tmp_path / "one").read_text()
    pinned = dict(
        line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    named = {part["name"].lower(): part["version"].partition("+")[0] for part in bill["components"]}
    assert {name: named[name] for name in ("torch", "transformers", "pydantic")} == {
        name: pinned[name] for name in ("torch", "transformers", "pydantic")
    }
