"""Settings of a cluster that can be tested without one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ehrmind.cli.errors import say
from ehrmind.cluster.joined import joined
from ehrmind.cluster.local import environment
from ehrmind.cluster.mirror import Mirror, is_url, kept, staged
from ehrmind.cluster.private import private_folder
from ehrmind.cluster.worker_log import WorkerError, without_text
from ehrmind.config import parse_recipe, parse_section
from ehrmind.config.running import Cluster
from ehrmind.data.map_files import done_by, each
from ehrmind.types import InputError

FILES = [
    "metrics.jsonl",
    "protected/checkpoints/warmup/step-000002/progress.json",
    "protected/checkpoints/warmup/step-000002/state.safetensors",
    "protected/models/sft/config.json",
    "protected/models/sft/model.safetensors",
    "recipe.yaml",
    "stages/data.json",
]


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def there(store: Path) -> list[str]:
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())


def test_local_nodes_have_a_worker_each_unless_said_otherwise() -> None:
    assert parse_section(Cluster, {"address": "local:3"}, "cluster").workers == 3
    assert parse_section(Cluster, {"address": "local:2", "workers": 4}, "cluster").workers == 4
    assert parse_section(Cluster, {"address": "head:6379"}, "cluster").workers == 1
    synthetic = {"synthetic": {"n": 5, "seed": 1}}
    data = dict.fromkeys(("train", "tuning", "held_out"), synthetic)
    with pytest.raises(InputError, match=r"cluster\.workers=2"):
        parse_recipe({"data": data, "model": {"tiny": {}}, "shards": 3, "cluster": {"address": "local:2"}})


def test_a_mirror_holds_what_the_folder_holds_and_gives_it_back(tmp_path: Path) -> None:
    folder, store = fill(tmp_path / "run", FILES), tmp_path / "store"
    (folder / "protected/checkpoints/warmup/.step-000004.partial").mkdir()
    (folder / "protected/checkpoints/warmup/.step-000004.partial/state.safetensors").write_text("half")
    mirror = Mirror(f"local://{store}")
    mirror.push(folder)
    assert there(store) == FILES and (store / "protected").stat().st_mode & 0o777 == 0o700
    (folder / "protected/checkpoints/warmup/step-000002/progress.json").unlink()
    (folder / "protected/checkpoints/warmup/step-000002/state.safetensors").unlink()
    (folder / "metrics.jsonl").write_text("one more line")
    mirror.push(folder)
    assert there(store) == [name for name in FILES if "checkpoints" not in name]
    with staged(f"local://{store}") as (copy, _, _):
        assert (copy / "metrics.jsonl").read_text() == "one more line"
        assert there(copy) == [name for name in FILES if "checkpoints" not in name], "and no lock"
        assert (copy / "protected").stat().st_mode & 0o777 == 0o700 and copy.parent.stat().st_mode & 0o777 == 0o700
    assert not copy.exists()


def test_another_kind_of_store_is_used_in_the_same_way(tmp_path: Path) -> None:
    mirror = Mirror("memory://bucket/run")
    mirror.push(fill(tmp_path / "run", FILES))
    with staged("memory://bucket/run") as (copy, _, _):
        assert there(copy) == FILES


def test_every_seed_has_its_folders_again(tmp_path: Path) -> None:
    mirror = Mirror("memory://bucket/seeds")
    mirror.push(fill(tmp_path / "run", ["recipe.yaml", "seeds/0/recipe.yaml", "seeds/0/protected/cases/train.parquet"]))
    with staged("memory://bucket/seeds") as (copy, _, _):
        assert (copy / "seeds/0/protected/rollouts").is_dir() and (copy / "protected/models").is_dir()
        assert (copy / "seeds/0/protected").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("until", range(len(FILES)))
def test_a_push_that_breaks_off_leaves_what_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: int
) -> None:
    folder, store = fill(tmp_path / "run", FILES), tmp_path / "store"
    mirror, puts = Mirror(f"local://{store}"), iter(range(len(FILES)))
    put = mirror._put

    def breaks(*given: Any) -> None:
        if next(puts) == until:
            raise OSError(errno.EIO, "the network is gone")
        put(*given)

    monkeypatch.setattr(mirror, "_put", breaks)
    with pytest.raises(OSError):
        mirror.push(folder)
    found = there(store)
    if any(name.endswith("progress.json") for name in found):
        assert any(name.endswith("step-000002/state.safetensors") for name in found)
    if "stages/data.json" in found:
        assert "protected/models/sft/model.safetensors" in found
    monkeypatch.undo()
    mirror.push(folder)
    assert there(store) == FILES


def test_what_is_done_is_pushed_beside_the_work(tmp_path: Path) -> None:
    import time

    folder, store = fill(tmp_path / "run", FILES[:1]), tmp_path / "store"
    with kept(Mirror(f"local://{store}"), folder):
        fill(folder, FILES)
        wait_until = time.monotonic() + 20
        while there(store) != FILES and time.monotonic() < wait_until:
            time.sleep(0.05)
        assert there(store) == FILES
        fill(folder, ["results.json"])
    assert "results.json" in there(store)


def test_a_store_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match="nosuch"):
        Mirror("nosuch://bucket/run")
    assert is_url("s3://bucket/run") and not is_url("runs/one") and not is_url("/runs/a:b")


def test_no_text_of_a_fault_leaves_a_worker() -> None:
    try:
        {}["Jane Doe, 64"]
    except KeyError as error:
        assert (
            isinstance(without_text(error), WorkerError)
            and "Jane" not in str(without_text(error))
            and "KeyError" in str(without_text(error))
        )
    full = without_text(OSError(errno.ENOSPC, "No space left on device", "/runs/one"))
    assert isinstance(full, OSError) and full.errno == errno.ENOSPC and full.filename == "/runs/one"
    assert str(without_text(InputError("x.csv has no rows."))) == "x.csv has no rows."


def test_a_fault_of_a_worker_is_said_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert say(WorkerError("KeyError in ehrmind/stages/rlvr/loop.py, line 30")) == 1
    assert "unexpected KeyError in ehrmind/stages/rlvr/loop.py, line 30; that is a fault" in capsys.readouterr().err


def test_the_environment_is_as_before_when_a_cluster_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with environment({"RAY_AUTH_MODE": "token"}, without=("RAY_ADDRESS",)):
        assert os.environ["RAY_AUTH_MODE"] == "token" and "RAY_ADDRESS" not in os.environ
    assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379" and "RAY_AUTH_MODE" not in os.environ


def test_files_are_read_in_the_way_that_was_handed_out() -> None:
    def backwards(function: Any, items: Any) -> Any:
        return iter([function(item) for item in items][::-1])

    assert list(each(str.upper, ["a", "b"])) == ["A", "B"]
    with done_by(backwards):
        assert list(each(str.upper, ["a", "b"])) == ["B", "A"]
    assert list(each(str.upper, ["a", "b"])) == ["A", "B"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left, living = tmp_path / f"ehrmind-run-{killed.pid}-x", tmp_path / f"ehrmind-run-{os.getppid()}-x"
    left.mkdir()
    living.mkdir()
    with private_folder("ehrmind-run", tmp_path) as mine:
        assert mine.stat().st_mode & 0o777 == 0o700
        assert living.is_dir() and not left.exists()
    assert not mine.exists()


def test_without_ray_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'ehrmind\[cluster\]'"), joined(Cluster(address="local:1")):
        pass
