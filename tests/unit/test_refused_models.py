"""A model directory that cannot be used is refused in one sentence that names the place; an unusual
one that can be used is opened.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer

from ehrmind.config import Decoding, Lora, Model
from ehrmind.engines.local.engine import open_engine
from ehrmind.prompts import messages
from ehrmind.types import InputError, Message
from tests.small_models import cases, small_model

Change = Callable[[Path], object]
WEIGHTS, CONFIG = "model.safetensors", "config.json"
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 448,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("whole") / "model", "untied")


def config(**more: Any) -> Change:
    def change(folder: Path) -> None:
        found = json.loads((folder / CONFIG).read_text()) | more
        (folder / CONFIG).write_text(json.dumps({key: value for key, value in found.items() if value != "LEFT OUT"}))

    return change


def quantised(**how: Any) -> Change:
    return config(quantization_config=how)


def written(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def cut(name: str, size: int) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def changed(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return changed


def removed(*patterns: str) -> Change:
    def change(folder: Path) -> None:
        for path in [path for pattern in patterns for path in folder.glob(pattern)]:
            path.unlink()

    return change


def one_after_the_other(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def half_of_the_shards(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    files = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(sorted(tensors))}
    first = {name: tensors[name] for name, file in files.items() if "00001-of" in file}
    save_file(first, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def adapter(folder: Path) -> None:
    asked = {"peft_type": "LORA", "base_model_name_or_path": "elsewhere", "r": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(asked))
    save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")


def other_architecture(kind: str, name: str, **shape: Any) -> Change:
    def change(folder: Path) -> None:
        removed(WEIGHTS, CONFIG, "generation_config.json")(folder)
        getattr(transformers, name)(AutoConfig.for_model(kind, **shape)).save_pretrained(folder)

    return change


def added_tokens(count: int, *, used: bool = False, pad: bool = False) -> Change:
    def change(folder: Path) -> None:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens([f"<more{place}>" for place in range(count)])
        if pad:
            tokenizer.pad_token = f"<more{count - 1}>"
        tokenizer.save_pretrained(folder)
        if used:
            template = folder / "chat_template.jinja"
            template.write_text(template.read_text().replace("<|assistant|>", f"<more{count - 1}>"))

    return change


def fewer_embeddings(folder: Path) -> None:
    config(vocab_size=300)(folder)
    names = ("model.embed_tokens.weight", "lm_head.weight")
    weights(lambda tensors: tensors.update({name: tensors[name][:300].clone() for name in names}))(folder)


def no_template(folder: Path) -> None:
    removed("chat_template.jinja")(folder)
    found = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({key: value for key, value in found.items() if key != "chat_template"})
    )


def damaged(name: str, value: float) -> Change:
    return weights(lambda tensors: tensors[name].view(-1)[3:4].fill_(value))


OF_ANOTHER_KIND = (
    r"model cannot be opened .* it is {}, which does not write text from left to right; choose another model"
)
BESIDE = "put the weights and the config.json of one model together"
TEXTS_OF_CLIP = {
    "text_config": {**SIZES, "projection_dim": 16},
    "vision_config": {**SIZES, "image_size": 32, "patch_size": 16},
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4, "vocab_size": 448}
BART = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 448,
}

# What is done to a whole model, and the sentence about it
REFUSED: dict[str, tuple[Change, str]] = {
    "a tokenizer of more words than embeddings": (
        fewer_embeddings,
        r"tokenizer of model has \d+ tokens beyond the 300 .* such as '.+'; put",
    ),
    "a template with an added token without a place": (
        added_tokens(80, used=True),
        "tokens beyond the 448 .* such as '<more79>'",
    ),
    "bitsandbytes 8 bit": (
        quantised(quant_method="bitsandbytes", load_in_8bit=True),
        r"not here .*bitsandbytes.*; install that, or choose",
    ),
    "bitsandbytes 4 bit": (quantised(quant_method="bitsandbytes", load_in_4bit=True), r"not here .*bitsandbytes"),
    "gptq": (quantised(quant_method="gptq", bits=4, group_size=128), r"not here .*GPTQ"),
    "awq": (quantised(quant_method="awq", bits=4, group_size=128), r"not here .*AWQ"),
    "hqq": (quantised(quant_method="hqq"), r"not here .*HQQ"),
    "compressed tensors": (
        quantised(quant_method="compressed-tensors", config_groups={}),
        r"not here .*compressed-tensors",
    ),
    "torchao": (quantised(quant_method="torchao", quant_type="int4_weight_only"), r"not here .*torchao"),
    "a quantisation nobody knows": (
        quantised(quant_method="squeeze9"),
        "quantised by 'squeeze9', which is not known here",
    ),
    "a quantisation without a name": (quantised(bits=4), "quantised by 'None', which is not known here"),
    "whole numbers without a quantisation": (
        weights(lambda tensors: tensors.update({n: w.to(torch.int8) for n, w in tensors.items() if "proj" in n})),
        r"model/model\.safetensors holds whole numbers for weights.*quantization_config",
    ),
    "scales without a quantisation": (
        weights(lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.weight_scale_inv": torch.ones(1, 1)})),
        "quantised weights .*does not say how they are to be read",
    ),
    "a cut-off weight file": (cut(WEIGHTS, 5000), r"model\.safetensors is cut off or damaged .*; get the file again"),
    "an empty weight file": (cut(WEIGHTS, 0), r"model\.safetensors is cut off or damaged"),
    "a missing shard": (
        half_of_the_shards,
        r"model lacks 1 of its 2 weight files, such as model-00002-of-00002\.safetensors; get all",
    ),
    "a torn index": (
        written("model.safetensors.index.json", "{"),
        r"model\.safetensors\.index\.json is cut off or damaged",
    ),
    "no config": (removed(CONFIG), r"no model directory: it has no config\.json"),
    "a torn config": (written(CONFIG, "{"), r"config\.json is cut off or damaged"),
    "a config that is a list": (written(CONFIG, "[1]"), r"config\.json holds no JSON object"),
    "a torn generation config": (
        written("generation_config.json", "{"),
        r"generation_config\.json is cut off or damaged",
    ),
    "an unknown type": (
        config(model_type="brandnew9"),
        r"of type 'brandnew9', which transformers .* does not know; choose",
    ),
    "no type": (config(model_type="LEFT OUT"), r"config\.json names no model_type"),
    "GGUF alone": (
        one_after_the_other(removed("*"), written("model-q4.gguf", "GGUF")),
        r"GGUF \(model-q4\.gguf\), which is not read",
    ),
    "GGUF for weights": (
        one_after_the_other(removed(WEIGHTS), written("q4.gguf", "GGUF")),
        r"GGUF \(q4\.gguf\), .* get the model in safetensors",
    ),
    "pickles": (
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
        r"pickled weights \(pytorch_model\.bin\)",
    ),
    "no tokenizer": (removed("tokenizer*", "special*"), r"has no tokenizer \(no tokenizer\.json"),
    "a torn tokenizer": (written("tokenizer.json", "{"), "its tokenizer cannot be read .*; get its files again"),
    "a torn tokenizer config": (written("tokenizer_config.json", "{"), r"tokenizer_config\.json is cut off or damaged"),
    "no template": (no_template, "model has no chat template; .*chat_template.jinja"),
    "a template that raises": (
        written("chat_template.jinja", "{{ raise_exception('no such turn') }}"),
        r"chat template cannot .*no such turn",
    ),
    "a template of wrong syntax": (
        written("chat_template.jinja", "{% for m in messages %}{{ m }"),
        "chat template cannot render",
    ),
    "a template that looks for what is not there": (
        written("chat_template.jinja", "{{ a.b.c }}"),
        "chat template cannot .*'a' is undefined",
    ),
    "an adapter alone": (
        one_after_the_other(removed("*"), adapter),
        "holds an adapter without the model .*export model --merge",
    ),
    "an adapter beside a model": (adapter, "holds a model and an adapter; merge them"),
    "BERT": (other_architecture("bert", "BertForMaskedLM", **SIZES), OF_ANOTHER_KIND.format("BertForMaskedLM")),
    "T5": (
        other_architecture("t5", "T5ForConditionalGeneration", **T5),
        OF_ANOTHER_KIND.format("T5ForConditionalGeneration"),
    ),
    "BART": (
        other_architecture("bart", "BartForConditionalGeneration", **BART),
        OF_ANOTHER_KIND.format("BartForConditionalGeneration"),
    ),
    "CLIP": (other_architecture("clip", "CLIPModel", **TEXTS_OF_CLIP), OF_ANOTHER_KIND.format("of type 'clip'")),
    "a classifier": (
        other_architecture("llama", "LlamaForSequenceClassification", **SIZES, tie_word_embeddings=True),
        OF_ANOTHER_KIND.format("LlamaForSequenceClassification"),
    ),
    "BERT that calls itself causal": (
        one_after_the_other(other_architecture("bert", "BertLMHeadModel", **SIZES)),
        "reads the tokens that come after one, so it cannot write text",
    ),
    "another width": (
        config(hidden_size=64),
        rf"21 weights of another shape .*\[448, 32\], and .*\[448, 64\]; {BESIDE}",
    ),
    "more words": (config(vocab_size=1000), rf"weights of another shape .*\[448, 32\], and .*\[1000, 32\]; {BESIDE}"),
    "one weight's shape": (
        weights(lambda tensors: tensors.update({"model.norm.weight": torch.ones(17)})),
        r"model\.norm\.weight of \[17\]",
    ),
    "more layers than weights": (
        config(num_hidden_layers=5),
        r"model lacks 27 of its weights, such as model\.layers\.2",
    ),
    "fewer layers than weights": (
        config(num_hidden_layers=1),
        rf"more layers than its config says \(model\.layers\.1.*{BESIDE}",
    ),
    "no layers": (config(num_hidden_layers=-1), "num_hidden_layers -1"),
    "a missing weight": (
        weights(lambda tensors: tensors.pop("model.norm.weight")),
        r"lacks 1 of its weights, such as model\.norm\.weight",
    ),
    "heads that do not divide": (config(num_attention_heads=3), r"config\.json is not right .*multiple"),
    "a word for a number": (config(hidden_size="many"), r"config\.json is not right .*hidden_size"),
    "an unknown function": (config(hidden_act="superlu"), r"config\.json asks for 'superlu'"),
    "an unknown rope": (
        config(rope_parameters={"rope_type": "magic", "rope_theta": 1e4}),
        r"config\.json asks for 'magic'",
    ),
    "an unknown type of number": (config(dtype="float99"), r"config\.json says dtype 'float99'"),
    "a padding token beyond the words": (
        config(pad_token_id=99999),
        "pad_token_id 99999, but the model has a place for 448 tokens only",
    ),
    "a weight that is no number": (damaged("model.norm.weight", float("nan")), r"not finite .* in model\.norm\.weight"),
    "an infinite weight of a rare word": (
        damaged("model.embed_tokens.weight", float("inf")),
        r"not finite .* in model\.embed_tokens\.weight",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_directory_that_cannot_be_used_is_one_sentence(tmp_path: Path, whole: Path, what: str) -> None:
    change, said = REFUSED[what]
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    change(folder)
    with pytest.raises(InputError, match=said) as refusal:
        open_engine(Model(name="model"), folder, rows=4)
    sentence = str(refusal.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 600


OPENED: dict[str, Change] = {
    "added tokens that nothing uses": added_tokens(80),
    "a padding token that was only added to the tokenizer": added_tokens(80, pad=True),
    "half-precision weights": weights(
        lambda tensors: tensors.update({name: weight.half() for name, weight in tensors.items()})
    ),
    "a head of another task beside its own": weights(
        lambda tensors: tensors.update({"score.weight": torch.zeros(3, 32)})
    ),
    "no cache asked for": config(use_cache=False),
    "hidden states asked for": config(output_hidden_states=True, output_attentions=True),
    "code of its own named and not there": config(auto_map={"AutoModelForCausalLM": "modeling_own.Own"}),
    "no generation config": removed("generation_config.json"),
    "an end token beyond its words": config(eos_token_id=[1, 99999]),
}


@pytest.mark.parametrize("what", OPENED)
def test_an_unusual_directory_that_has_one_reading_is_opened(tmp_path: Path, whole: Path, what: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    OPENED[what](folder)
    engine = open_engine(Model(name="model"), folder, rows=4)
    prompts = [engine.prompt(messages(case)) for case in cases(2)]
    assert engine.pad_id < 448
    engine.shared = False  # pads
    assert len(engine.sample(prompts, [0, 1], 2, Decoding(temperature=0.0, max_new_tokens=3))) == 2


def test_a_text_with_a_token_that_has_no_place_is_refused(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    added_tokens(80)(folder)
    engine = open_engine(Model(name="model"), folder, rows=4)
    with pytest.raises(
        InputError, match=r"^A text holds '<more79>', a token that model's tokenizer has and its embeddings do not"
    ):
        engine.prompt([Message("user", "grade <more79>")])
    with pytest.raises(InputError, match="<more79>"):
        engine.response_tokens("grade <more79>", engine.prompt(messages(cases(1)[0])))


def test_cuda_where_there_is_none_is_one_sentence(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        InputError, match=r"model\.device is cuda, but torch finds no CUDA device here; set model\.device=auto or cpu"
    ):
        open_engine(Model(name="model", device="cuda"), whole, rows=4)


@pytest.mark.parametrize("device", ["mps", "cuda:7", "gpu"])
def test_a_device_that_is_not_known_is_refused_with_those_that_are(device: str) -> None:
    with pytest.raises(ValueError, match="'auto', 'cpu' or 'cuda'"):
        Model(name="model", device=device)


def test_adapters_for_layers_that_are_not_there_are_refused(whole: Path) -> None:
    with pytest.raises(InputError, match=r"model\.lora\.targets does not fit .*: .*no_such_layer"):
        open_engine(Model(name="model", lora=Lora(targets=["no_such_layer"])), whole, rows=4)


def test_tensors_that_are_left_out_are_counted_and_named(
    tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    OPENED["a head of another task beside its own"](folder)
    open_engine(Model(name="model"), folder, rows=4)
    assert re.search(
        r"model: 1 of its tensors are no part of the text model and are left out, such as score\.weight", caplog.text
    )
