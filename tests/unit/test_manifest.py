"""The manifest of a folder: what is listed is proven, a kill at any moment leaves the old or the
new, and writing stays cheap.
"""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ehrmind.cluster.mirror import Mirror
from ehrmind.files import clear_leftovers, stored_bytes, write_bytes
from ehrmind.runs import contents
from ehrmind.runs.contents import Contents, parsed, written
from ehrmind.runs.manifest import NAME, Manifest
from ehrmind.types import InputError


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    made = Manifest(tmp_path)
    made.create()
    return made


def fill(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text(f"{name} {content}")
    return folder


def test_what_is_stored_is_listed_and_proven(manifest: Manifest) -> None:
    manifest.put("results.json", b"{}")
    manifest.put("protected/cases/train.parquet", b"text of a record")
    assert manifest.names() == ["protected/cases/train.parquet", "results.json"] and not list(manifest.faults())
    assert (manifest.root / "protected").stat().st_mode & 0o777 == 0o700
    assert (manifest.root / "protected/cases/train.parquet").stat().st_mode & 0o777 == 0o600
    assert manifest.read_bytes("results.json") == b"{}" and not manifest.holds("report.html")


def test_a_changed_or_missing_file_is_named(manifest: Manifest) -> None:
    for name in ("a.json", "b.json", "c.json", "d.json"):
        manifest.put(name, b"12345678")
    (manifest.root / "a.json").write_bytes(b"12345679")
    (manifest.root / "b.json").unlink()
    (manifest.root / "c.json").unlink()
    (manifest.root / "c.json").symlink_to("d.json")
    assert [(fault.name, fault.what) for fault in manifest.faults()] == [
        ("a.json", "damaged"),
        ("b.json", "gone"),
        ("c.json", "damaged"),
    ]
    with pytest.raises(InputError, match=r"a\.json is damaged: .* --resume"):
        manifest.read_bytes("a.json")
    with pytest.raises(InputError, match=r"b\.json is gone"):
        manifest.read_bytes("b.json")


def test_any_change_of_the_manifest_is_noticed(manifest: Manifest) -> None:
    manifest.put("a.json", b"1")
    manifest.record_purge("protected/", {"time": 1.5, "bytes": 0})
    whole = manifest.file.read_bytes()
    for place in range(len(whole)):
        for changed in (whole[:place], whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]):
            manifest.file.write_bytes(changed)
            with pytest.raises(InputError, match=r"manifest\.json (is damaged|was written by a later)"):
                Manifest(manifest.root).read()


def test_a_folder_of_an_earlier_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.json: it was made by an earlier version"):
        Manifest(tmp_path).read()


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is done."""


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("moment", range(8))
def test_a_kill_while_something_is_replaced_leaves_the_old_or_the_new(
    kind: str, moment: int, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename is a moment: the file's own, the manifest's before and after it, a folder's
    two."""

    def put(content: str) -> None:
        if kind == "file":
            manifest.put("protected/models/rlvr", content.encode())
        else:
            manifest.put_folder(
                "protected/models/rlvr", fill(manifest.root / f"protected/models/.rlvr.{content}.partial/rlvr", content)
            )

    put("old")
    renames = iter(range(100))

    def kill(real: Any) -> Any:
        def renamed(path: Path, to: Path) -> Any:
            if next(renames) == moment // 2:
                if moment % 2:
                    real(path, to)
                raise Killed
            return real(path, to)

        return renamed

    monkeypatch.setattr(Path, "replace", kill(Path.replace))
    monkeypatch.setattr(Path, "rename", kill(Path.rename))
    try:
        put("new")
    except Killed:
        pass
    monkeypatch.undo()
    again = Manifest(manifest.root)
    clear_leftovers(manifest.root / "protected/models", alone=True)
    again.settle()
    assert again.names() and not list(again.faults()) and not again.read().replacing
    place = manifest.root / "protected/models/rlvr"
    content = place.read_text() if kind == "file" else {path.read_text().split()[1] for path in place.iterdir()}
    assert content in ("old", "new", {"old"}, {"new"})


def test_what_is_removed_is_unlisted_first(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest.put("protected/rollouts/pilot-000000.parquet", b"x")
    monkeypatch.setattr("ehrmind.runs.manifest.remove_path", lambda path: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        manifest.remove("protected/rollouts/pilot-000000.parquet")
    assert not Manifest(manifest.root).names()


def test_a_purge_is_recorded_with_what_was_there(manifest: Manifest) -> None:
    manifest.put("results.json", b"{}")
    manifest.put("protected/cases/train.parquet", b"text")
    manifest.record_purge("protected/", {"time": 1.0, "bytes": 4})
    found = Manifest(manifest.root).read()
    assert found.purged is not None and found.purged["files"]["protected/cases/train.parquet"]["bytes"] == 4
    assert list(found.files) == ["results.json"]


def test_a_writer_is_alone_until_its_last_listing(manifest: Manifest) -> None:
    """The lock is on the manifest's file, which each write replaces: the new one is held as
    well."""
    manifest.put("report.html", b"old")
    free: list[bool] = []

    def look() -> None:
        with manifest.file.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free.append(True)
            except BlockingIOError:
                free.append(False)

    new = {"report.html": stored_bytes(b"new")}
    with manifest._alone():
        manifest._announce("report.html", new)
        look()
        manifest._list("report.html", new)
        look()
    look()
    assert free == [False, False, True]


def test_two_writers_lose_nothing_of_each_other(manifest: Manifest) -> None:
    """The run itself, and commands that write a page while it goes."""

    def write(who: int) -> None:
        mine = Manifest(manifest.root)
        for number in range(20):
            mine.put(f"{who}-{number}.json", b"x")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Manifest(manifest.root).names()) == 60 and not list(manifest.faults())


def test_an_artefact_among_four_thousand_costs_little_and_reads_nothing_old(manifest: Manifest) -> None:
    listed = {f"protected/rollouts/rlvr-rlvr-{step:06d}.parquet": stored_bytes(b"x") for step in range(4000)}
    write_bytes(manifest.file, written(Contents(listed)))
    started = time.perf_counter()
    for step in range(20):
        manifest.put(f"protected/rollouts/new-{step:06d}.parquet", b"x")
    each = (time.perf_counter() - started) / 20
    print(f"{1000 * each:.1f} ms an artefact")
    assert each < 0.5 and len(Manifest(manifest.root).names()) == 4020


def test_a_manifest_of_a_later_version_is_refused(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "VERSION", 99)
    raw = written(Contents())
    monkeypatch.undo()
    with pytest.raises(InputError, match="later version"):
        parsed(raw, manifest.file)


@pytest.mark.parametrize("until", range(9))
def test_a_store_can_be_resumed_from_wherever_a_push_broke_off(
    until: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is replaced, a checkpoint goes, figures come: what is pulled afterwards is whole, by
    the old or the new manifest."""
    manifest, store = Manifest(tmp_path / "run"), tmp_path / "store"
    (tmp_path / "run").mkdir()
    manifest.create()
    manifest.put("recipe.yaml", b"name: x")
    manifest.put_folder("protected/models/rlvr", fill(tmp_path / "made", "old"))
    manifest.put("protected/checkpoints/rlvr-rlvr/step-000001/progress.json", b"{}")
    mirror = Mirror(f"local://{store}")
    mirror.push(manifest.root)
    manifest.put_folder("protected/models/rlvr", fill(tmp_path / "made", "new"))
    manifest.put("results.json", b"{}")
    manifest.put("protected/checkpoints/rlvr-rlvr/step-000002/progress.json", b"{}")
    manifest.remove("protected/checkpoints/rlvr-rlvr/step-000001")
    calls = iter(range(100))

    def breaks(real: Any) -> Any:
        def put(*given: Any) -> Any:
            if next(calls) == until:
                raise OSError(5, "the network is gone")
            return real(*given)

        return put

    monkeypatch.setattr(mirror._store, "rm_file", breaks(mirror._store.rm_file))
    for name in ("_put", "_put_manifest"):
        monkeypatch.setattr(mirror, name, breaks(getattr(mirror, name)))
    try:
        mirror.push(manifest.root)
    except OSError:
        pass
    pulled = Manifest(tmp_path / "pulled")
    Mirror(f"local://{store}").pull(pulled.root)
    pulled.settle()
    faults = [fault.name for fault in pulled.faults()]
    assert "recipe.yaml" in pulled.names() and all(name.startswith("protected/models/rlvr/") for name in faults), faults
    mixed = {path.read_text().split()[1] for path in (pulled.root / "protected/models/rlvr").iterdir()} == {
        "old",
        "new",
    }
    assert bool(faults) == mixed, (
        "only a model of several files may be caught between old and new, and then it is named"
    )
    monkeypatch.undo()
    mirror.push(manifest.root)
    Mirror(f"local://{store}").pull(tmp_path / "last")
    last = Manifest(tmp_path / "last")
    assert last.read().files == manifest.read().files and not list(last.faults())


def test_a_file_that_changes_while_it_goes_up_is_listed_with_the_next_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(tmp_path / "run")
    (tmp_path / "run").mkdir()
    manifest.create()
    manifest.put("results.json", b"0")
    mirror, put, count = Mirror(f"local://{tmp_path / 'store'}"), Mirror._put, iter(range(1, 100))

    def goes_on(self: Mirror, file: Path, name: str) -> None:
        put(self, file, name)
        manifest.put("results.json", str(next(count)).encode())

    monkeypatch.setattr(Mirror, "_put", goes_on)
    mirror.push(manifest.root)
    Mirror(f"local://{tmp_path / 'store'}").pull(tmp_path / "pulled")
    pulled = Manifest(tmp_path / "pulled")
    assert not list(pulled.faults()) and not pulled.holds("results.json")
    monkeypatch.undo()
    mirror.push(manifest.root)
    Mirror(f"local://{tmp_path / 'store'}").pull(tmp_path / "again")
    assert Manifest(tmp_path / "again").holds("results.json") and (tmp_path / "again" / NAME).is_file()
