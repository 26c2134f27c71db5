"""A software bill of materials of an installed environment, by CycloneDX's own tool: `make sbom`.

The same environment gives the same bytes. Addresses of files on this machine, as an installation
from a folder of wheels or from a checkout leaves them, are taken out. What is written keeps to
CycloneDX's schema.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

SCHEMA = "1.6"
VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
LOCAL = re.compile(r"file:|file%3A|(?<![\w.:/])/(?:[\w.-]+/)+")


def described(python: str, root: Path) -> dict[str, Any]:
    """The bill of the environment of `python`, for the project in `root`."""
    how = [
        "--output-reproducible",
        "--output-format",
        "JSON",
        "--spec-version",
        SCHEMA,
        "--no-validate",
        "--pyproject",
        str(root / "pyproject.toml"),
    ]
    command = [sys.executable, "-m", "cyclonedx_py", "environment", *how, python]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise SystemExit(f"cyclonedx-py cannot describe the environment of {python}: {made.stderr.strip()[-300:]}")
    tree: dict[str, Any] = json.loads(made.stdout)
    named = VERSION.search((root / "src" / "ehrmind" / "__init__.py").read_text(encoding="utf-8"))
    assert named is not None, "the version stands in src/ehrmind/__init__.py"
    tree["metadata"]["component"] |= {"version": named[1], "purl": f"pkg:pypi/ehrmind@{named[1]}"}
    return tree


def without_places(tree: dict[str, Any]) -> dict[str, Any]:
    """The bill without addresses on this machine."""
    for part in [tree["metadata"]["component"], *tree.get("components", [])]:
        kept = [one for one in part.get("externalReferences", []) if not str(one.get("url", "")).startswith("file:")]
        part.pop("externalReferences", None)
        if kept:
            part["externalReferences"] = kept
        if "file:" in part.get("purl", "") or "file%3A" in part.get("purl", ""):
            part["purl"] = part["purl"].partition("?")[0]
    return tree


def places_left(tree: dict[str, Any]) -> list[str]:
    """Components that still name a place on this machine."""
    parts = [tree["metadata"]["component"], *tree.get("components", [])]
    return [
        part["name"]
        for part in parts
        for key in ("purl", "externalReferences", "evidence")
        if LOCAL.search(json.dumps(part.get(key)))
    ]


def problem_of(text: str) -> str | None:
    """Returns what the schema finds wrong, None if nothing."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.from_version(SCHEMA)).validate_str(text)
    return None if found is None else str(found)[:300]


def main(python: str, out: Path) -> None:
    tree = without_places(described(python, Path(__file__).resolve().parents[1]))
    if left := places_left(tree):
        raise SystemExit(
            f"The bill would name places on this machine ({', '.join(sorted(set(left)))}); install these from an index."
        )
    text = json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if problem := problem_of(text):
        raise SystemExit(f"The bill does not keep to CycloneDX {SCHEMA}: {problem}")
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}: {len(tree['components'])} components")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
