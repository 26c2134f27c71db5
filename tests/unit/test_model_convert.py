"""`ehrmind model convert`: a GGUF file becomes a model directory, whole and proven, or one
sentence says why not. The files are made on the spot.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ehrmind.cli import main
from ehrmind.config import Model
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.opening.gguf_header import read_header
from ehrmind.engines.local.saving import converting
from ehrmind.engines.local.saving.converting import ODD
from ehrmind.export.converting import convert_model
from ehrmind.types import InputError, Message
from tests.gguf_files import HEADS, HIDDEN, small_gguf

NAME = "tiny.gguf"


def converted(file: Path, dtype: str = "float32") -> Path:
    return convert_model(file, file.parent / "model", dtype=dtype, say=lambda line: None)


def refused(file: Path) -> str:
    """The sentence; nothing may be left of the directory."""
    before = sorted(file.parent.iterdir())
    with pytest.raises(InputError) as stop:
        converted(file)
    assert sorted(file.parent.iterdir()) == before
    said = str(stop.value)
    assert said.endswith(".") and "\n" not in said and len(said) < 500
    assert "/tmp" not in said and str(file.parent) not in said and "ehrmind-gguf" not in said
    return said


def by_transformers(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = {"gguf_file": file.name, "local_files_only": True}
    return AutoModelForCausalLM.from_pretrained(file.parent, dtype=dtype, **asked), AutoTokenizer.from_pretrained(
        file.parent, **asked
    )


@pytest.mark.parametrize(("kind", "dtype"), [("F32", "float32"), ("Q8_0", "float32"), ("Q4_1", "bfloat16")])
def test_every_weight_and_every_id_is_that_of_the_readers_own_model(kind: str, dtype: str, tmp_path: Path) -> None:
    file = small_gguf(tmp_path / NAME, kind)
    model = converted(file, dtype)
    network, tokenizer = by_transformers(file, getattr(torch, dtype))
    engine = open_engine(Model(name=str(model), dtype=dtype, device="cpu"), model, rows=2)
    found = dict(engine.network.state_dict())
    assert found.keys() == dict(network.state_dict()).keys()
    for name, weight in network.state_dict().items():
        assert found[name].dtype == weight.dtype and torch.equal(found[name], weight), name
    for text in (*ODD, "a<think>b</think>", "the the 12\n\n12", "x<|im_end|><|pad|>y"):
        assert engine.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"], text
    assert engine.tokenizer.chat_template == tokenizer.chat_template
    assert engine.tokenizer.get_added_vocab() == tokenizer.get_added_vocab()
    assert "<think>" not in engine.tokenizer.all_special_tokens


def test_an_answer_ends_at_the_turns_end_and_at_the_other_ends_that_the_file_names(tmp_path: Path) -> None:
    model = converted(small_gguf(tmp_path / NAME, change=lambda writer: writer.add_eot_token_id(3)))
    assert json.loads((model / "generation_config.json").read_text())["eos_token_id"] == [2, 3]
    engine = open_engine(Model(name=str(model), device="cpu"), model, rows=2)
    assert engine.chat.end_id == 2 and engine.stop_ids == {2, 3} and engine.pad_id == 4
    assert engine.decode(engine.prompt([Message("user", "hi")]).token_ids).startswith("<|im_start|>user\nhi")


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_tied_if_the_file_has_none_of_its_own(tied: bool, tmp_path: Path) -> None:
    model = converted(small_gguf(tmp_path / NAME, tied=tied))
    with safe_open(model / "model.safetensors", framework="pt") as tensors:
        assert ("lm_head.weight" in tensors.keys()) is not tied  # noqa: SIM118
    assert json.loads((model / "config.json").read_text())["tie_word_embeddings"] is tied


def test_the_note_says_where_the_model_came_from_and_names_no_path(tmp_path: Path) -> None:
    file = small_gguf(tmp_path / NAME, "Q8_0")
    model = converted(file)
    note = json.loads((model / "converted_from.json").read_text())
    assert (note["file"], note["bytes"], note["quantisation"]) == (NAME, file.stat().st_size, "Q8_0")
    assert len(note["sha256"]) == 64 and note["proof"]["proof"] == "weights and log-probabilities"
    assert note["licence"] == "apache-2.0" and {"transformers", "gguf"} <= note["versions"].keys()
    for path in model.iterdir():
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content and b"ehrmind-gguf" not in content, path.name
        assert path.stat().st_mode & 0o777 == (model / "config.json").stat().st_mode & 0o777


def test_other_files_beside_it_take_no_part(tmp_path: Path) -> None:
    file = small_gguf(tmp_path / NAME)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["code.Mine", null]}}')
    (tmp_path / "code.py").write_text("raise SystemExit(99)")
    (tmp_path / "chat_template.jinja").write_text("nothing")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    assert "im_start" in (converted(file) / "chat_template.jinja").read_text()


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    content = small_gguf(tmp_path / NAME).read_bytes()
    file = tmp_path / "cut.gguf"
    for size in (4, 5, 20, 24, 100, 3000, 8000, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        assert "cut.gguf is cut off or damaged" in refused(file), size
    file.write_bytes(b"")
    assert "is no GGUF file" in refused(file)


def test_a_damaged_header_ends_at_once_in_one_sentence(tmp_path: Path) -> None:
    content = bytearray(small_gguf(tmp_path / NAME).read_bytes())
    draw = np.random.default_rng(1)
    file = tmp_path / "damaged.gguf"
    for _ in range(300):
        damaged = bytearray(content)
        for place in draw.integers(4, 6000, 3):
            damaged[place] = int(draw.choice([0, 1, 127, 255]))
        file.write_bytes(damaged)
        try:
            read_header(file)
        except InputError as error:
            assert "damaged.gguf" in str(error)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": None}, "has no chat template"),
        ({"architecture": "frankenstein"}, "cannot be read by transformers"),
        ({"leave_out": ("blk.1.ffn_up.weight",)}, "the file lacks, such as model.layers.1.mlp.up_proj.weight"),
        ({"tensors": {"rope_freqs.weight": np.full(HIDDEN // HEADS // 2, 8, np.float32)}}, "the tensor rope_freqs"),
        ({"change": lambda writer: writer.add_rope_scaling_factor(4.0)}, "the scaling of its positions"),
        ({"tensors": {"blk.0.attn_q.weight": np.ones((32, HIDDEN), np.float32)}}, "have another shape in the file"),
        ({"change": lambda writer: writer.add_uint16("split.count", 3)}, "is one of 3 parts"),
        ({"template": "{{ raise_exception('no') }}"}, "chat template"),
        ({"tensors": {"blk.0.attn_norm.weight": np.full(HIDDEN, np.nan, np.float32)}}, "not finite"),
    ],
)
def test_a_file_that_would_give_no_right_model_is_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refused(small_gguf(tmp_path / NAME, **options))


def test_a_tensor_without_a_place_in_the_model_is_noted(tmp_path: Path) -> None:
    model = converted(small_gguf(tmp_path / NAME, tensors={"blk.2.nextn.shared": np.ones(7, np.float32)}))
    assert json.loads((model / "converted_from.json").read_text())["left_out"] == ["blk.2.nextn.shared"]


@pytest.mark.parametrize("what", ["disk space", "memory"])
def test_too_little_room_is_said_before_anything_is_read(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_gguf(tmp_path / NAME)
    monkeypatch.setattr(converting, "free_memory", lambda: 1000 if what == "memory" else 1 << 40)
    free = shutil.disk_usage(tmp_path)._replace(free=1000 if what == "disk space" else 1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    assert f"GiB of {what}" in refused(file)


def ehrmind(*arguments: str) -> int:
    with mock.patch.dict("os.environ"), pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def test_the_command_refuses_a_directory_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, model = small_gguf(tmp_path / NAME), tmp_path / "model"
    model.mkdir()
    (model / "mine.txt").write_text("mine")
    assert ehrmind("model", "convert", str(file), "--out", str(model)) == 2
    assert "is there already; name a new folder." in capsys.readouterr().err
    assert [path.name for path in model.iterdir()] == ["mine.txt"]


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = small_gguf(tmp_path / NAME)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(converting, "prove", stop)
    with pytest.raises(KeyboardInterrupt):
        converted(file)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_tokenizer_that_reads_back_as_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    opened = converting.open_unchanged

    def other(folder: Path) -> Any:
        tokenizer = opened(folder)
        tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
        return tokenizer

    monkeypatch.setattr(converting, "open_unchanged", other)
    assert "otherwise than the file's" in refused(small_gguf(tmp_path / NAME))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.gguf"
    file.write_text("Zqkanary has pneumonia")
    assert refused(file) == "notes.gguf is no GGUF file: it does not begin with the letters GGUF; name a model's " + (
        ".gguf file."
    )
