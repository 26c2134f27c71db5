"""Opens a GGUF file with `transformers`' own reader, dequantised.

The reader gets a folder that holds nothing but the file, so no other file of a stranger (a config,
an adapter, code) takes part. It leaves out without a word what it does not know. So what the model
got is compared with the header of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ehrmind.engines.local.opening.config import OURS_ALONE, architecture_of
from ehrmind.engines.local.opening.gate import short
from ehrmind.engines.local.opening.gguf_header import GgufHeader
from ehrmind.engines.local.opening.network import quiet
from ehrmind.temporary import temporary_folder
from ehrmind.types import InputError

NAME = "model.gguf"
TEMPLATE = "tokenizer.chat_template"
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")  # of a sequence, a turn, a message to a tool


class Opened(NamedTuple):
    """`left_out` names tensors of the file that the model has no place for."""

    network: Any
    tokenizer: Any
    left_out: tuple[str, ...]


def open_gguf(file: Path, header: GgufHeader, dtype: torch.dtype) -> Opened:
    """Reads model and tokenizer. Raises InputError if the reader does not know the file, or if the
    model would compute something else.
    """
    with temporary_folder("ehrmind-gguf") as folder, _in_words(file, folder), quiet():
        (folder / NAME).symlink_to(file.resolve())
        from transformers import AutoConfig

        asked: dict[str, Any] = {"gguf_file": NAME, **OURS_ALONE}
        config: Any = AutoConfig.from_pretrained(folder, **asked)
        architecture = architecture_of(config, file)
        _refuse_other_positions(config, header, file)
        tokenizer = _tokenizer(folder, asked)
        network, found = architecture.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **_dequantised(), **asked
        )
    _refuse_incomplete(found, file)
    network.config.name_or_path = ""  # of the folder, which is gone
    tokenizer.name_or_path = ""
    return Opened(network.eval(), tokenizer, _left_out(network, header, file))


def end_ids(header: GgufHeader) -> frozenset[int]:
    """Returns the ids that the file calls an end."""
    found = (header.fields.get(f"tokenizer.ggml.{name}") for name in ENDS)
    return frozenset(token for token in found if isinstance(token, int))


def _tokenizer(folder: Path, asked: Mapping[str, Any]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **asked)


def _dequantised() -> dict[str, Any]:
    """Asks newer versions of transformers to dequantise; they keep some architectures in blocks."""
    import transformers

    settings = getattr(transformers, "GgufConfig", None)
    return {} if settings is None else {"quantization_config": settings(dequantize=True)}


@contextmanager
def _in_words(file: Path, folder: Path) -> Iterator[None]:
    """Turns errors of the reader into one sentence."""
    try:
        yield
    except (InputError, ModuleNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - a stranger's file can make a library raise anything
        from transformers import __version__

        said = short(error).replace(str(folder / NAME), file.name).replace(str(folder), file.name)
        raise InputError(
            f"{file.name} cannot be read by transformers {__version__} ({said}); get the model in safetensors, or as "
            "another GGUF file."
        ) from None


def _refuse_other_positions(config: Any, header: GgufHeader, file: Path) -> None:
    """Refuses scaled positions (long contexts) that the reader left out of the config."""
    asked = {
        name.partition(".")[2]: value
        for name, value in header.fields.items()
        if name in (f"{header.architecture}.rope.scaling.{key}" for key in ("type", "factor"))
        and value not in ("none", 1.0)
    }
    found = getattr(config.get_text_config(), "rope_parameters", None) or {}
    parts = [found, *(part for part in found.values() if isinstance(part, Mapping))]
    if asked and not any(part.get("rope_type", "default") != "default" for part in parts):
        said = ", ".join(f"{name} {value}" for name, value in sorted(asked.items()))
        raise _would_differ(file, f"the scaling of its positions ({said})")


def _would_differ(file: Path, what: str) -> InputError:
    from transformers import __version__

    return InputError(
        f"transformers {__version__} leaves out {what} of {file.name}, so the model would compute something else; get "
        "the model in safetensors."
    )


def _refuse_incomplete(found: Mapping[str, Any], file: Path) -> None:
    for kind, words in (
        ("missing_keys", "the model has and the file lacks"),
        ("mismatched_keys", "have another shape in the file than in the model"),
        ("unexpected_keys", "the file has and the model lacks"),
    ):
        if names := sorted(map(str, found.get(kind) or ())):
            raise InputError(
                f"{file.name} cannot be converted: {len(names)} weights {words}, such as {names[0]}; get another."
            )


def _left_out(network: Any, header: GgufHeader, file: Path) -> tuple[str, ...]:
    """Returns the tensors that no weight of the model holds.

    Raises InputError if one of them changes what the model computes, or if they cannot be named.
    """
    weights = {weight.data_ptr(): weight.numel() for weight in network.state_dict().values()}
    spare = header.numbers - sum(weights.values())
    if not spare:
        return ()
    sizes = set(weights.values())
    names = sorted(name for name, numbers in header.tensors.items() if numbers not in sizes)
    if rope := [name for name in names if name.startswith("rope_")]:
        raise _would_differ(file, f"the tensor {rope[0]}")
    if spare != sum(header.tensors[name] for name in names):
        raise _would_differ(file, f"{abs(spare):,} of {header.numbers:,} numbers")
    return tuple(names)
