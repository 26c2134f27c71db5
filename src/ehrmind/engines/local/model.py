"""The opened model: what sampler, learner, label log-probabilities and saving work on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ehrmind.config import Model
from ehrmind.engines.local.chat.conversation import Chat
from ehrmind.engines.local.opening.network import padding_id
from ehrmind.types import InputError, Message, Prompt


@dataclass
class LocalModel:
    """A network on one device with its tokenizer and chat format.

    The sampler decodes `rows` answers at once, with keys and values of at most `tokens` tokens.
    `shared` tells that a prompt is computed once for its whole group. Batches are computed in
    `shards`, whoever holds them. `strategy` is how workers share the model: ddp or fsdp.
    """

    network: Any  # transformers.PreTrainedModel, or peft's wrapper of one
    tokenizer: Any
    settings: Model
    rows: int
    tokens: int
    shared: bool
    chat: Chat
    stop_ids: frozenset[int]
    folder: Path
    shards: int = 1
    strategy: str = "ddp"
    places: int = 1 << 62  # rows of the embeddings
    cannot_learn: str | None = None  # the reason, for a model that can only be scored
    seed: int = 0  # of random numbers that the network draws while it learns

    @property
    def context(self) -> int:
        return int(getattr(self.network.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    @property
    def pad_id(self) -> int:
        """The padding token."""
        return padding_id(self.tokenizer, self.chat.end_id, self.places)

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        prompt = self.chat.prompt(messages)
        self._refuse_without_place(prompt.token_ids)
        return prompt

    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        ids = self.chat.response_tokens(text, prompt, own=own)
        self._refuse_without_place(ids)
        return ids

    def tool_turn(self, reply: str, *, thinks: bool = True) -> Prompt:
        return self.chat.tool_turn(reply, thinks=thinks)

    def decode(self, ids: Sequence[int]) -> str:
        return self.chat.decode(ids, self.stop_ids)

    def autocast(self) -> Any:
        """Returns the precision context that sampler and learner share, so that their
        log-probabilities agree.
        """
        return torch.autocast(self.network.device.type, torch.bfloat16) if self.settings.autocast else nullcontext()

    def refuse_to_learn(self) -> None:
        """Raises InputError if the model can be scored but not trained."""
        if self.cannot_learn is not None:
            raise InputError(
                f"{self.folder.name} can be scored but not trained: {self.cannot_learn}; choose another model, or "
                "arms: [base]."
            )

    def _refuse_without_place(self, ids: Sequence[int]) -> None:
        if (beyond := max(ids, default=0)) >= self.places:
            token = self.tokenizer.convert_ids_to_tokens(beyond)
            raise InputError(
                f"A text holds '{token}', a token that {self.folder.name}'s tokenizer has and its embeddings do not; "
                "take it out of the text or out of the tokenizer's added tokens."
            )


def device_of(settings: Model) -> str:
    """Returns `cuda` or `cpu` by the settings. Raises InputError if that device is not here."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "model.device is cuda, but torch finds no CUDA device here; set model.device=auto or cpu, or see `ehrmind "
            "doctor`."
        )
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"
