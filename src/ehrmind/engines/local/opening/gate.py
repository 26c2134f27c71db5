"""The gate that every model, adapter and tokenizer directory passes before a library reads it.

Weights are safetensors inside the directory. No file is code. No key of a JSON file leads to code
or to a file outside (`named_code.py`). A broken rule is one sentence that names the file and says
what to do.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from ehrmind.engines.local.opening.named_code import refuse_named_code, shown
from ehrmind.types import InputError

CODE, PICKLES = {".py", ".so", ".pyd"}, {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
OTHER_WEIGHTS = (".gguf", ".h5", ".msgpack", ".ot", ".onnx", ".npz", ".npy")  # never read
# Files of a trainer, never read either
OF_A_TRAINER = re.compile(r"(training_args|optimizer)\.bin|(optimizer|scheduler|scaler)\.pt|rng_state(_\d+)?\.pth")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TEMPLATES = "additional_chat_templates"
# Parts of a distributed checkpoint, which transformers would prefer to the whole model
OF_WORKERS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
BYTES = {"tokenizer.json": 1 << 28, ".json": 1 << 26, ".jinja": 1 << 20, ".txt": 1 << 27, ".model": 1 << 28}


def admit_model(folder: Path) -> dict[str, Any]:
    """Checks a model directory and returns its config. Raises InputError."""
    if not (folder / "config.json").is_file():
        if (folder / ADAPTER).is_file():
            raise InputError(
                f"{folder} holds an adapter without the model that it changes; merge it into one (`ehrmind export "
                "model --merge`), "
                "and name what that wrote."
            )
        raise InputError(f"{folder} is no model directory: it has no config.json{_held_instead(folder)}.")
    trees = _admit_files(folder)
    if ADAPTER in trees:
        raise InputError(
            f"{folder.name} holds a model and an adapter; merge them (`ehrmind export model --merge`), or remove the "
            "adapter."
        )
    for file in weight_files(folder, trees["config.json"]):
        _refuse_other_content(file, folder)
    return trees["config.json"]


def admit_adapter(folder: Path) -> dict[str, Any]:
    """Checks a folder of peft and returns the adapter's config. Raises InputError."""
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{folder} has no {ADAPTER_WEIGHTS}; save the adapter in safetensors.")
    trees = _admit_files(folder)
    if ADAPTER not in trees:
        raise InputError(f"{folder} is no adapter: it has no {ADAPTER}; get the whole adapter.")
    _refuse_other_content(folder / ADAPTER_WEIGHTS, folder)
    return trees[ADAPTER]


def admit_tokenizer(folder: Path) -> None:
    """Checks a directory of which only the tokenizer is read. Raises InputError."""
    _admit_files(folder)


def read_json(file: Path, folder: Path) -> dict[str, Any]:
    """Reads a JSON object of a model directory. Raises InputError if the file holds none."""
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise cannot(folder, f"{file.name} is nested too deeply; get the file again") from None
    except (OSError, ValueError, MemoryError) as error:
        raise cannot(folder, f"{file.name} is cut off or damaged ({short(error)}); get the file again") from None
    if not isinstance(found, dict):
        raise cannot(folder, f"{file.name} holds no JSON object; get the file again")
    return found


def weight_files(folder: Path, config: dict[str, Any] | None = None) -> list[Path]:
    """Lists the files that a model's weights are read from.

    Raises InputError if one of them is missing, outside the directory or not safetensors.
    """
    config = read_json(folder / "config.json", folder) if config is None else config
    named = config.get("transformers_weights")
    if isinstance(named, str) and named.endswith(".index.json"):
        return _shards(
            _inside(named, "config.json", "transformers_weights", folder, ending=".safetensors.index.json"), folder
        )
    if named is not None:
        return [_inside(named, "config.json", "transformers_weights", folder)]
    shards = _shards(folder / INDEX, folder) if (folder / INDEX).is_file() else []
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]  # transformers prefers it to the index
    if shards:
        return shards
    if list(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder.name} has neither {WEIGHTS} nor {INDEX}; name its weight files in the latter, or get the whole "
            "model."
        )
    raise InputError(
        f"{folder.name} holds no safetensors weights{_held_instead(folder)}; get the model in safetensors."
    )


def _shards(index: Path, folder: Path) -> list[Path]:
    tree = read_json(index, folder)
    if not isinstance(tree.get("weight_map"), dict) or not isinstance(tree.get("metadata"), dict):
        raise cannot(folder, f"{index.name} has no weight_map or no metadata; get the file again")
    if not (names := list(dict.fromkeys(map(str, tree["weight_map"].values())))):
        raise cannot(folder, f"{index.name} names no weight file; get the file again")
    missing = [name for name in names if _is_plain(name) and not (folder / name).exists()]
    if missing:
        raise InputError(
            f"{folder.name} lacks {len(missing)} of its {len(names)} weight files, such as {missing[0]}; get all of "
            "them."
        )
    return [_inside(name, index.name, "weight_map", folder) for name in names]


def _is_plain(name: str, ending: str = ".safetensors") -> bool:
    """Tells whether a name stays in its directory on every system."""
    path = PurePosixPath(name)
    return (
        name.endswith(ending)
        and name.isprintable()
        and "\\" not in name
        and not path.is_absolute()
        and ".." not in path.parts
    )


def _inside(name: Any, file: str, key: str, folder: Path, ending: str = ".safetensors") -> Path:
    """Returns the file that a key names. Raises InputError if it is of another kind or outside."""
    where = f"{folder.name}/{file} names {shown(name)} in {key}"
    if not isinstance(name, str) or not name.endswith(ending):
        raise InputError(
            f"{where}, which is no {ending.removeprefix('.')} file; convert the weights to safetensors and name them "
            "there."
        )
    if not _is_plain(name, ending) or not _stays(folder / name, folder):
        raise InputError(
            f"{where}, which lies outside the directory; put the file into the directory and name it there."
        )
    if not (folder / name).is_file():
        raise InputError(f"{where}, which is no file; get the whole model.")
    return folder / name


def _admit_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Checks every file of the directory.

    Returns its JSON objects by name, except the large tokenizer.json.
    """
    trees = {}
    for path in _files(folder):
        _refuse_link_or_device(path, folder)
        if path.name == "custom_generate" or path.suffix in CODE:
            raise InputError(
                f"{folder.name} holds code of its own ({path.name}), which is never run; remove it or use another "
                "model."
            )
        if path.suffix in PICKLES and not OF_A_TRAINER.fullmatch(path.name):
            raise InputError(
                f"{folder.name} holds pickled weights ({path.name}); convert them to safetensors and remove the file."
            )
        if OF_WORKERS.fullmatch(path.name):
            raise InputError(
                f"{folder.name} holds a part of a distributed checkpoint ({path.name}); save the model whole, in "
                "safetensors."
            )
        limit = BYTES.get(path.name, BYTES.get(path.suffix))
        if limit is not None and path.is_file() and path.stat().st_size > limit:
            raise InputError(
                f"{folder.name}/{path.name} is larger than {limit >> 20} MiB, as no model's is; get the file again."
            )
        if path.suffix == ".json" and path.name != "tokenizer.json" and path.is_file() and path.parent == folder:
            trees[path.name] = read_json(path, folder)
    for name in sorted(name for name in trees if name.endswith(".safetensors.index.json") and name != INDEX):
        named = trees[name].get("weight_map", {})
        if not isinstance(named, dict):
            raise cannot(folder, f"{name} has no weight_map that names files; get the file again")
        for shard in map(str, named.values()):
            if not _is_plain(shard) or not _stays(folder / shard, folder):
                _inside(shard, name, "weight_map", folder)
    refuse_named_code(trees, folder)
    _never_ask()
    return trees


def _never_ask() -> None:
    """Gives transformers no time to ask whether to run a model's code.

    Where a part of transformers is called without `trust_remote_code=False`, it raises and does not
    ask a question that someone may answer with yes.
    """
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
        if (folder / TEMPLATES).is_dir():
            yield from sorted((folder / TEMPLATES).iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}); set its permissions, or name another directory."
        ) from None


def _refuse_link_or_device(path: Path, folder: Path) -> None:
    if not _stays(path, folder):
        raise InputError(
            f"{folder.name}/{path.name} is a link to a place outside the directory; put the file itself there."
        )
    mode = path.stat().st_mode if path.exists() else stat.S_IFREG
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{folder.name}/{path.name} is no ordinary file; remove it.")


def _stays(path: Path, folder: Path) -> bool:
    """Tells whether a path ends in the directory, or in the hub's cache if the directory is a
    snapshot of it.
    """
    from huggingface_hub import constants

    try:
        real, root = path.resolve(), folder.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return False
    blobs = root.parent.parent / "blobs"
    if real.is_relative_to(root) or (root.parent.name == "snapshots" and real.parent == blobs):
        return True
    return real.parent.name == "blobs" and real.is_relative_to(Path(constants.HF_HUB_CACHE).resolve())


def _refuse_other_content(file: Path, folder: Path) -> None:
    """Refuses a file whose content is not safetensors. Only its header is read."""
    try:
        with safe_open(file, framework="pt"):
            return
    except (OSError, SafetensorError) as error:
        with file.open("rb") as begun:
            first = begun.read(4)
        if first[:1] == b"\x80" or first[:2] == b"PK":
            raise InputError(
                f"{folder.name}/{file.name} is a pickle or an archive by its content; convert the weights to "
                "safetensors."
            ) from None
        raise cannot(folder, f"{file.name} is cut off or damaged ({short(error)}); get the file again") from None


def _held_instead(folder: Path) -> str:
    found = [path for suffix in OTHER_WEIGHTS for path in sorted(folder.glob(f"*{suffix}"))]
    if not found:
        return ""
    how = " before it is converted (`ehrmind model convert`)" if found[0].suffix == ".gguf" else ""
    return f", but {found[0].suffix[1:].upper()} ({found[0].name}), which is not read{how}"


def cannot(folder: Path, why: str) -> InputError:
    return InputError(f"{folder.name} cannot be opened as a causal language model: {why}.")


def short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
