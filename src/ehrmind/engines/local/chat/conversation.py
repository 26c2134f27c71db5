"""Turns conversations into tokens and back through the tokenizer's own chat template.

Templates change their input: they drop earlier thoughts, open a thought themselves, leave the
assistant's header to the model, or end a turn with text that is no token. In each of these cases
the conversation is kept as given, or the template is refused with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ehrmind.engines.local.chat.markers import Markers, find_markers
from ehrmind.engines.local.chat.template_fault import in_own_words
from ehrmind.prompts.chat import asks_for_thinking
from ehrmind.prompts.protocol import THINK_CLOSE, THINK_OPEN
from ehrmind.types import InputError, Message, Prompt

ASKED, SAID, NEXT = "the-first-words", "the-last-words", "the-reply-words"  # stand for the contents of turns
OPENED = re.compile(rf"{THINK_OPEN}\s*\Z")
EMPTY_THOUGHT = re.compile(rf"\A\s*(?:{THINK_OPEN})?\s*{THINK_CLOSE}\s*")
# An empty thought that a template writes before a given one
BEFORE_THOUGHT = re.compile(rf"{THINK_OPEN}\s*(?:{THINK_CLOSE}\s*)?(?={THINK_OPEN})")


@dataclass(frozen=True)
class Chat:
    """A model's chat format.

    `end_id` follows every trained response, every id of `stop_ids` ends a sampled answer.
    `end_text` ends a turn in words if no token does. `header` is the assistant's header, if the
    template leaves it out of a prompt. `closing` ends a thought that the template opens. No text of
    a turn may spell `markers`.
    """

    tokenizer: Any
    arguments: Mapping[str, Any]
    end_id: int
    stop_ids: frozenset[int]
    markers: Markers
    end_text: str = ""
    header: str = ""
    closing: str = f"\n{THINK_CLOSE}\n\n"

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """Renders a conversation up to the assistant's turn.

        Closes a thought that the template opens but nobody asks for.
        """
        turns = [self.harmless(message) for message in messages]
        return self._begun(conversation(self.tokenizer, turns, self.arguments), thinks=asks_for_thinking(messages))

    def harmless(self, message: Message) -> Message:
        """Takes apart all text that spells a marker of this chat.

        Raises InputError if that is impossible.
        """
        return replace(message, content=self.markers.apart(message.content))

    def _begun(self, text: str, *, thinks: bool) -> Prompt:
        text += self.header
        opened = OPENED.search(text)
        if opened and not thinks and self.closing:
            text, opened = text + self.closing, None
        return Prompt(tuple(self.tokens(text)), opened.group() if opened else "", thinks)

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        """Builds the tokens that a model should write after `prompt` to say `text`.

        The template's opening is left out, the end of turn is added. A text that the model wrote
        itself (`own`) keeps its special tokens, such as a channel's; other text has none.
        """
        if prompt.opening:
            text = text.lstrip().removeprefix(THINK_OPEN).lstrip("\n")
        text = text if own else self.markers.apart(text)
        return (*self.tokens(text), self.end_id)

    def tool_turn(self, reply: str, *, thinks: bool = True) -> Prompt:
        """Builds the prompt between a turn that called a tool and the next turn.

        A template without tools gets the reply as the user's turn.
        """
        begun = [Message("user", ASKED), Message("assistant", SAID)]
        tail = self._tail([*begun, Message("tool", NEXT)])
        # A template may leave the reply out, or take it for the assistant's words
        if NEXT not in tail or tail == self._tail([*begun, Message("assistant", NEXT)]):
            tail = conversation(self.tokenizer, [*begun, Message("user", NEXT)], self.arguments).rpartition(SAID)[2]
        tail = tail.replace(NEXT, self.markers.apart(reply))
        turn = self._begun(tail, thinks=thinks)
        ids = turn.token_ids
        place = ids.index(self.end_id) + 1 if self.end_id in ids else 0
        written = not self.tokenizer.decode(list(ids[:place])).replace(self.tokenizer.decode([self.end_id]), "").strip()
        return Prompt(ids[place:] if written else ids, turn.opening, thinks)

    def _tail(self, messages: Sequence[Message]) -> str:
        """Renders what the template writes after the first answer; empty if it refuses these
        turns.
        """
        try:
            return render(self.tokenizer, messages, self.arguments).partition(SAID)[2]
        except InputError:
            return ""

    def decode(self, ids: Sequence[int], stop_ids: frozenset[int] | None = None) -> str:
        """Returns the text of the ids up to the stop token. Special tokens inside stay visible."""
        stops = self.stop_ids if stop_ids is None else stop_ids
        end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
        text = str(
            self.tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )
        return text.partition(self.end_text)[0] if self.end_text else text

    def said_end(self, ids: Sequence[int]) -> bool:
        """Tells whether the answer ends with the words that end a turn, for models where no token
        does.
        """
        return bool(self.end_text) and self.end_text in self.tokenizer.decode(list(ids[-2 * len(self.end_text) :]))

    def after_prompt(self, *, thinks: bool) -> str:
        """Returns the text that follows the template's own generation prompt."""
        text = render(self.tokenizer, [Message("user", ASKED)], self.arguments) + self.header
        return self.header + (self.closing if OPENED.search(text) and not thinks else "")


def open_chat(tokenizer: Any, named: frozenset[int], arguments: Mapping[str, Any]) -> Chat:
    """Finds a tokenizer's chat format. `named` are the ids that the model's files call the end of
    an answer.

    Raises InputError if the template cannot be rendered.
    """
    asked = [Message("user", ASKED)]
    begun = render(tokenizer, asked, arguments)
    whole = render(tokenizer, [*asked, Message("assistant", SAID)], arguments, generation=False)
    if ASKED not in begun or SAID not in whole:
        raise InputError(
            f"The chat template of {_name(tokenizer)} leaves out what is said in a turn; use the model's own template."
        )
    head, _, tail = whole.rpartition(SAID)
    more = head.removeprefix(begun) if head.startswith(begun) else ""
    opened = OPENED.search(begun)
    closing = more if opened and EMPTY_THOUGHT.fullmatch(more) else f"\n{THINK_CLOSE}\n\n"
    header = EMPTY_THOUGHT.sub("", more)
    end_id, end_text = _end_of_turn(tokenizer, tail, named)
    stops = frozenset({end_id, *named, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])})
    markers = find_markers(tokenizer, lambda turns, more: render(tokenizer, turns, arguments, generation=more))
    return Chat(tokenizer, dict(arguments), end_id, stops, markers, end_text, header if header.strip() else "", closing)


def _end_of_turn(tokenizer: Any, tail: str, named: frozenset[int]) -> tuple[int, str]:
    """Returns the token that ends an answer, and the words that the template writes there.

    A template ends a turn with a token, added to the vocabulary or alone. Or it writes nothing, or
    words: then the end of sequence ends the turn.
    """
    words = tail.strip()
    ids = list(tokenizer(words, add_special_tokens=False)["input_ids"]) if words else []
    tokens = set(tokenizer.added_tokens_decoder) | set(tokenizer.all_special_ids) | named
    if ids and (ids[0] in tokens or len(ids) == 1):
        return int(ids[0]), ""
    first = next((place for place, token in enumerate(ids) if token in tokens), len(ids))
    said = str(tokenizer.decode(ids[:first], clean_up_tokenization_spaces=False)).strip() if ids else ""
    last = [ids[first]] if first < len(ids) else [tokenizer.eos_token_id, *sorted(named)]
    end_id = next((token for token in last if token is not None), None)
    if end_id is None:
        how = f"with {said!r}, which its tokenizer splits into {first} tokens" if said else "with nothing"
        raise InputError(
            f"The chat template of {_name(tokenizer)} ends a turn {how}, and no end-of-sequence token is named; add "
            "one to the tokenizer "
            "as eos_token."
        )
    return int(end_id), said


def named_ends(folder: Path) -> frozenset[int]:
    """Reads the ids that end an answer from both configs of a model; each may name one or several.

    The library's defaults do not count: they belong to another tokenizer.
    """
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        tree = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).is_file() else {}
        for part in (part for part in (tree, tree.get("text_config")) if isinstance(part, dict)):
            ids = part.get("eos_token_id")
            found |= {int(token) for token in (ids if isinstance(ids, list) else [ids]) if isinstance(token, int)}
    return frozenset(found)


def plain_generation(chat: Chat, pad_id: int | None = None) -> Any:
    """Makes a generation config: greedy, with the ends of an answer, without penalties or forced
    tokens.
    """
    from transformers import GenerationConfig

    tokenizer = chat.tokenizer
    ends = [chat.end_id, *sorted(chat.stop_ids - {chat.end_id})]
    if pad_id is None:
        pad_id = chat.end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return GenerationConfig(
        do_sample=False, eos_token_id=ends, pad_token_id=pad_id, bos_token_id=tokenizer.bos_token_id
    )


def conversation(tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any]) -> str:
    """Renders a conversation with every turn's words as given.

    A template that would change them gets placeholders, which are replaced afterwards. Raises
    InputError if it leaves turns out.
    """
    text = render(tokenizer, messages, arguments)
    if not _in_order(text, [message.content.strip() for message in messages]):
        names = [f"turn-{number}-of-{len(messages)}" for number in range(1, len(messages) + 1)]
        text = render(tokenizer, [Message(m.role, name) for m, name in zip(messages, names, strict=True)], arguments)
        if not _in_order(text, names) or any(text.count(name) > 1 for name in names):
            raise InputError(
                f"The chat template of {_name(tokenizer)} leaves out earlier turns; use the model's own template."
            )
        contents = {name: message.content for name, message in zip(names, messages, strict=True)}
        text = re.sub("|".join(map(re.escape, names)), lambda name: contents[name.group()], text)
    return BEFORE_THOUGHT.sub("", text)


def _in_order(text: str, contents: Sequence[str]) -> bool:
    place = 0
    for content in contents:
        found = text.find(content, place)
        if found < 0:
            return False
        place = found + len(content)
    return True


def render(
    tokenizer: Any, messages: Sequence[Message], arguments: Mapping[str, Any], *, generation: bool = True
) -> str:
    """Renders the template as it is. Raises InputError if the template refuses."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **arguments))
    except Exception as error:  # noqa: BLE001 - a template is a stranger's program and can raise anything
        said = in_own_words(error, arguments.get("chat_template") or tokenizer.chat_template)
        roles = ", ".join(message.role for message in messages)
        raise InputError(
            f"The model's chat template cannot render a conversation of {roles} ({said}); use one whose template takes "
            "it, or write one "
            "into chat_template.jinja."
        ) from None


def _name(tokenizer: Any) -> str:
    return Path(str(tokenizer.name_or_path)).name or "the model"
