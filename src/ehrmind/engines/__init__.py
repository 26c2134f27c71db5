"""Engines write answers and learn from them: `local` (transformers), `served` (an endpoint),
`scripted`.

Stages know only the protocols below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from ehrmind.types import Completion, Group, Message, Prompt

if TYPE_CHECKING:
    from ehrmind.config import Decoding, Optimiser, Rlvr


class Proof(TypedDict, total=False):
    """Tells how a saved model was proven; empty for an engine without weights.

    `proof` says what was compared, `tensors` how many tensors, `largest_gap` the largest difference
    of log-probabilities (nats).
    """

    proof: str
    tensors: int
    largest_gap: float


class Learner(Protocol):
    """Changes an engine's weights, one batch a call.

    Metrics are plain numbers, progress is JSON.
    """

    def learn_from_groups(self, groups: Sequence[Group]) -> dict[str, float]: ...

    def learn_from_responses(self, pairs: Sequence[tuple[Prompt, tuple[int, ...]]]) -> dict[str, float]: ...

    def save(self, folder: Path, progress: Mapping[str, Any]) -> None: ...

    def resume(self, folder: Path) -> dict[str, Any]: ...


class Sampler(Protocol):
    """Samples answers: a model here or behind an endpoint, or a script."""

    @property
    def context(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""

    def prompt(self, messages: Sequence[Message]) -> Prompt: ...

    def tool_turn(self, reply: str, *, thinks: bool = True) -> Prompt:
        """Builds the tokens between a finished turn that called a tool and the next turn.

        The token that ended the finished turn is not among them.
        """

    def sample(
        self, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, decoding: Decoding
    ) -> list[list[Completion]]:
        """Samples `group_size` completions for each prompt.

        `keys` seed the random numbers, one key a prompt.
        """

    def label_logprobs(self, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]:
        """Scores labels without sampling: for each (prompt, text begun, labels), every label's
        log-probability.
        """


class Engine(Sampler, Protocol):
    """A sampler that also trains and saves its model."""

    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        """Tokenises a response to `prompt`.

        `own`: the model wrote the text, so its special tokens count.
        """

    def learner(
        self, optimiser: Optimiser, total_steps: int, *, rlvr: Rlvr | None = None, decoding: Decoding | None = None
    ) -> Learner: ...

    def save(self, folder: Path) -> Proof:
        """Writes the model and proves that the files hold it. Raises InputError if they do not."""
