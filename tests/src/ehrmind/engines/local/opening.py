"""Opens a model directory's weights. What is wrong with it is one sentence that names the file and says what to do."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ehrmind.config import Model
from ehrmind.engines.local.dropout import SET, in_words, without_dropout
from ehrmind.engines.local.quantised import in_plain_numbers, of_one_type
from ehrmind.types import InputError

SAID = logging.getLogger(__name__)
OURS_ALONE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}  # no code of the model's, no network
ATTENTIONS = (None, "eager", "sdpa")
INDEX = "model.safetensors.index.json"
OTHER_HEADS = re.compile(r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|MaskedLM|RewardModel)\Z")
WHOLE_NUMBERS = re.compile("U?I(8|16|32|64)")  # safetensors' names of types
TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json", "*.tiktoken")


def refuse_incomplete(folder: Path) -> None:
    """Refuses faults of a model directory that show without loading a weight. Raises InputError."""
    for file in sorted(folder.glob("*.json")):
        if file.name != "tokenizer.json":  # large, and read whole in a moment
            _read(file, folder)
    config = _read(folder / "config.json", folder)
    _refuse_unknown_names(config, folder)
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder.name} holds a model and an adapter; merge them (`ehrmind export model --merge`), or remove the adapter.")
    if not any(found for name in TOKENIZER_FILES for found in folder.glob(name)):
        raise InputError(f"{folder.name} has no tokenizer (no tokenizer.json nor tokenizer.model); put the model's own files there.")
    if (folder / INDEX).is_file():
        shards = set((_read(folder / INDEX, folder).get("weight_map") or {}).values())
        if missing := sorted(name for name in shards if not (folder / name).is_file()):
            raise InputError(
                f"{folder.name} lacks {len(missing)} of its {len(shards)} weight files, such as {missing[0]}; get all of them."
            )
    quantised = config.get("quantization_config")
    for file in sorted(folder.glob("*.safetensors")):
        kinds = _kinds(file, folder)
        if quantised is None and (whole := sorted(name for name, kind in kinds.items() if WHOLE_NUMBERS.match(kind))):
            raise InputError(
                f"{folder.name}/{file.name} holds whole numbers for weights, such as {whole[0]}, and config.json does not say how they "
                "are quantised (`quantization_config`); get the whole model, or one that is not quantised."
            )
    _refuse_unknown_quantisation(folder, quantised)


def _refuse_unknown_names(config: dict[str, Any], folder: Path) -> None:
    from transformers import CONFIG_MAPPING, __version__

    kind = config.get("model_type")
    if kind is None:
        raise _cannot(folder, "config.json names no model_type; get the model's own config.json")
    if kind not in CONFIG_MAPPING:
        why = f"it is of type '{kind}', which transformers {__version__} does not know"
        raise _cannot(folder, f"{why}; choose another model, or a version of transformers that has it")
    for key in ("dtype", "torch_dtype"):
        if (dtype := config.get(key)) not in (None, "auto") and not isinstance(getattr(torch, str(dtype), None), torch.dtype):
            raise _cannot(folder, f"config.json says {key} '{dtype}', which is no type of torch; put the one of its weights there")


def _refuse_unknown_quantisation(folder: Path, quantised: Any) -> None:
    if quantised is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    how = quantised.get("quant_method") if isinstance(quantised, dict) else None
    if not any(name.startswith(str(how)) for name in AUTO_QUANTIZATION_CONFIG_MAPPING):
        raise InputError(f"{folder.name} says that its weights are quantised by '{how}', which is not known here; get one that is not.")


def _read(file: Path, folder: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _cannot(folder, f"{file.name} is cut off or damaged ({_short(error)}); get the file again") from None
    if not isinstance(found, dict):
        raise _cannot(folder, f"{file.name} holds no JSON object; get the file again")
    return found


def _kinds(file: Path, folder: Path) -> dict[str, str]:
    """Each tensor's type, from the file's header; more is not read."""
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise _cannot(folder, f"{file.name} is cut off or damaged ({_short(error)}); get the file again") from None


def open_network(settings: Model, folder: Path) -> Any:
    """The model with its weights, dropout off. Raises InputError where it is no causal language model, whole and of this config."""
    from transformers import AutoConfig, PreTrainedModel

    refuse_incomplete(folder)
    with opening(folder):
        config: Any = in_plain_numbers(AutoConfig.from_pretrained(folder, **OURS_ALONE))
    architecture = architecture_of(config, folder)
    _refuse_other_sizes(config.get_text_config(), folder)
    config.return_dict = True  # which old ones have off
    if config._attn_implementation not in ATTENTIONS:
        config._attn_implementation = None  # a kernel of those who trained it; ours is chosen here
    dropped = without_dropout(config)
    with opening(folder), _quiet():
        loaded: Any = architecture.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, settings.dtype),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named below
            **OURS_ALONE,
        )
    network, found = loaded
    assert isinstance(network, PreTrainedModel)
    of_one_type(network, getattr(torch, settings.dtype))
    _refuse_other_weights(network, found, folder)
    if dropped:
        SAID.warning("%s: its dropout is off here, in training too (%s)", folder.name, in_words(dropped))
        object.__setattr__(network, SET, dropped)
    _freeze_what_text_does_not_reach(network, config)
    return network


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the library's table of weights that do not fit; one sentence of ours replaces it."""
    from transformers.utils import logging as said

    before = said.get_verbosity()
    said.set_verbosity_error()
    try:
        yield
    finally:
        said.set_verbosity(before)


def _refuse_other_sizes(shape: Any, folder: Path) -> None:
    """Refuses sizes that make `transformers` fail or build a broken model."""
    layers, vocabulary = getattr(shape, "num_hidden_layers", None), getattr(shape, "vocab_size", None)
    if isinstance(layers, int) and layers < 1:
        raise _cannot(folder, f"config.json says num_hidden_layers {layers}; get the model's own config.json")
    pad_id = getattr(shape, "pad_token_id", None)
    if isinstance(vocabulary, int) and isinstance(pad_id, int) and pad_id >= vocabulary:
        why = f"config.json says pad_token_id {pad_id}, but the model has a place for {vocabulary} tokens only"
        raise _cannot(folder, f"{why}; name another token there, or remove the key")


def architecture_of(config: Any, folder: Path) -> Any:
    """The class of `transformers` that opens it."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = getattr(config, "model_type", None)
    names = getattr(config, "architectures", None) or []
    other = any(OTHER_HEADS.search(name) for name in names)
    if other or getattr(config, "is_encoder_decoder", False):
        was = names[0] if names else f"a model of type '{kind}'"
        raise _cannot(folder, f"it is {was}, which does not write text from left to right; choose another model")
    for architecture in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in architecture._model_mapping:
            return architecture
    raise _cannot(folder, f"it is of type '{kind}', which does not write text from left to right; choose another model")


def _refuse_other_weights(network: Any, found: dict[str, Any], folder: Path) -> None:
    if missing := sorted(found["missing_keys"]):  # would be random numbers
        raise InputError(f"{folder.name} lacks {len(missing)} of its weights, such as {missing[0]}; get the whole model.")
    if mismatched := sorted(found["mismatched_keys"]):
        name, stored, wanted = mismatched[0]
        shapes = f"{list(stored)}, and config.json asks for {list(wanted)}"
        raise InputError(
            f"{folder.name} has {len(mismatched)} weights of another shape than its config says, such as {name} of {shapes}; "
            "put the weights and the config.json of one model together."
        )
    unused, own = sorted(found["unexpected_keys"]), {_numberless(name) for name, _ in network.named_parameters()}
    if beyond := [name for name in unused if re.search(r"\.\d+\.", name) and _numberless(name) in own]:
        raise InputError(
            f"{folder.name} holds more layers than its config says ({beyond[0]} has no place); "
            "put the weights and the config.json of one model together."
        )
    if scales := [name for name in unused if re.search(r"scale|zero_point|qweight|absmax", name.rpartition(".")[2])]:
        raise InputError(
            f"{folder.name} holds quantised weights ({scales[0]}) and its config.json does not say how they are to be read; "
            "get the whole model, or one that is not quantised."
        )
    if unused:
        SAID.warning(
            "%s: %d of its tensors are no part of the text model and are left out, such as %s", folder.name, len(unused), unused[0]
        )
    for name, weight in network.named_parameters():
        if not bool(weight.sum(dtype=torch.float32).isfinite()) and not bool(weight.isfinite().all()):
            raise InputError(f"{folder.name} holds numbers that are not finite (NaN or infinite) in {name}; get the model again.")


def _numberless(name: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", name)


def _freeze_what_text_does_not_reach(network: Any, config: Any) -> None:
    """Freezes towers for images: text gives them no gradient and no optimiser state. Some are not
    even opened."""
    if config.get_text_config() is config:
        return
    parts = [network.get_decoder(), network.get_input_embeddings(), network.get_output_embeddings()]
    reached = {id(weight) for part in parts if part is not None for weight in part.parameters()}
    frozen = [weight for weight in network.parameters() if id(weight) not in reached]
    for weight in frozen:
        weight.requires_grad_(False)
    rest = "stay as they are" if frozen else "are left out, also of what is saved"
    SAID.warning("%s: text only; its parts for images or sound %s", type(network).__name__, rest)


def usable_tokens(network: Any, tokenizer: Any, ids: Sequence[int], folder: Path) -> int:
    """Counts the token ids that the model has a place for. Raises InputError if a token of the
    tokenizer's own, or one of the `ids` that conversations are written with, lies beyond. Added
    tokens that nothing uses may."""
    places = int(network.get_input_embeddings().weight.shape[0])
    added = tokenizer.get_added_vocab()
    used = {*ids, *(id_ for token, id_ in added.items() if token in str(tokenizer.chat_template))} - {None}
    beyond = sorted(id_ for id_ in (set(tokenizer.get_vocab().values()) - set(added.values())) | used if id_ >= places)
    if beyond:
        raise InputError(
            f"The tokenizer of {folder.name} has {len(beyond)} tokens beyond the {places} that the model has a place for, such as "
            f"'{tokenizer.convert_ids_to_tokens(beyond[0])}'; put the tokenizer there that the model was trained with."
        )
    return places


@contextmanager
def opening(folder: Path, what: str = "") -> Iterator[None]:
    """Turns errors that `transformers` and its helpers raise, while they open a directory or a part
    of it, into one sentence."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise _cannot(folder, f"it needs what is not here ({_short(error)}); install that, or choose a model without") from None
    except StrictDataclassError as error:
        raise _cannot(folder, f"config.json is not right ({_short(error)}); get the model's own") from None
    except KeyError as error:
        raise _cannot(folder, f"config.json asks for {_short(error)}, which transformers does not know; get the model's own") from None
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, AssertionError, SafetensorError) as error:
        raise _cannot(folder, f"{what} cannot be read ({_short(error)}); get its files again" if what else _short(error)) from None


def _cannot(folder: Path, why: str) -> InputError:
    return InputError(f"{folder.name} cannot be opened as a causal language model: {why}.")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
