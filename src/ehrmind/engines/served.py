"""The sampling half of an engine, for a model behind an endpoint: completions with their text and how many tokens they took.

There are no token ids and no log-probabilities. A prompt's one "token" is its place in the list of prompts; how long it may be is the
endpoint's to say.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ehrmind.config import Decoding
from ehrmind.engines.answers import Answer, Question
from ehrmind.engines.endpoint import KEPT, EndpointClient, told
from ehrmind.prompts.chat import asks_for_thinking
from ehrmind.prompts.protocol import ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, neutral
from ehrmind.types import Completion, InputError, Message, Prompt, Segment


class EndpointEngine:
    """`refuses_gaps`: a question that stays unanswered ends the work; otherwise its completion is empty and has the reason `error`.
    `harmless` takes apart what spells a turn of the served model, if its tokenizer is here (`Chat.harmless`)."""

    context = 1 << 30

    def __init__(
        self, client: EndpointClient, *, refuses_gaps: bool, harmless: Callable[[Message], Message] = lambda turn: turn
    ) -> None:
        self.client, self.refuses_gaps, self.harmless = client, refuses_gaps, harmless
        self.prompts: list[tuple[Message, ...]] = []
        self.unanswered: Counter[str] = Counter()

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        self.prompts.append(tuple(map(self.harmless, messages)))
        return Prompt((len(self.prompts) - 1,))

    def sample(
        self, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding
    ) -> list[list[Completion]]:
        """Raises InputError where the endpoint leaves a gap that it refuses."""
        asked = [
            Question(
                self.prompts[prompt.token_ids[0]], decoding, _draw(key, member) if decoding.temperature else member
            )
            for prompt, key in zip(prompts, keys, strict=True)
            for member in range(members)
        ]
        answers = self.client.ask(asked)
        gaps = [answer.failure for answer in answers if answer.failure is not None]
        self.unanswered.update(gaps)
        if gaps and self.refuses_gaps:
            raise InputError(
                f"{self.client.where} left {len(gaps)} of {len(answers)} questions unanswered ({told(gaps)}); {KEPT}. "
                f"{self.client.where}.unanswered=wrong would score them as wrong."
            )
        completions = [
            completion(answer, thinks=asks_for_thinking(question.messages))
            for question, answer in zip(asked, answers, strict=True)
        ]
        return [completions[start : start + members] for start in range(0, len(completions), members)]


def harmless_of(folder: Path | None) -> Callable[[Message], Message]:
    """Returns what takes a served model's markers out of a message, by its tokenizer in `folder`. Without one, or without the library that
    reads it, a message stays as it is: the markers of the known families are out of every prompt already (`prompts.protocol.neutral`)."""
    if folder is None or find_spec("transformers") is None:
        return lambda turn: turn
    from ehrmind.engines.local.ordinary import chat_of

    try:
        return chat_of(folder, {}).harmless
    except InputError:  # a directory that is named and cannot be opened: the server has the weights
        return lambda turn: turn


def completion(answer: Answer, *, thinks: bool = True) -> Completion:
    """An answer as the judge reads it. Reasoning that the endpoint returns separately is put back
    where the model wrote it. So is the opening of a thought that the template writes in the prompt.
    Some servers take every answer for a thought until it is closed. They return as a thought what
    was asked for without one."""
    text = answer.text
    if not thinks and not text.strip() and answer.reasoning.lstrip().startswith(ANSWER_OPEN):
        text = answer.reasoning
    elif THINK_OPEN not in text:
        reasoning = answer.reasoning.strip().removeprefix(THINK_OPEN).removesuffix(THINK_CLOSE)
        if reasoning.strip():
            rest = text.lstrip().removeprefix(THINK_CLOSE)
            closed = (
                f"{THINK_CLOSE}\n{rest}" if rest.strip() else ""
            )  # a server that finds no end of the thought takes all for it
            text = f"{THINK_OPEN}{neutral(reasoning)}{closed}"
        elif THINK_CLOSE in text:
            text = f"{THINK_OPEN}{text}"
    return Completion((Segment("assistant", (0,) * answer.completion_tokens, ()),), answer.finish_reason, text)


def _draw(key: int, member: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{key}\x00{member}".encode(), digest_size=8).digest(), "little")
