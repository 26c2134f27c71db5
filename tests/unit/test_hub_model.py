"""A model's hub id in place of its directory, from a server on this machine that has the hub's
layout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ehrmind.config import Model
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.hub_model import locate
from ehrmind.types import InputError, Message
from tests.loopback_hub import COMMIT, loopback_hub
from tests.small_models import small_model

NAMED = Model(name="owner/model")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    folder = small_model(tmp_path / "model", "qwen3")
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {
        "modeling_own.py": b"raise SystemExit",
        "old.bin": b"pickle",
    }
    with loopback_hub(files, tmp_path, monkeypatch) as state:
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
