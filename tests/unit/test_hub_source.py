"""A hub data set in place of a file, from a server on this machine that has the hub's layout."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ehrmind.data.hub import is_hub_id
from ehrmind.data.medcalc import read_medcalc
from ehrmind.types import InputError
from tests.loopback_hub import COMMIT, OLDER, loopback_hub

HEADER = "Row Number,Calculator Name,Patient Note,Question,Ground Truth Answer,Lower Limit,Upper Limit\n"
ROW = "{},Body Mass Index (BMI),A made-up man of {} kg and 2 m.,What is his BMI?,20,19,21\n"
TEST = (HEADER + "".join(ROW.format(i, i) for i in range(1, 41))).encode()
TRAIN = (HEADER + ROW.format(1, 80)).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    with loopback_hub(
        {"README.md": b"#", "train_data.csv": TRAIN, "test_data.csv": TEST}, tmp_path, monkeypatch
    ) as state:
        yield state


def blobs(state: SimpleNamespace) -> list[str]:
    return [path.name for path in state.cache.glob("datasets--*/blobs/*")]


def test_the_split_asked_for_is_downloaded_and_its_commit_recorded(hub: SimpleNamespace) -> None:
    cases, counts = read_medcalc(["owner/medcalc"], split="held_out", online=True)
    assert (
        len(cases) == 40 and cases[0].provenance["hub"] == "owner/medcalc" and cases[0].provenance["revision"] == COMMIT
    )
    assert [(file.name, file.revision) for file in counts.files] == [("test_data.csv", COMMIT)]
    assert any(COMMIT in line for line in counts.lines())
    assert len(read_medcalc(["owner/medcalc"], split="train", online=True)[0]) == 1
    assert not any("README" in request or "telemetry" in request or "agent" in request for request in hub.requests)


def test_a_named_revision_is_resolved_to_its_commit(hub: SimpleNamespace) -> None:
    cases, _ = read_medcalc(["owner/medcalc"], split="held_out", online=True, revision="v1")
    assert cases[0].provenance["revision"] == OLDER


def test_offline_is_refused_with_the_way_to_allow_it_and_nothing_is_asked(hub: SimpleNamespace) -> None:
    with pytest.raises(InputError, match=r"'owner/medcalc'.*data\.online=true"):
        read_medcalc(["owner/medcalc"], split="train")
    assert not hub.requests


def test_hf_hub_offline_wins_over_the_recipe(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        read_medcalc(["owner/medcalc"], split="train", online=True)
    assert not hub.requests


def test_what_was_downloaded_is_read_again_without_the_network(hub: SimpleNamespace) -> None:
    online, _ = read_medcalc(["owner/medcalc"], split="held_out", online=True)
    asked = len(hub.requests)
    for revision in (None, COMMIT):
        assert read_medcalc(["owner/medcalc"], split="held_out", revision=revision)[0] == online
    assert len(hub.requests) == asked
    with pytest.raises(InputError, match=r"local copy.*data\.online=true.*no parquet or CSV file for train"):
        read_medcalc(["owner/medcalc"], split="train")


def test_two_cached_commits_are_told_apart_by_revision_only(hub: SimpleNamespace) -> None:
    for revision in (COMMIT, OLDER):
        read_medcalc(["owner/medcalc"], split="held_out", online=True, revision=revision)
    with pytest.raises(InputError, match=f"{COMMIT}, {OLDER}"):
        read_medcalc(["owner/medcalc"], split="held_out")
    assert read_medcalc(["owner/medcalc"], split="held_out", revision=OLDER)[0][0].provenance["revision"] == OLDER


def test_a_path_that_exists_wins_over_an_id(hub: SimpleNamespace) -> None:
    Path("owner").mkdir()
    Path("owner/medcalc").write_bytes(TRAIN)
    with pytest.raises(InputError, match="ending"):
        read_medcalc(["owner/medcalc"], split="train", online=True)
    Path("owner/local.csv").write_bytes(TRAIN)
    assert len(read_medcalc(["owner/local.csv"], split="train", online=True)[0]) == 1
    assert not hub.requests


def test_a_mistyped_path_never_reaches_the_network(hub: SimpleNamespace) -> None:
    for path in ("data/tset.csv", "data/tset.csv.gz", "./data", "a/b/c", "/a/b", "../a"):
        with pytest.raises(InputError, match="no file"):
            read_medcalc([path], split="train", online=True)
    assert not hub.requests
    assert is_hub_id("owner/Name-v1.2") and not is_hub_id("owner/") and not is_hub_id("-/x")


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("owner/other", None, "'owner/other' is not on the hub"),
        ("owner/medcalc", "v9", "'v9' does not exist on the hub"),
        ("owner--x/y", None, "'owner--x/y'"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub: SimpleNamespace, name: str, revision: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_medcalc([name], split="train", online=True, revision=revision)


def test_a_hub_that_cannot_be_reached_is_an_error_and_not_a_silent_use_of_the_cache(
    hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_medcalc(["owner/medcalc"], split="held_out", online=True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="'owner/medcalc'"):
        read_medcalc(["owner/medcalc"], split="held_out", online=True)


def test_parquet_comes_before_csv_and_all_shards_are_read(hub: SimpleNamespace, tmp_path: Path) -> None:
    import polars as pl

    for shard in (0, 1):
        frame = pl.read_csv(TEST, infer_schema=False).slice(20 * shard, 20)
        frame.write_parquet(tmp_path / "shard.parquet")
        hub.files[f"data/test-0000{shard}-of-00002.parquet"] = (tmp_path / "shard.parquet").read_bytes()
    cases, counts = read_medcalc(["owner/medcalc"], split="held_out", online=True)
    assert [case.provenance["row"] for case in cases] == list(range(1, 41)) and len(counts.files) == 2
    del hub.files["data/test-00001-of-00002.parquet"]
    with pytest.raises(InputError, match="1 of the 2 shards"):
        read_medcalc(["owner/medcalc"], split="held_out", online=True)


def test_a_split_that_two_files_could_be_is_refused_rather_than_guessed(hub: SimpleNamespace) -> None:
    hub.files["old/test.csv"] = TRAIN
    with pytest.raises(InputError, match=r"several files for held_out \(old/test.csv, test_data.csv\)"):
        read_medcalc(["owner/medcalc"], split="held_out", online=True)
    with pytest.raises(InputError, match="no parquet or CSV file for tuning"):
        read_medcalc(["owner/medcalc"], split="tuning", online=True)


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_is_named_keeps_nothing_and_a_retry_succeeds(
    hub: SimpleNamespace, resumes: bool
) -> None:
    hub.resumes, hub.cuts = resumes, 1_000
    with pytest.raises(InputError, match=r"'test_data.csv' of the hub data set 'owner/medcalc' did not arrive whole"):
        read_medcalc(["owner/medcalc"], split="held_out", online=True)
    assert not blobs(hub)
    with pytest.raises(InputError):
        read_medcalc(["owner/medcalc"], split="held_out")
    hub.cuts = 0
    assert len(read_medcalc(["owner/medcalc"], split="held_out", online=True)[0]) == 40


@pytest.mark.parametrize("resumes", [True, False])
def test_a_connection_that_breaks_once_is_mended_on_the_way(hub: SimpleNamespace, resumes: bool) -> None:
    hub.resumes, hub.cuts = resumes, 1
    assert len(read_medcalc(["owner/medcalc"], split="held_out", online=True)[0]) == 40


def test_a_full_disk_while_downloading_is_named(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(InputError, match=r"'test_data.csv' .* does not fit on the disk"):
        read_medcalc(["owner/medcalc"], split="held_out", online=True)
    assert not blobs(hub)


def test_a_file_cut_short_in_the_cache_is_not_taken_for_one(hub: SimpleNamespace) -> None:
    """A snapshot entry whose content is gone (a cache cleaned by hand) is as good as absent."""
    read_medcalc(["owner/medcalc"], split="held_out", online=True)
    shutil.rmtree(next(hub.cache.glob("datasets--*/blobs")))
    with pytest.raises(InputError, match="no parquet or CSV file for held_out"):
        read_medcalc(["owner/medcalc"], split="held_out")


def test_a_link_out_of_the_cache_is_not_followed(hub: SimpleNamespace, tmp_path: Path) -> None:
    read_medcalc(["owner/medcalc"], split="held_out", online=True)
    file = next(path for path in hub.cache.glob("datasets--*/snapshots/*/*") if "test" in path.name)
    shutil.copy(file, tmp_path / "transfer")
    file.unlink()
    file.symlink_to(tmp_path / "transfer")
    with pytest.raises(InputError, match="as a link to a place outside it; download the data set again"):
        read_medcalc(["owner/medcalc"], split="held_out")
