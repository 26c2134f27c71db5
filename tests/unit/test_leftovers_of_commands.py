"""Files that a killed command left half-written go with the next command that writes into its
folder, whatever name they were to have.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ehrmind.cli import main
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.runs import Run, open_run
from ehrmind.runs.start import FOLDERS
from ehrmind.stages.seeds import run_seeds
from ehrmind.temporary import temporary_folder
from tests import evaluated_run
from tests.exported import cases_file
from tests.kills import commands
from tests.kills.power import Disk
from tests.run_folder import recipe

CANARY = "Canary-of-the-record"
NOT_OURS = (
    ".notes.partial",
    ".notes.12345678.partial.bak",
    ".notes.XYZ45678.partial",
    "notes.12345678.partial",
    ".12345678.partial",
)
WRITING = {
    "data table": (commands.rows, f"{commands.TABLE} --out OUT/cases.parquet"),
    "data audit": (commands.medcalc, "data audit medcalc.csv --out OUT/corrected.csv"),
    "data new medcalc": (commands.medcalc, "data new medcalc medcalc.csv --out OUT/new.parquet"),
    "data synthetic ehr": (commands.nothing, "data synthetic ehr --subjects 20 --events 20 --labels 1 --out OUT/meds"),
    "data omop": (commands.omop, "data omop omop --out OUT/meds"),
    "export trl": (lambda folder: cases_file(folder), "export trl cases.parquet --out OUT/trl"),
}


def half_written(folder: Path) -> list[Path]:
    """A file and a folder as kills leave them, of other names than the next command's."""
    file, inner = folder / ".earlier.parquet.0123abcd.partial", folder / ".earlier.4567cdef.partial"
    file.write_text(CANARY)
    inner.mkdir()
    (inner / "part").write_text(CANARY)
    return [file, inner]


@pytest.mark.parametrize("name", WRITING)
def test_the_next_command_in_the_folder_removes_it_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, arguments = WRITING[name]
    inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OUT").mkdir()
    left = half_written(tmp_path / "OUT")
    held = tmp_path / "OUT" / ".living.89abcdef.partial"
    held.touch()
    others = [tmp_path / "OUT" / other for other in NOT_OURS]
    for other in others:
        other.write_text("mine")
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as one does that is being written
        with pytest.raises(SystemExit) as ended:
            main(arguments.split())
    assert ended.value.code == 0
    assert not any(map(os.path.lexists, left))
    assert held.exists() and all(other.read_text() == "mine" for other in others)


def test_a_temporary_folder_is_private_and_those_of_killed_commands_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, other = tmp_path / ".copies.0123abcd.partial", tmp_path / ".others.0123abcd.partial"
    for folder in (left, other):
        folder.mkdir()
        (folder / "events.parquet").write_text(CANARY)
    with temporary_folder("copies") as mine, temporary_folder("copies") as again:
        assert not left.exists() and other.exists() and mine != again
        assert mine.stat().st_mode & 0o777 == 0o700 == again.stat().st_mode & 0o777
    assert list(tmp_path.iterdir()) == [other]


def test_checkpoints_of_a_stage_that_is_done_go_when_the_run_goes_on(tmp_path: Path) -> None:
    made = recipe(kl=0.0)
    run = open_run(tmp_path / "run", made, resume=False)
    with run.stage("warmup"):
        pass
    for name in (
        "warmup/step-000001",
        "rlvr-sft_rlvr",
    ):  # a kill came after the mark, or within the removal; the other is not done
        (run.checkpoints("warmup").parent / name).mkdir(parents=True)
    open_run(tmp_path / "run", made, resume=True)
    assert [path.name for path in run.checkpoints("warmup").parent.iterdir()] == ["rlvr-sft_rlvr"]


def test_a_run_whose_next_seed_was_killed_at_its_first_moment_goes_on(tmp_path: Path) -> None:
    ScriptedEngine(evaluated_run.plan).save(tmp_path / "base")
    chosen = evaluated_run.recipe(seeds=2, evaluate={"general": None}, arms=["base"])
    whole = run_seeds(
        chosen, tmp_path / "run", open_engine=evaluated_run.opened, locate=lambda _: tmp_path / "base"
    ).read_json("results.json")
    second = tmp_path / "run" / "seeds" / "1"
    for path in sorted(
        second.rglob("*"), reverse=True
    ):  # left are its folders and its recipe, which no manifest lists yet
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    for folder in (
        path for path in second.rglob("*") if path.is_dir() and path.relative_to(second).as_posix() not in FOLDERS
    ):
        shutil.rmtree(folder, ignore_errors=True)
    Run(tmp_path / "run").remove("results.json", "stages/seeds.json")
    again = run_seeds(
        chosen, tmp_path / "run", resume=True, open_engine=evaluated_run.opened, locate=lambda _: tmp_path / "base"
    ).read_json("results.json")
    assert again["arms"] == whole["arms"]


def test_a_model_that_a_library_has_written_survives_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")

    synced = os.fsync
    for seed in range(8):
        (top := tmp_path / str(seed)).mkdir()
        disk = Disk(top)

        def sync(descriptor: int, disk: Disk = disk) -> None:
            synced(descriptor)
            disk.synced(descriptor)

        monkeypatch.setattr(os, "fsync", sync)
        open_run(top / "run", recipe(kl=0.0), resume=False).keep_model("base", save)
        disk.lose_power(seed)
        assert (tmp_path / f"{seed}.after" / "run/protected/models/base/model.safetensors").read_bytes() == b"weights"
