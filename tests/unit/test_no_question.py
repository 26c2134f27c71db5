"""Nobody is ever asked whether a model's code is to be run: the question is not there to be
answered with yes.
"""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, RagConfig, RagTokenizer, dynamic_module_utils

from ehrmind.config import Model
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.opening.gate import admit_tokenizer
from ehrmind.engines.local.opening.tokenizer import open_unchanged
from ehrmind.types import InputError
from tests.small_models import small_model

PARTS = ("question_encoder_tokenizer", "generator_tokenizer")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects what is asked at the terminal; the answer is yes. The library's own time limit is
    put back first."""
    questions: list[str] = []

    def answer(question: str = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setattr(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 15)
    return questions


def with_code_below(folder: Path, **more: Any) -> Path:
    """A whole model, and folders in it whose tokenizers are code that writes a file when it
    runs."""
    small_model(folder, "untied")
    ran = folder.parent / "ran"
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    for part in PARTS:
        (folder / part).mkdir()
        named = {"auto_map": {"AutoTokenizer": [f"{elsewhere}--own.Own", None]}}
        (folder / part / "tokenizer_config.json").write_text(json.dumps(named))
    config = json.loads((folder / "config.json").read_text())
    pair = {"question_encoder": {"model_type": "llama"}, "generator": {"model_type": "llama"}}
    (folder / "config.json").write_text(json.dumps({**config, **pair, **more}))
    return folder


@pytest.mark.parametrize("key", ["tokenizer_class", "model_type"])
def test_tokenizers_in_folders_are_refused_before_anything_asks(tmp_path: Path, asked: list[str], key: str) -> None:
    folder = with_code_below(tmp_path / "model")
    file = folder / ("tokenizer_config.json" if key == "tokenizer_class" else "config.json")
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, key: {"tokenizer_class": "RagTokenizer", "model_type": "rag"}[key]}))
    for way in (lambda: open_unchanged(folder), lambda: open_engine(Model(name="model"), folder, rows=4)):
        with pytest.raises(InputError, match=f"says {key} .*is no name of a tokenizer"):
            way()
    assert not asked and not (tmp_path / "ran").exists()


def test_a_way_that_no_rule_knows_raises_in_place_of_a_question(tmp_path: Path, asked: list[str]) -> None:
    folder = with_code_below(tmp_path / "model")
    admit_tokenizer(folder)
    with pytest.raises(ValueError, match=r"custom code|trust_remote_code"):
        AutoTokenizer.from_pretrained(folder, subfolder=PARTS[0])
    pair = RagConfig.from_question_encoder_generator_configs(LlamaConfig(), LlamaConfig())
    with pytest.raises(ValueError, match=r"custom code|trust_remote_code"):
        RagTokenizer.from_pretrained(folder, config=pair)
    assert not asked and not (tmp_path / "ran").exists()
