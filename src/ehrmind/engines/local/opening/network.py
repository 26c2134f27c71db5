"""Opens a model directory's weights.

Every fault is one sentence that names the file and says what to do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ehrmind.config import Model
from ehrmind.engines.local.opening.config import OURS_ALONE, architecture_of, opened_config, opening, refuse_incomplete
from ehrmind.engines.local.opening.dropout import SET, in_words, without_dropout
from ehrmind.engines.local.opening.gate import cannot, weight_files
from ehrmind.engines.local.opening.quantised import of_one_type
from ehrmind.engines.local.opening.sizes import within_files
from ehrmind.types import InputError

LOG = logging.getLogger(__name__)


def open_network(settings: Model, folder: Path) -> Any:
    """Opens a model with its weights and without dropout.

    Raises InputError if it is no causal language model, or if its weights are incomplete or of
    another config.
    """
    from transformers import PreTrainedModel

    refuse_incomplete(folder)
    with opening(folder):
        config: Any = opened_config(folder)
        architecture = architecture_of(config, folder)
        _refuse_other_sizes(config.get_text_config(), folder)
        dropped = without_dropout(config)
    with opening(folder), quiet(), within_files(weight_files(folder), folder):
        loaded: Any = architecture.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, settings.dtype),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
            **OURS_ALONE,
        )
    network, found = loaded
    assert isinstance(network, PreTrainedModel)
    of_one_type(network, getattr(torch, settings.dtype))
    _refuse_other_weights(network, found, folder)
    if dropped:
        LOG.warning("%s: its dropout is off here, in training too (%s)", folder.name, in_words(dropped))
        object.__setattr__(network, SET, dropped)
    _freeze_what_text_does_not_reach(network, config)
    return network


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the library's table of weights that do not fit; our own sentence replaces it."""
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


def _refuse_other_weights(network: Any, found: dict[str, Any], folder: Path) -> None:
    if missing := sorted(found["missing_keys"]):  # they would be random numbers
        raise InputError(
            f"{folder.name} lacks {len(missing)} of its weights, such as {missing[0]}; get the whole model."
        )
    if mismatched := sorted(found["mismatched_keys"]):
        name, stored, wanted = mismatched[0]
        shapes = f"{list(stored)}, and config.json asks for {list(wanted)}"
        raise InputError(
            f"{folder.name} has {len(mismatched)} weights of another shape than its config says, such as {name} of "
            f"{shapes}; "
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
            f"{folder.name} holds quantised weights ({scales[0]}) and its config.json does not say how they are to be "
            "read; "
            "get the whole model, or one that is not quantised."
        )
    if unused:
        LOG.warning(
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
    """Freezes towers for images: text gives them no gradient and no optimiser state.

    Some are not even opened.
    """
    if config.get_text_config() is config:
        return
    parts = [network.get_decoder(), network.get_input_embeddings(), network.get_output_embeddings()]
    reached = {id(weight) for part in parts if part is not None for weight in part.parameters()}
    frozen = [weight for weight in network.parameters() if id(weight) not in reached]
    for weight in frozen:
        weight.requires_grad_(False)
    rest = "stay as they are" if frozen else "are left out, also of what is saved"
    LOG.warning("%s: text only; its parts for images or sound %s", type(network).__name__, rest)


def usable_tokens(network: Any, tokenizer: Any, ids: Sequence[int], folder: Path) -> int:
    """Counts the token ids that the model's embeddings have a row for.

    Raises InputError if a token of the base vocabulary lies beyond, or a token that conversations
    need (`ids`, or in the template). Added tokens that nothing uses may lie beyond.
    """
    places = int(network.get_input_embeddings().weight.shape[0])
    added = tokenizer.get_added_vocab()
    used = {*ids, *(id_ for token, id_ in added.items() if token in str(tokenizer.chat_template))} - {None}
    beyond = sorted(id_ for id_ in (set(tokenizer.get_vocab().values()) - set(added.values())) | used if id_ >= places)
    if beyond:
        raise InputError(
            f"The tokenizer of {folder.name} has {len(beyond)} tokens beyond the {places} that the model has a place "
            "for, such as "
            f"'{tokenizer.convert_ids_to_tokens(beyond[0])}'; put the tokenizer there that the model was trained with."
        )
    return places


def padding_id(tokenizer: Any, end_id: int, places: int) -> int:
    """Returns the padding token. If the embeddings have no row for it, the end token serves as
    well.
    """
    pad_id = tokenizer.pad_token_id
    return int(end_id if pad_id is None or pad_id >= places else pad_id)
