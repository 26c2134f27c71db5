"""A purge removes what is protected, wherever it lies, or says what is left; modes are set and
looked at whenever a folder is opened.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ehrmind.cli.app import main
from ehrmind.config import Recipe, parse_recipe
from ehrmind.runs import Run, lock, open_run
from ehrmind.runs.lock import only_writer
from ehrmind.runs.manifest import Manifest
from ehrmind.runs.predictions import open_predictions
from ehrmind.runs.purge import purge
from ehrmind.runs.recovery import clear_all_leftovers
from ehrmind.runs.verifying import verify
from ehrmind.types import InputError
from tests.killed import DONE, REFUSED, in_child

ONES = (
    "cases/train.parquet",
    "rollouts/pilot-000000.parquet",
    "checkpoints/rlvr-rlvr/step-000001/progress.json",
    "models/base/config.json",
)


@pytest.fixture
def recipe() -> Recipe:
    synthetic = {"synthetic": {"n": 4, "seed": 1}}
    return parse_recipe({"name": "t", "data": {"train": synthetic, "held_out": synthetic}, "model": {"tiny": {}}})


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Run:
    return filled(open_run(tmp_path / "run", recipe, resume=False))


def filled(run: Run) -> Run:
    for name in ONES:
        (run.protected / name).parent.parent.mkdir(mode=0o700, exist_ok=True)
        run.put(f"protected/{name}", b'{"text": "' + b"record text " * 999 + b'"}')
    return run


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()
    )


def is_marked(run: Run) -> bool:
    return (run.path / "stages" / "purged.json").is_file()


def moved(folder: Path, to: Path) -> Path:
    """The folder elsewhere, and a link in its place."""
    shutil.move(folder, to)
    folder.symlink_to(to)
    return to


# What a link leads to


def test_what_lies_on_another_disk_is_removed_and_its_place_is_said(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = moved(run.protected, tmp_path / "disk")
    with pytest.raises(SystemExit) as stop:
        main(["runs", "purge", str(run.path), "--yes"])
    assert not stop.value.code and f"what of it lies in {disk}" in capsys.readouterr().out
    assert not files(disk) and is_marked(run)


def test_a_part_that_lies_on_another_disk_is_removed_too(run: Run, tmp_path: Path) -> None:
    disk = moved(run.protected / "rollouts", tmp_path / "scratch")
    assert purge(run.path) == 48_000 and not files(disk) and is_marked(run)


@pytest.mark.parametrize("part", ["", "models", "checkpoints", "cases"])
def test_a_link_to_a_place_with_other_peoples_files_removes_none_of_them(part: str, run: Run, tmp_path: Path) -> None:
    disk = moved(run.protected / part, tmp_path / "disk")
    (disk / "theirs").mkdir()
    (disk / "theirs" / "precious.txt").write_text("mine")
    with pytest.raises(
        InputError, match=rf"still holds.*links to {disk}, where theirs/precious.txt is not known to be of this run"
    ):
        purge(run.path)
    assert "theirs/precious.txt" in files(disk) and len(files(disk)) > 1 and not is_marked(run)
    shutil.rmtree(disk / "theirs")
    assert purge(run.path) > 0 and not files(disk) and is_marked(run)


@pytest.mark.parametrize("name", ["cases/theirs.parquet", "predictions/theirs.parquet", "teacher/notes.jsonl"])
def test_a_file_of_somebody_else_with_such_an_ending_is_not_taken_for_ours(name: str, run: Run, tmp_path: Path) -> None:
    (run.protected / name).parent.mkdir(exist_ok=True)
    disk = moved(run.protected / Path(name).parent, tmp_path / "disk")
    (disk / Path(name).name).write_text("theirs")
    with pytest.raises(InputError, match=f"where {Path(name).name} is not known to be of this run"):
        purge(run.path)
    assert Path(name).name in files(disk) and not is_marked(run)


@pytest.mark.parametrize("part", ["", "models"])
def test_a_run_whose_protected_folder_lies_on_another_disk_is_proven_and_cleared_like_others(
    part: str, run: Run, tmp_path: Path
) -> None:
    disk = moved(run.protected / part, tmp_path / "disk")
    assert not list(verify(run.path))
    models = disk if part else disk / "models"
    (models / "base").rename(models / ".base.0123abcd.replaced")  # a kill between two renames
    assert {fault.what for fault in verify(run.path)} == {"gone", "half-written"}
    clear_all_leftovers(run)
    assert not list(verify(run.path)) and (models / "base").is_dir()


def test_a_link_deep_inside_is_named_and_neither_followed_nor_forgotten(run: Run, tmp_path: Path) -> None:
    disk = moved(run.protected / "models" / "base", tmp_path / "shared-model")
    with pytest.raises(InputError, match=f"links to {disk}, which may not be of this run"):
        purge(run.path)
    assert files(disk) and not is_marked(run) and files(run.protected) == ["models/base"], "all else is gone"


def test_a_disk_that_is_not_mounted_is_no_purged_run(run: Run, tmp_path: Path, recipe: Recipe) -> None:
    moved(run.protected, tmp_path / "disk")
    (tmp_path / "disk").rename(tmp_path / "away")
    with pytest.raises(InputError, match="which is not there: mount that disk"):
        purge(run.path)
    assert not is_marked(run) and files(tmp_path / "away")
    with pytest.raises(InputError, match="purged in part"):
        open_run(run.path, recipe, resume=True)


def test_a_run_whose_disk_is_not_mounted_is_not_begun_again(run: Run, tmp_path: Path, recipe: Recipe) -> None:
    moved(run.protected, tmp_path / "disk")
    (tmp_path / "disk").rename(tmp_path / "away")
    with pytest.raises(InputError, match="is not there; mount that disk"):
        open_run(run.path, recipe, resume=True)
    (tmp_path / "away").rename(tmp_path / "disk")
    assert len(files(open_run(run.path, recipe, resume=True).protected)) == len(ONES)


# What cannot be removed


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root alone")


def given_to(user: int, folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)


def purge_as(user: int, path: Path) -> None:
    os.setuid(user)
    try:
        purge(path)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


@as_root
def test_what_belongs_to_another_user_is_named_and_the_next_purge_goes_on(
    shared: Path, recipe: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    run = filled(open_run(shared / "run", recipe, resume=False))
    given_to(NOBODY, run.path)
    os.chown(run.protected / "rollouts", 0, 0)
    (run.protected / "rollouts").chmod(0o755)
    assert in_child(partial(purge_as, NOBODY, run.path)) == REFUSED
    said = capfd.readouterr().err
    assert (
        f"{run.protected}/rollouts/pilot-000000.parquet (Permission denied)" in said and "Gone are 36,000 bytes" in said
    )
    assert files(run.protected) == ["rollouts/pilot-000000.parquet"] and not is_marked(run)
    given_to(NOBODY, run.path)
    assert in_child(partial(purge_as, NOBODY, run.path)) == DONE
    assert is_marked(run) and not run.protected.exists()


def test_a_folder_of_ours_without_permissions_is_no_obstacle(run: Run) -> None:
    (run.protected / "models" / "base").chmod(0o500)
    (run.protected / "models").chmod(0o400)
    purge(run.path)
    assert not run.protected.exists() and is_marked(run)


def test_of_several_seeds_all_that_can_be_removed_is_and_what_is_left_is_named(recipe: Recipe, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", recipe, resume=False)
    one, other = (filled(open_run(run.of_seed(seed).path, recipe, resume=False)) for seed in (0, 1))
    disk = moved(one.protected / "models" / "base", tmp_path / "disk")
    with pytest.raises(InputError, match="seeds/0/protected/models/base"):
        purge(run.path)
    assert is_marked(other) and not other.protected.exists()
    assert not is_marked(one) and not is_marked(run)
    (one.protected / "models" / "base").unlink()
    shutil.rmtree(disk)
    purge(run.path)
    assert all(map(is_marked, (run, one, other)))


def test_a_purge_that_is_killed_at_any_change_goes_on_and_is_never_taken_for_done(
    recipe: Recipe, tmp_path: Path
) -> None:
    whole = filled(open_run(tmp_path / "whole", recipe, resume=False)).path
    for nth in itertools.count(1, 3):
        copy = Path(shutil.copytree(whole, tmp_path / str(nth)))
        if in_child(partial(purge, copy), killed_at=nth) == DONE:
            break
        if is_marked(Run(copy)):
            assert not files(copy / "protected")
        elif len(files(copy / "protected")) < len(ONES):
            with pytest.raises(InputError, match="purged in part"):
                open_run(copy, recipe, resume=True)
        purge(copy)
        assert is_marked(Run(copy)) and not (copy / "protected").exists()
        assert not list(copy.rglob(".*")) and not (copy / "stages" / "purging.json").exists()
    assert nth > 20


def test_a_full_disk_is_purged_though_the_mark_of_the_beginning_finds_no_room(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, full = Manifest.put, OSError(errno.ENOSPC, "No space left on device")

    def refuses(manifest: Manifest, name: str, content: bytes) -> None:
        if files(run.protected):
            raise full
        put(manifest, name, content)

    monkeypatch.setattr(Manifest, "put", refuses)
    assert purge(run.path) == 48_000 and is_marked(run)


def test_seeds_below_zero_are_purged_too(recipe: Recipe, tmp_path: Path) -> None:
    run = filled(open_run(tmp_path / "run", recipe, resume=False))
    seed = filled(open_run(run.of_seed(-1).path, recipe, resume=False))
    purge(run.path)
    assert not files(seed.protected) and is_marked(seed) and is_marked(run)


def test_a_run_that_is_written_is_not_purged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT", 0.2)
    ready, told = os.pipe()

    def hold() -> None:
        with only_writer(run.path):
            os.write(told, b"x")
            signal.pause()

    child = os.fork()
    if not child:
        hold()
    os.read(ready, 1)
    try:
        with pytest.raises(InputError, match="is in use"):
            purge(run.path)
        assert len(files(run.protected)) == len(ONES)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert purge(run.path) > 0


@pytest.mark.parametrize("content", [None, b"{}", b"\xff" * 100], ids=["absent", "other", "noise"])
def test_a_run_without_a_whole_manifest_is_purged_all_the_same(content: bytes | None, run: Run) -> None:
    file = run.path / "manifest.json"
    file.unlink() if content is None else file.write_bytes(content)
    assert purge(run.path) == 48_000 and is_marked(run) and not run.protected.exists()


def test_a_folder_that_only_holds_a_recipe_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: mine")
    (tmp_path / "protected").mkdir()
    (tmp_path / "protected" / "theirs.txt").write_text("mine")
    with pytest.raises(InputError, match="is no run folder"):
        purge(tmp_path)
    assert (tmp_path / "protected" / "theirs.txt").is_file()


# Modes


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}


def test_an_unpacked_run_is_closed_when_it_is_opened_and_that_is_said(
    run: Run, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (run.protected, *run.protected.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    open_run(run.path, recipe, resume=True)
    assert modes(run.protected) == {0o700, 0o600}
    assert capsys.readouterr().err.count("was open to others") == 1
    open_run(run.path, recipe, resume=True)
    assert not capsys.readouterr().err, "said once"


def test_what_a_linked_folder_leads_to_is_closed_and_other_links_are_left_alone(
    run: Run, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "theirs").write_text("public")
    (tmp_path / "theirs").chmod(0o644)
    disk = moved(run.protected, tmp_path / "disk")
    disk.chmod(0o777)
    (disk / "link").symlink_to(tmp_path / "theirs")
    open_run(run.path, recipe, resume=True)
    assert stat.S_IMODE(disk.stat().st_mode) == 0o700 and stat.S_IMODE((tmp_path / "theirs").stat().st_mode) == 0o644


def test_new_folders_and_files_are_the_owners_alone_under_any_umask(recipe: Recipe, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = filled(open_run(tmp_path / "run", recipe, resume=False))
        out = open_predictions(tmp_path / "out", {"model": "m"}, resume=False)
        out.write_part(0, [])
    finally:
        os.umask(before)
    assert modes(out.path) == {0o700, 0o600}
    assert modes(run.protected) == {0o700, 0o600}


@as_root
def test_a_protected_folder_that_another_user_opened_to_all_is_refused(
    shared: Path, recipe: Recipe, capfd: pytest.CaptureFixture[str]
) -> None:
    run = open_run(shared / "run", recipe, resume=False)
    given_to(NOBODY, run.path)
    os.chown(run.protected, 0, 0)
    run.protected.chmod(0o777)

    def resume() -> None:
        os.setuid(NOBODY)
        open_run(run.path, recipe, resume=True)

    assert in_child(resume) == REFUSED
    assert "belongs to another user and is open to others (mode 0777)" in capfd.readouterr().err
