"""A model's hub id in place of its directory, from a server on this machine that has the hub's
layout.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ehrmind.config import Model
from ehrmind.engines.local import hub_model
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.hub_model import download, find_on_hub, locate
from ehrmind.types import InputError, Message
from tests.loopback_hub import COMMIT, OLDER, loopback_hub
from tests.small_models import small_model

NAMED = Model(name="owner/model")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = small_model(tmp_path_factory.mktemp("hub") / "model", "qwen3")
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {
        "modeling_own.py": b"raise SystemExit",
        "old.bin": b"pickle",
    }


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    with loopback_hub(dict(files), tmp_path, monkeypatch) as state:
        yield state


def test_a_model_is_downloaded_once_and_then_opened_offline(hub: SimpleNamespace) -> None:
    folder = locate(NAMED, online=True)
    assert folder.name == COMMIT and json.loads((folder / "config.json").read_text())["model_type"] == "qwen3"
    asked = len(hub.requests)
    assert locate(NAMED, online=False) == folder and len(hub.requests) == asked
    engine = open_engine(NAMED, folder, rows=4)
    assert engine.prompt([Message("user", "weight 50 kg")]).opening == "<think>\n"


def test_code_and_pickles_of_a_repository_are_not_even_downloaded(hub: SimpleNamespace) -> None:
    names = {path.name for path in locate(NAMED, online=True).iterdir()}
    assert "model.safetensors" in names and not any(name.endswith((".py", ".bin")) for name in names)
    assert not any(".py" in request or ".bin" in request for request in hub.requests)


def test_without_leave_to_go_online_the_hub_is_not_asked(hub: SimpleNamespace) -> None:
    with pytest.raises(
        InputError, match=r"owner/model is neither a directory nor in the hub's cache .*data\.online=true"
    ):
        locate(NAMED, online=False)
    assert not hub.requests


def test_an_interrupted_download_is_one_sentence_and_the_next_try_completes_it(hub: SimpleNamespace) -> None:
    hub.cuts = 1_000
    with pytest.raises(InputError, match=r"owner/model' did not arrive whole"):
        locate(NAMED, online=True)
    hub.cuts = 0
    assert open_engine(NAMED, locate(NAMED, online=True), rows=4).shared


def weights_asked(state: SimpleNamespace) -> list[str]:
    return [request for request in state.requests if "resolve" in request]


def test_size_commit_and_place_are_known_before_any_file_is_asked_for(hub: SimpleNamespace) -> None:
    found = find_on_hub(NAMED)
    assert found.commit == COMMIT and set(found.missing) == set(found.sizes)
    assert (
        found.to_download == sum(len(hub.files[name]) for name in found.sizes) and "modeling_own.py" not in found.sizes
    )
    assert f"owner/model at commit {COMMIT}: {len(found.sizes)} files, 0.01 GB" in found.line()
    assert str(hub.cache) in found.line() and not weights_asked(hub)


def test_files_that_are_here_are_not_counted_again(hub: SimpleNamespace) -> None:
    locate(NAMED, online=True)
    assert not find_on_hub(NAMED).missing
    hub.head = OLDER  # another commit with the same files
    assert not find_on_hub(NAMED).missing and find_on_hub(NAMED).commit == OLDER
    hub.files["tokenizer.json"] += b" "
    assert list(find_on_hub(NAMED).missing) == ["tokenizer.json"]


def test_a_commit_that_is_here_is_opened_without_asking_the_hub(hub: SimpleNamespace) -> None:
    there, asked = locate(NAMED, online=True), len(hub.requests)
    pinned = NAMED.model_copy(update={"revision": COMMIT})
    assert locate(pinned, online=True) == there and not find_on_hub(pinned).missing and len(hub.requests) == asked


def test_the_branch_leads_to_the_commit_that_was_downloaded_last(hub: SimpleNamespace) -> None:
    older = locate(NAMED, online=True)
    hub.head = OLDER
    assert locate(NAMED, online=False) == older
    newer = download(find_on_hub(NAMED))
    assert newer.name == OLDER and locate(NAMED, online=False) == newer


def test_the_only_commit_of_a_cache_without_branches_is_the_model(hub: SimpleNamespace) -> None:
    there = locate(NAMED, online=True)
    shutil.rmtree(there.parents[1] / "refs")
    assert locate(NAMED, online=False) == there


def test_a_model_that_does_not_fit_on_the_disk_is_refused_before_its_download(
    hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_model, "_free", lambda _: 1_000)
    with pytest.raises(
        InputError, match=r"'owner/model' needs 0\.01 GB more, and .*cache has 0\.01 GB free; .*HF_HOME"
    ):
        locate(NAMED, online=True)
    assert not weights_asked(hub)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["model.Q4_1.gguf", "config.json"],
            r"GGUF .*`hf download owner/model model\.Q4_1\.gguf`.*ehrmind model convert",
        ),
        (["pytorch_model.bin", "config.json"], r"pickled weights \(pytorch_model\.bin\)"),
        (["adapter_model.safetensors", "adapter_config.json"], "is an adapter alone"),
        (["config.json", "checkpoint-5/model.safetensors"], "no config.json with safetensors at its top"),
        (["README.md"], "no config.json with safetensors at its top"),
    ],
)
def test_a_repository_without_safetensors_is_refused_before_its_download(
    hub: SimpleNamespace, names: list[str], said: str
) -> None:
    hub.files = dict.fromkeys(names, b"{}")
    with pytest.raises(InputError, match=said):
        locate(NAMED, online=True)
    assert not weights_asked(hub)


def test_only_the_files_at_the_top_are_downloaded_and_one_form_of_the_weights(hub: SimpleNamespace) -> None:
    others = ("onnx/config.json", "original/model.safetensors", "consolidated.safetensors", "model.onnx")
    hub.files |= dict.fromkeys(others, b"{}") | {"additional_chat_templates/tool.jinja": b"{{ 1 }}"}
    folder = locate(NAMED, online=True)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert not names & set(others) and "additional_chat_templates/tool.jinja" in names


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "owner/absent"}, "'owner/absent' is not on the hub, or not for you to see"),
        ({"name": "owner/model", "revision": "v9"}, "at revision 'v9' does not exist on the hub"),
        ({"name": "./no/such/folder"}, "is no directory, nor the name of a model on the hub; check the path"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub: SimpleNamespace, settings: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        locate(Model(**settings), online=True)


def test_a_gated_model_is_refused_before_anyone_is_asked(hub: SimpleNamespace) -> None:
    hub.gated = True
    with pytest.raises(InputError, match="behind an agreement; accept it on the hub's page"):
        find_on_hub(NAMED)


def test_a_hub_that_cannot_be_reached_is_said_so(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"'owner/model' cannot be reached; check the network"):
        locate(NAMED, online=True)


def test_hf_hub_offline_leaves_the_cache_alone(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    there, asked = locate(NAMED, online=True), len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate(NAMED, online=True) == there and find_on_hub(NAMED).commit == COMMIT and len(hub.requests) == asked
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        locate(Model(name="owner/other"), online=True)


def test_the_shards_that_arrived_before_a_cut_are_not_downloaded_again(hub: SimpleNamespace) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    whole = hub.files.pop("model.safetensors")
    hub.files |= {first: b"1" * 9, second: whole, "model.safetensors.index.json": b"{}"}
    hub.broken = {second}
    with pytest.raises(InputError, match="did not arrive whole"):
        locate(NAMED, online=True)
    with pytest.raises(InputError, match="only in part in the hub's cache"):
        locate(NAMED, online=False)
    assert list(find_on_hub(NAMED).missing) == [second]
    hub.broken, hub.requests[:] = set(), []
    assert (locate(NAMED, online=True) / second).stat().st_size == len(whole)
    assert [
        request.rpartition("/")[2] for request in hub.requests if request.startswith("GET") and "resolve" in request
    ] == [second]
