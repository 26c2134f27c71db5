"""The source archive and the wheel: built, installed without a checkout, and the demo run
from there with every socket blocked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from ehrmind import __version__
from tests.e2e.recipes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BLOCKED = """
import socket
def refuse(*_, **__):
    raise RuntimeError("a socket was opened")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""
CUT = [
    "threads=1",
    *("data.train.limit=80", "data.tuning.limit=8", "data.held_out.limit=20", "data.transfer={}"),
    *("decoding.max_new_tokens=48", "pilot.questions=8", "pilot.samples=2", "pilot.interventions=0"),
    *("warmup.strata=all", "warmup.rehearsal=0", "warmup.epochs=1", "warmup.traces_per_stratum=8"),
    *("rlvr.steps=1", "rlvr.questions_per_step=4", "rlvr.samples=2"),
]


def ran(*command: str | Path, cwd: Path) -> str:
    alone = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=alone, capture_output=True, text=True, check=False, timeout=560
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hatchling(source: Path, target: str, out: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", out],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from the unpacked source archive, so that both are tried."""
    folder = tmp_path_factory.mktemp("dist")
    shutil.unpack_archive(hatchling(ROOT, "sdist", folder), folder)
    return hatchling(folder / f"ehrmind-{__version__}", "wheel", folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, borrows all other packages from this,
    and opens no socket."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder)
    packages = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    ran(sys.executable, "-m", "pip", "--python", folder, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages / "blocked.py").write_text(BLOCKED)
    # Python reads no .pth file in a folder that a .pth file adds, so the editable install of the
    # checkout is not seen.
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport blocked\n")
    return folder / "bin"


def test_the_wheel_holds_every_recipe_that_ships_and_no_script(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {name.removeprefix("ehrmind/recipes/") for name in names if name.startswith("ehrmind/recipes/")}
    listed = {path.name for path in (ROOT / "recipes").glob("*.yaml")}
    bases = {
        f"{base}/{path.name}" for base in ("demo_base", "demo_records") for path in (ROOT / "recipes" / base).iterdir()
    }
    assert shipped == listed | bases and len(bases) == 12
    assert {name.partition("/")[0] for name in names} == {"ehrmind", f"ehrmind-{__version__}.dist-info"}


def test_the_installed_package_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    where = ran(installed / "python", "-c", "import ehrmind; print(ehrmind.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(installed.parent)
    assert ran(installed / "ehrmind", "--version", cwd=tmp_path) == f"ehrmind {__version__}\n"
    assert ran(installed / "ehrmind", "recipes", cwd=tmp_path).count("\n") == len(
        list((ROOT / "recipes").glob("*.yaml"))
    )
    connect = [installed / "python", "-c", "import socket; socket.create_connection(('localhost', 9))"]
    assert "a socket was opened" in subprocess.run(connect, capture_output=True, text=True, check=False).stderr


def test_the_demo_of_the_wheel_runs_all_families_without_a_checkout_and_without_a_network(
    installed: Path, tmp_path: Path
) -> None:
    said = ran(installed / "ehrmind", "demo", *CUT, cwd=tmp_path)
    for family in ("demo", "demo-trials", "demo-ehr"):
        run = tmp_path / "runs" / family
        arms = json.loads((run / "results.json").read_text())["arms"]
        assert {"base", "sft_rlvr"} <= arms.keys() and {figures["n"] for figures in arms.values()} == {20}
        assert (run / "report.html").is_file() and f"page: runs/{family}/report.html" in said
        assert str(ROOT) not in (run / "recipe.yaml").read_text()
    assert "page: runs/demo/report.html" in ran(installed / "ehrmind", "demo", "medcalc", *CUT, cwd=tmp_path), (
        "given again, it goes on"
    )
