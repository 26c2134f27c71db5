"""A sampler for a model behind an endpoint: completions with their text and number of tokens.

It has no token ids and no log-probabilities. A prompt's only "token" is its place in the list of
prompts. The endpoint decides how long a prompt may be.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ehrmind.config import Decoding
from ehrmind.engines.answers import Answer, Question
from ehrmind.engines.endpoint import KEPT, EndpointClient, counted
from ehrmind.prompts.chat import asks_for_thinking
from ehrmind.prompts.protocol import ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, neutral
from ehrmind.types import Completion, InputError, Message, Prompt, Segment


class EndpointEngine:
    """Samples from an endpoint.

    With `refuses_gaps` an unanswered question ends the work. Without it the completion is empty,
    with the reason `error`. `harmless` takes text apart that spells a turn of the served model
    (`Chat.harmless`), if its tokenizer is here.
    """

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
        self, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, decoding: Decoding
    ) -> list[list[Completion]]:
        """Asks for all completions.

        Raises InputError for an unanswered question if gaps are refused.
        """
        asked = [
            Question(
                self.prompts[prompt.token_ids[0]], decoding, _draw(key, member) if decoding.temperature else member
            )
            for prompt, key in zip(prompts, keys, strict=True)
            for member in range(group_size)
        ]
        answers = self.client.ask(asked)
        gaps = [answer.failure for answer in answers if answer.failure is not None]
        self.unanswered.update(gaps)
        if gaps and self.refuses_gaps:
            raise InputError(
                f"{self.client.where} left {len(gaps)} of {len(answers)} questions unanswered ({counted(gaps)}); "
                f"{KEPT}. "
                f"{self.client.where}.unanswered=wrong would score them as wrong."
            )
        completions = [
            completion(answer, thinks=asks_for_thinking(question.messages))
            for question, answer in zip(asked, answers, strict=True)
        ]
        return [completions[start : start + group_size] for start in range(0, len(completions), group_size)]

    def tool_turn(self, reply: str, *, thinks: bool = True) -> Prompt:
        raise InputError(f"{self.client.where} is asked for one turn, without a tool; set prompts.tool=false.")

    def label_logprobs(self, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]:
        raise InputError(
            f"{self.client.where} gives no log-probabilities of labels; set evaluate.probabilities=samples."
        )


def harmless_of(folder: Path | None) -> Callable[[Message], Message]:
    """Returns a function that takes a served model's markers apart, by its tokenizer in `folder`.

    Without a tokenizer, or without `transformers`, messages stay unchanged: every prompt is already
    free of the known families' markers (`prompts.protocol.neutral`).
    """
    if folder is None or find_spec("transformers") is None:
        return lambda turn: turn
    from ehrmind.engines.local.saving.hf_export import chat_of

    try:
        return chat_of(folder, {}).harmless
    except InputError:  # it cannot be opened here, but the server has the weights
        return lambda turn: turn


def completion(answer: Answer, *, thinks: bool = True) -> Completion:
    """Turns an answer into the text that the judge reads.

    Reasoning that the endpoint returns separately is put back where the model wrote it. So is the
    opening of a thought that the template writes into the prompt. Some servers take every answer
    for a thought until it is closed, and return an answer without a thought as reasoning.
    """
    text = answer.text
    if not thinks and not text.strip() and answer.reasoning.lstrip().startswith(ANSWER_OPEN):
        text = answer.reasoning
    elif THINK_OPEN not in text:
        reasoning = answer.reasoning.strip().removeprefix(THINK_OPEN).removesuffix(THINK_CLOSE)
        if reasoning.strip():
            rest = text.lstrip().removeprefix(THINK_CLOSE)
            # Without an end of the thought the server took everything for reasoning
            closed = f"{THINK_CLOSE}\n{rest}" if rest.strip() else ""
            text = f"{THINK_OPEN}{neutral(reasoning)}{closed}"
        elif THINK_CLOSE in text:
            text = f"{THINK_OPEN}{text}"
    return Completion((Segment("assistant", (0,) * answer.completion_tokens, ()),), answer.finish_reason, text)


def _draw(key: int, member: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{key}\x00{member}".encode(), digest_size=8).digest(), "little")
