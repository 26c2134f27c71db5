"""Every directory of a model, adapter or tokenizer passes one gate: weights are safetensors inside
it, and nothing there leads to code.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ehrmind.config import Model
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.memory import shape_of
from ehrmind.engines.local.opening.adapters import opened_adapter
from ehrmind.engines.local.opening.config import dropout_of
from ehrmind.engines.local.opening.gate import admit_adapter, admit_model
from ehrmind.engines.local.saving.hf_export import chat_elsewhere, chat_of, writes_today
from ehrmind.engines.local.saving.proof import reopened
from ehrmind.export.model import described, export_model
from ehrmind.types import InputError
from tests.small_adapters import lora
from tests.small_models import small_model

Change = Callable[[Path], object]
WEIGHTS, INDEX, OTHER = "model.safetensors", "model.safetensors.index.json", "evil/kernel"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("whole") / "model", "untied")


@pytest.fixture(autouse=True)
def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing in this file may reach the unpickler."""
    found: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *given, **_: found.append(given[0]))
    return found


def copied(whole: Path, folder: Path, *changes: Change) -> Path:
    shutil.copytree(whole, folder)
    for change in changes:
        change(folder)
    return folder


def said(name: str, **more: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / name
        tree = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps({**tree, **more}))

    return change


def config(**more: Any) -> Change:
    return said("config.json", **more)


def tokenizer(**more: Any) -> Change:
    return said("tokenizer_config.json", **more)


def index(place: str, *, more: Change = lambda _: None) -> Change:
    """The weights in a file of another name, or place, that the index names."""

    def change(folder: Path) -> None:
        names = list(load_file(folder / WEIGHTS))
        (folder / WEIGHTS).rename(folder / "decoy.safetensors")
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, place)}))
        more(folder)

    return change


def pickled(name: str) -> Change:
    def change(folder: Path) -> None:
        tensors = {key: tensor.clone() for key, tensor in load_file(next(folder.glob("*.safetensors"))).items()}
        torch.save(tensors, folder / name)

    return change


def linked(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def elsewhere(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    shutil.copy(folder / "decoy.safetensors", folder.parent / "elsewhere" / WEIGHTS)


def file_elsewhere(name: str, key: str) -> Change:
    def change(folder: Path) -> None:
        (folder.parent / "stolen").write_text("{}")
        said(name, **{key: str(folder.parent / "stolen")})(folder)

    return change


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def written(name: str, content: str | bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "chat_template.json")


REFUSED: dict[str, tuple[Change, str]] = {
    "an index to a pickle": (
        index("weights.dat", more=pickled("weights.dat")),
        r'index\.json names "weights\.dat" in weight_map, which is no',
    ),
    "an index to a place outside": (
        index(f"../elsewhere/{WEIGHTS}", more=elsewhere),
        "lies outside the directory; put the file into",
    ),
    "an index to an absolute place": (index(f"/var/{WEIGHTS}"), "lies outside the directory"),
    "an index to a place of another system": (index(f"..\\elsewhere\\{WEIGHTS}"), "lies outside the directory"),
    "an index to a link": (
        index("a.safetensors", more=both(elsewhere, linked("a.safetensors", f"../elsewhere/{WEIGHTS}"))),
        "a link to a pl",
    ),
    "an index to nothing": (index("a.safetensors"), "lacks 1 of its 1 weight files, such as a.safetensors"),
    "an index to a folder": (index("a.safetensors", more=lambda f: (f / "a.safetensors").mkdir()), "which is no file"),
    "an index of no names": (both(index(""), said(INDEX, weight_map={})), "names no weight file"),
    "an index of no map": (both(index(""), said(INDEX, weight_map=[1])), "has no weight_map or no metadata"),
    "an index of another name and no map": (
        said("old.safetensors.index.json", weight_map=[1]),
        "has no weight_map that names files",
    ),
    "an index of another name": (
        said("old.safetensors.index.json", weight_map={"a": "../b.safetensors"}),
        "lies outside the directory",
    ),
    "a pickle called safetensors": (pickled(WEIGHTS), "is a pickle or an archive by its content; convert"),
    "an old pickle called safetensors": (
        written(WEIGHTS, b"\x80\x04}\x94." * 9),
        "is a pickle or an archive by its content",
    ),
    "a header of 100 GB": (
        written(WEIGHTS, (10**11).to_bytes(8, "little") + b"{}" * 9),
        "model.safetensors is cut off or damaged",
    ),
    "weights of another file": (
        config(transformers_weights="adapter_model.bin"),
        r'names "adapter_model\.bin" in transformers_weights',
    ),
    "weights of another place": (config(transformers_weights="../a.safetensors"), "lies outside the directory"),
    "weights of two workers": (
        written("shard-00001-model-00001-of-00001.safetensors", b""),
        "part of a distributed checkpoint",
    ),
    "pickled weights beside": (pickled("pytorch_model.bin"), r"holds pickled weights \(pytorch_model\.bin\)"),
    "a joblib file beside": (written("weights.joblib", b""), r"holds pickled weights \(weights\.joblib\)"),
    "only a Flax model": (
        lambda f: (f / WEIGHTS).rename(f / "flax_model.msgpack"),
        r"MSGPACK \(flax_model\.msgpack\), which is not read",
    ),
    "code": (written("modeling_own.py", ""), r"holds code of its own \(modeling_own\.py\)"),
    "code that generates": (written("custom_generate/generate.py", ""), r"holds code of its own \(custom_generate\)"),
    "a compiled library": (written("kernel.so", b""), r"holds code of its own \(kernel\.so\)"),
    "a link to a file elsewhere": (
        both(written("../secret.json", "{}"), linked("generation_config.json", "../secret.json")),
        "link to a place",
    ),
    "a link to itself": (linked("generation_config.json", "generation_config.json"), "link to a place outside"),
    "a device": (linked("generation_config.json", "/dev/zero"), "link to a place outside"),
    "a pipe": (a_pipe, r"chat_template\.json is no ordinary file; remove it"),
    "a kernel for attention": (
        config(attn_implementation=OTHER),
        r'says attn_implementation "evil/kernel", which names a kernel',
    ),
    "a kernel behind a wrapper": (
        config(_attn_implementation=f"paged|{OTHER}"),
        "names a kernel to be fetched, which is code",
    ),
    "a kernel of a revision": (config(_attn_implementation_internal=f"{OTHER}@main:run"), "names a kernel"),
    "a kernel for a part": (config(attn_implementation={"": "sdpa", "vision_config": OTHER}), "names a kernel"),
    "a kernel inside a part": (
        config(text_config={"attn_implementation": OTHER}),
        r"says text_config\.attn_implementation",
    ),
    "a kernel for experts": (config(experts_implementation=OTHER), "says experts_implementation"),
    "kernels": (config(use_kernels=True), "asks for kernels to be fetched"),
    "trust": (config(trust_remote_code=True), "says trust_remote_code true, which asks for code of the model's own"),
    "trust of a tokenizer": (tokenizer(trust_remote_code=True), r"tokenizer_config\.json says trust_remote_code"),
    "a function that generates": (
        said("generation_config.json", custom_generate="evil/generate"),
        "says custom_generate",
    ),
    "other configs": (
        config(configuration_files=["config.4.0.0.json"]),
        "names other files to read in place of this one",
    ),
    "other tokenizers": (tokenizer(fast_tokenizer_files=["tokenizer.4.0.0.json"]), "in place of tokenizer.json"),
    "a renamed key": (
        config(attribute_map={"a": "_attn_implementation_internal"}, a=OTHER),
        "changes how the config is read",
    ),
    "a function of the config": (
        config(get_text_config="x"),
        "says get_text_config .* stands for code of transformers",
    ),
    "a class": (config(__class__="x"), "stands for code of transformers"),
    "a class to copy": (config(_auto_class="AutoConfig"), "changes how the config is read"),
    "other layers": (config(fusion_config={"patch_embeddings": True}), "changes the model's layers"),
    "a backbone of a repository": (
        config(text_config={"backbone": "evil/model"}),
        "asks for a model of another repository",
    ),
    "a model for a tokenizer": (
        tokenizer(tokenizer_class="AutoModelForCausalLM"),
        "tokenizer_class .* is no name of a tokenizer",
    ),
    "a retriever for a tokenizer": (tokenizer(tokenizer_class="RagRetrieverFast"), "is no name of a tokenizer"),
    "a function for a tokenizer": (
        config(tokenizer_class="pipeline"),
        r"config\.json says tokenizer_class .* is no name of a tokenizer",
    ),
    "tokenizers in folders": (tokenizer(tokenizer_class="RagTokenizer"), "RagTokenizer.* is no name of a tokenizer"),
    "a choice of tokenizers": (tokenizer(tokenizer_class="AutoTokenizerFast"), "is no name of a tokenizer"),
    "half a tokenizer": (tokenizer(tokenizer_class="MecabTokenizer"), "is no name of a tokenizer"),
    "a model without a library": (tokenizer(tokenizer_class="TorchvisionBackend"), "is no name of a tokenizer"),
    "a tokenizer of a part": (
        config(encoder={"tokenizer_class": "RagTokenizer"}),
        r"says encoder\.tokenizer_class .* is no name of",
    ),
    "a type with tokenizers in folders": (
        config(model_type="rag"),
        'says model_type "rag", which is no name of a tokenizer',
    ),
    "a module for a tokenizer": (tokenizer(tokenizer_class="os.path"), "is no name of a tokenizer"),
    "a vocabulary elsewhere": (
        file_elsewhere("tokenizer_config.json", "vocab_file"),
        "vocab_file .* names a file outside the directory",
    ),
    "a special token that is a file": (
        file_elsewhere("special_tokens_map.json", "vocab_file"),
        "vocab_file .* is no special token",
    ),
    "words from a file": (tokenizer(vocab="/etc/passwd"), "says vocab .* names a file outside"),
    "values for the tokenizer": (tokenizer(init_inputs=["/etc/passwd"]), "hands values to the tokenizer's code"),
    "GGUF for a tokenizer": (tokenizer(gguf_file="a.gguf"), "names another file to read"),
    "quantisation by kernels": (
        config(quantization_config={"quant_method": "metal"}),
        "quantised by 'metal', which is not known",
    ),
    "quantisation by the begin of a name": (
        config(quantization_config={"quant_method": ""}),
        "quantised by '', which is not known",
    ),
    "quantisation within": (
        config(text_config={"quantization_config": {"quant_method": "eetq"}}),
        "quantised by 'eetq'",
    ),
    "quantisation that is a list": (config(quantization_config=["fp8"]), "says quantization_config .* is no object"),
    "an adapter beside": (
        said("adapter_config.json", base_model_name_or_path=OTHER, peft_type="LORA"),
        "holds a model and an adapter",
    ),
    "a config without an end": (
        written("config.json", '{"a":' * 200_000 + "1" + "}" * 200_000),
        "nested too deeply|cut off or damaged",
    ),
    "a large config": (written("config.json", b"{" + b" " * (1 << 26) + b"}"), "larger than 64 MiB, as no model's is"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_safetensors_or_leads_to_code_is_one_sentence(
    tmp_path: Path, whole: Path, unpickled: list[Any], what: str
) -> None:
    change, sentence = REFUSED[what]
    folder = copied(whole, tmp_path / "model", change)
    with pytest.raises(InputError, match=sentence) as refusal:
        open_engine(Model(name="model"), folder, rows=4)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value) and len(str(refusal.value)) < 500
    assert not unpickled


WAYS: dict[str, Callable[[Path], object]] = {
    "training": lambda folder: open_engine(Model(name="model"), folder, rows=4),
    "export": lambda folder: export_model(*described(folder), folder.parent / "out", card=""),
    "proof": lambda folder: reopened(folder, "model", torch.float32),
    "chat": lambda folder: chat_of(folder, {}),
    "other trainers": lambda folder: chat_elsewhere(folder, {}),
    "predict": writes_today,
    "memory": lambda folder: shape_of(folder, Model(name="model", device="cpu")),
    "base of an adapter": lambda folder: opened_adapter(lora(folder.parent / "adapter"), folder),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_a_directory_leads_through_the_gate(
    tmp_path: Path, whole: Path, unpickled: list[Any], way: str
) -> None:
    WAYS[way](copied(whole, tmp_path / "model"))
    for name in ("model", "out"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    folder = copied(whole, tmp_path / "model", index("weights.dat", more=pickled("weights.dat")))
    if way != "predict":  # which looks at the template first
        with pytest.raises(InputError, match=r"weights\.dat"):
            WAYS[way](folder)
    tokenizer(tokenizer_class="AutoModelForCausalLM")(folder)
    (folder / INDEX).unlink()
    (folder / "decoy.safetensors").rename(folder / WEIGHTS)
    if way != "memory":
        with pytest.raises(InputError, match="no name of a tokenizer"):
            WAYS[way](folder)
    assert not unpickled and dropout_of(folder) == {}


ADAPTERS: dict[str, tuple[Change, str]] = {
    "a pickle": (pickled("adapter_model.bin"), r"holds pickled weights \(adapter_model\.bin\)"),
    "a pickle alone": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "save the adapter in safetensors",
    ),
    "a pickle by content": (pickled("adapter_model.safetensors"), "is a pickle or an archive by its content"),
    "prompts of a file": (
        said("adapter_config.json", peft_type="MULTITASK_PROMPT_TUNING"),
        "is no kind of adapter that can be merged",
    ),
    "a mixture of others": (
        said("adapter_config.json", peft_type="XLORA"),
        "is no kind of adapter that can be merged here; use another",
    ),
    "an unknown kind": (said("adapter_config.json", peft_type=["LORA"]), "is no kind of adapter"),
    "code of Megatron": (
        said("adapter_config.json", megatron_config={"a": 1}, megatron_core="megatron.evil"),
        "asks for code of Megatron",
    ),
    "code to import": (said("adapter_config.json", megatron_core="evil.core"), "names code to import"),
    "code of its own": (
        said("adapter_config.json", auto_mapping={"parent_library": "evil"}),
        "auto_mapping .* names code to import",
    ),
    "a cache of others": (
        said("adapter_config.json", corda_config={"cache_file": "/var/a.pt"}),
        r"corda_config\.cache_file .* outside",
    ),
    "a slow expression": (
        said("adapter_config.json", target_modules="(.*a.*)+$"),
        "a regular expression that may take for ever; list",
    ),
    "a base that is no path": (
        said("adapter_config.json", base_model_name_or_path=[1]),
        "says base_model_name_or_path .* is no path",
    ),
    "an endless rank": (said("adapter_config.json", r=10**12), r"says r 1000000000000, which none of its tensors has"),
    "an endless rank of a layer": (
        said("adapter_config.json", rank_pattern={"q_proj": 10**12}),
        r"says rank_pattern\.q_proj",
    ),
    "an endless token": (said("adapter_config.json", trainable_token_indices=[10**12]), "no ids of tokens"),
    "another base": (said("adapter_config.json", base_model_name_or_path="evil/model"), "no directory here"),
}


@pytest.mark.parametrize("what", ADAPTERS)
def test_an_adapter_passes_the_gate_too(tmp_path: Path, whole: Path, unpickled: list[Any], what: str) -> None:
    copied(whole, tmp_path / "model")
    change, sentence = ADAPTERS[what]
    change(lora(tmp_path / "adapter"))
    with pytest.raises(InputError, match=sentence):
        export_model(*described(tmp_path / "adapter"), tmp_path / "merged", card="", merge=True)
    assert not unpickled and not (tmp_path / "merged").exists()


def in_the_hubs_cache(whole: Path, root: Path) -> Path:
    """As the hub's client lays it out: blobs by digest, and a snapshot of links to them."""
    snapshot = root / "models--owner--model" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "blobs").mkdir()
    for place, path in enumerate(sorted(whole.iterdir())):
        shutil.copy(path, snapshot.parents[1] / "blobs" / f"{place:040}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{place:040}")
    return snapshot


def test_the_links_of_the_hubs_cache_are_followed_and_no_others(tmp_path: Path, whole: Path) -> None:
    snapshot = in_the_hubs_cache(whole, tmp_path)
    assert open_engine(Model(name="model"), snapshot, rows=4).places == 448
    (tmp_path / "short").symlink_to(snapshot)
    assert admit_model(tmp_path / "short")["model_type"] == "llama"
    linked("generation_config.json", "../../../elsewhere.json")(snapshot)
    (tmp_path / "elsewhere.json").write_text("{}")
    with pytest.raises(InputError, match="a link to a place outside the directory"):
        admit_model(snapshot)


def beside(*names: str) -> Change:
    return both(*(written(name, b"x") for name in names))


def in_a_folder(folder: Path) -> None:
    (folder / "parts").mkdir()
    shutil.copy(folder / "decoy.safetensors", folder / "parts" / "a.safetensors")


def renamed(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "own.safetensors")


OLD = {
    "_name_or_path": "/data/me/model",
    "transformers_version": "4.3.0",
    "torch_dtype": "float16",
    "architectures": ["LlamaForCausalLM"],
}
OPENED: dict[str, Change] = {
    "what a trainer leaves beside its weights": beside(
        "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"
    ),
    "the same model for other libraries": beside("tf_model.h5", "flax_model.msgpack", "model.onnx", "a.gguf"),
    "weights in a folder of the directory": index("parts/a.safetensors", more=in_a_folder),
    "weights of another name": both(config(transformers_weights="own.safetensors"), renamed),
    "kernels of those who trained it": config(attn_implementation="flash_attention_2"),
    "code of a repository": both(
        config(auto_map={"AutoConfig": "other/repo--own.Own"}), tokenizer(auto_map={"AutoTokenizer": ["a.A", None]})
    ),
    "paths of the machine it was saved on": tokenizer(
        tokenizer_file="/var/no/such/tokenizer.json", vocab_file="/var/no/such/file"
    ),
    "a tokenizer of an unknown class": tokenizer(tokenizer_class="OwnTokenizerFast"),
    "an old config": config(**OLD),
    "an infinite number": config(time_step_limit=[0.0, {"__float__": "Infinity"}]),
    "an endless length": tokenizer(model_max_length=1000000000000000019884624838656),
    "other templates": written("additional_chat_templates/tool_use.jinja", "{{ messages[0].content }}"),
    "a pickled index of another library": said(
        "pytorch_model.bin.index.json", weight_map={"a": "pytorch_model-00001-of-00002.bin"}
    ),
}


@pytest.mark.parametrize("what", OPENED)
@pytest.mark.filterwarnings("ignore")
def test_an_ordinary_directory_passes(tmp_path: Path, whole: Path, unpickled: list[Any], what: str) -> None:
    folder = copied(whole, tmp_path / "model", OPENED[what])
    assert open_engine(Model(name="model"), folder, rows=4).places == 448
    assert not unpickled


def test_an_adapter_of_a_trainer_passes(tmp_path: Path) -> None:
    mapping = {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama.modeling_llama"}
    folder = lora(
        tmp_path / "adapter",
        auto_mapping=mapping,
        eva_config=None,
        target_modules=".*(self_attn|mlp).*(q_proj|up_proj)$",
    )
    (folder / "training_args.bin").write_bytes(b"x")
    assert admit_adapter(folder)["r"] == 2
