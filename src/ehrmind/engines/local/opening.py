"""Opens a model directory's weights. What is wrong with it is one sentence that names the file and says what to do."""

from __future__ import annotations

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
from ehrmind.engines.local.gate import admit_model, cannot, short, weight_files
from ehrmind.engines.local.quantised import in_plain_numbers, of_one_type
from ehrmind.engines.local.sizes import refuse_odd_sizes, within_files
from ehrmind.types import InputError

SAID = logging.getLogger(__name__)
OURS_ALONE: dict[str, Any] = {
    "trust_remote_code": False,
    "local_files_only": True,
}  # no code of the model's, no network
ATTENTIONS, EXPERTS = (
    (None, "eager", "sdpa"),
    (None, "eager", "batched_mm", "grouped_mm"),
)  # what needs no kernel from elsewhere
OTHER_HEADS = re.compile(
    r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|MaskedLM|RewardModel)\Z"
)
WHOLE_NUMBERS = re.compile("U?I(8|16|32|64)")  # safetensors' names of types
TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json", "*.tiktoken")


def refuse_incomplete(folder: Path) -> None:
    """Refuses faults of a model directory that show without loading a weight; first of all what the gate refuses. Raises InputError."""
    refuse_unfit(folder)
    if not any(found for name in TOKENIZER_FILES for found in folder.glob(name)):
        raise InputError(
            f"{folder.name} has no tokenizer (no tokenizer.json nor tokenizer.model); put the model's own files there."
        )


def refuse_unfit(folder: Path) -> None:
    """The same, of a model whose tokenizer lies elsewhere."""
    config = admit_model(folder)
    _refuse_unknown_names(config, folder)
    refuse_odd_sizes(config, folder)
    quantised = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    for file in weight_files(folder, config):
        kinds = _kinds(file, folder)
        if quantised is None and (whole := sorted(name for name, kind in kinds.items() if WHOLE_NUMBERS.match(kind))):
            raise InputError(
                f"{folder.name}/{file.name} holds whole numbers for weights, such as {whole[0]}, and config.json does not say how they "
                "are quantised (`quantization_config`); get the whole model, or one that is not quantised."
            )


def _refuse_unknown_names(config: dict[str, Any], folder: Path) -> None:
    from transformers import CONFIG_MAPPING, __version__

    kind = config.get("model_type")
    if kind is None:
        raise cannot(folder, "config.json names no model_type; get the model's own config.json")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        why = f"it is of type '{str(kind)[:60]}', which transformers {__version__} does not know"
        raise cannot(folder, f"{why}; choose another model, or a version of transformers that has it")
    for part in (
        config,
        *(value for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)),
    ):
        for key in ("dtype", "torch_dtype"):
            dtype = part.get(key)
            if not (
                dtype in (None, "auto")
                or (isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype))
            ):
                why = f"config.json says {key} '{str(dtype)[:40]}', which is no type of torch; put the one of its weights there"
                raise cannot(folder, why)


def _kinds(file: Path, folder: Path) -> dict[str, str]:
    """Each tensor's type, from the file's header; more is not read."""
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise cannot(folder, f"{file.name} is cut off or damaged ({short(error)}); get the file again") from None


def open_network(settings: Model, folder: Path) -> Any:
    """The model with its weights, dropout off. Raises InputError where it is no causal language model, whole and of this config."""
    from transformers import PreTrainedModel

    refuse_incomplete(folder)
    with opening(folder):
        config: Any = opened_config(folder)
        architecture = architecture_of(config, folder)
        _refuse_other_sizes(config.get_text_config(), folder)
        dropped = without_dropout(config)
    with opening(folder), _quiet(), within_files(weight_files(folder), folder):
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


def opened_config(folder: Path) -> Any:
    """The config of a directory that has passed the gate: dequantised where that can be done, with attention and experts that need no
    kernel from elsewhere."""
    from transformers import AutoConfig

    config: Any = in_plain_numbers(AutoConfig.from_pretrained(folder, **OURS_ALONE))
    config.return_dict = True  # which old ones have off
    parts = [config, *(part for name in config.sub_configs if (part := getattr(config, name, None)) is not None)]
    if any(part._attn_implementation not in ATTENTIONS for part in parts):
        config._attn_implementation = None  # a kernel of those who trained it; ours is chosen here
    if any(part._experts_implementation not in EXPERTS for part in parts):
        config._experts_implementation = None
    return config


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
        raise cannot(folder, f"config.json says num_hidden_layers {layers}; get the model's own config.json")
    pad_id = getattr(shape, "pad_token_id", None)
    if isinstance(vocabulary, int) and isinstance(pad_id, int) and pad_id >= vocabulary:
        why = f"config.json says pad_token_id {pad_id}, but the model has a place for {vocabulary} tokens only"
        raise cannot(folder, f"{why}; name another token there, or remove the key")


def architecture_of(config: Any, folder: Path) -> Any:
    """The class of `transformers` that opens it."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = getattr(config, "model_type", None)
    names = getattr(config, "architectures", None) or []
    other = any(OTHER_HEADS.search(name) for name in names)
    if other or getattr(config, "is_encoder_decoder", False):
        was = names[0] if names else f"a model of type '{kind}'"
        raise cannot(folder, f"it is {was}, which does not write text from left to right; choose another model")
    for architecture in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in architecture._model_mapping:
            return architecture
    raise cannot(folder, f"it is of type '{kind}', which does not write text from left to right; choose another model")


def _refuse_other_weights(network: Any, found: dict[str, Any], folder: Path) -> None:
    if missing := sorted(found["missing_keys"]):  # would be random numbers
        raise InputError(
            f"{folder.name} lacks {len(missing)} of its weights, such as {missing[0]}; get the whole model."
        )
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
            "%s: %d of its tensors are no part of the text model and are left out, such as %s",
            folder.name,
            len(unused),
            unused[0],
        )
    for name, weight in network.named_parameters():
        if not bool(weight.sum(dtype=torch.float32).isfinite()) and not bool(weight.isfinite().all()):
            raise InputError(
                f"{folder.name} holds numbers that are not finite (NaN or infinite) in {name}; get the model again."
            )


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
        raise cannot(
            folder, f"it needs what is not here ({short(error)}); install that, or choose a model without"
        ) from None
    except StrictDataclassError as error:
        raise cannot(folder, f"config.json is not right ({short(error)}); get the model's own") from None
    except KeyError as error:
        raise cannot(
            folder, f"config.json asks for {short(error)}, which transformers does not know; get the model's own"
        ) from None
    except (MemoryError, RecursionError) as error:
        why = f"it asks for more than there is ({type(error).__name__})"
        raise cannot(folder, f"{why}; get the model's own files") from None
    except Exception as error:  # noqa: BLE001 - whatever a library makes of somebody's file is no fault of this program
        raise cannot(
            folder,
            f"{what} cannot be read ({short(error)}); get its files again"
            if what
            else f"transformers cannot build it ({short(error)}); get the model's own config.json and weights",
        ) from None
