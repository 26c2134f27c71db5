"""Who produces text and learns from it: `local` (a transformers model), `scripted` (planned answers).

Stages know only the `Engine` and `Learner` protocols below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ehrmind.types import Completion, Group, Message, Prompt

if TYPE_CHECKING:
    from ehrmind.config import Decoding, Optimiser, Rlvr


class Learner(Protocol):
    """Changes the engine's weights, one optimiser step a call; metrics are plain numbers."""

    def learn_from_groups(self, groups: Sequence[Group]) -> dict[str, float]: ...

    def learn_from_responses(self, pairs: Sequence[tuple[Prompt, tuple[int, ...]]]) -> dict[str, float]: ...

    def save(self, folder: Path, progress: Mapping[str, Any]) -> None: ...

    def resume(self, folder: Path) -> dict[str, Any]: ...


class Engine(Protocol):
    """A language model with its tokenizer."""

    @property
    def context(self) -> int: ...

    def prompt(self, messages: Sequence[Message]) -> Prompt: ...

    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        """`own`: the model wrote the text itself, and its special tokens are meant."""

    def tool_turn(self, reply: str, *, thinks: bool = True) -> Prompt:
        """What stands between a finished turn of the assistant and its next one, without the token that ended the first."""

    def sample(
        self, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding
    ) -> list[list[Completion]]: ...

    def option_logprobs(self, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]: ...

    def learner(
        self, optimiser: Optimiser, total_steps: int, *, rlvr: Rlvr | None = None, decoding: Decoding | None = None
    ) -> Learner: ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the model, and say how it was proven to be the one in memory. Raises InputError where it is not."""
