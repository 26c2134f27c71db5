"""Known advisories of the pinned versions, by pip-audit: `make audit`.

It asks PyPI's database, then OSV's. A package that a database does not know is counted as not
looked up, never as free of advisories. The exit code is 0 whatever is found, because an advisory of
tomorrow must not stop today's tests; STRICT=1 makes findings, and a database that cannot be
reached, an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
SECONDS = 240


def ask(constraints: Path, service: str) -> dict[str, Any] | None:
    """pip-audit's report, None where it could not be made."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        how = [
            "--no-deps",
            "--disable-pip",
            "--progress-spinner",
            "off",
            "--timeout",
            "15",
            "--format",
            "json",
            "--output",
            str(report),
        ]
        command = [sys.executable, "-m", "pip_audit", "--service", service, "--requirement", str(constraints), *how]
        try:
            subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(report.read_text(encoding="utf-8")) if report.is_file() else None


def told(report: Mapping[str, Any], service: str) -> tuple[list[str], int, int]:
    """(lines to print, advisories found, packages that were looked up)"""
    known = [package for package in report["dependencies"] if "skip_reason" not in package]
    lines = [
        f"{package['name']} {package['version']}: {advisory['id']}, "
        + (
            f"mended in {', '.join(advisory['fix_versions'])}"
            if advisory.get("fix_versions")
            else "no mended version yet"
        )
        for package in known
        for advisory in package.get("vulns", [])
    ]
    count = (
        f"{len(known)} of {len(report['dependencies'])} pinned versions looked up ({service}): {len(lines)} known"
        " advisories"
    )
    return [*lines, count], len(lines), len(known)


def main(constraints: Path) -> int:
    strict = os.environ.get("STRICT") == "1"
    for service in SERVICES:
        report = ask(constraints, service)
        lines, findings, looked_up = told(report, service) if report else ([], 0, 0)
        if looked_up:
            print(*lines, sep="\n")
            return int(strict and findings > 0)
    print(
        "No database of advisories can be reached from here, so no version was looked up; run `make audit` on a"
        " connected machine."
    )
    return int(strict)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
