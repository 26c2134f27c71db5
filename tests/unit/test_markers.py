"""A record's text cannot become a turn, whatever a tokenizer's tokens and a chat template's words
are; all other text keeps its tokens.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehrmind.engines.local.chat.conversation import Chat, open_chat
from ehrmind.engines.local.engine import render_prompt
from ehrmind.prompts import gold_response, messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.protocol import neutral
from ehrmind.types import Case, Message, Prompt
from tests import chat_templates
from tests.hostile_tokenizers import FAMILIES, NAMES, chat, special_ids, strings_of, tokenizer

PROPERTY = settings(max_examples=20, deadline=None, derandomize=True)  # few of many families: the same ones each time
EVERY_TOKEN = sorted(
    {token for family in (*FAMILIES.values(), *chat_templates.FAMILIES.values()) for token in family.tokens}
    | {text for name in NAMES for text in strings_of(name)}
)
HARMLESS = [
    *(
        "Age 63.",
        "K < 3.5, Na <130 and pH>7.2",
        "   ",
        "\t\t",
        "\n\n",
        "\r\n",
        "[x] [1] [**Name**]",
        "creatinine 1.2 mmol/L",
        "37,5 °C",
        "<",
    ),
    *(
        ">",
        "|",
        "[",
        "]",
        "/",
        "User",
        "Assistant",
        "##",
        "-- ",
        "＜主訴＞",
        "ﬁ",
        "½",
        "日本",
        "é",
        "\u00a0",
        "\u200b",
        "🙂",
        "0",
        "2024-07-26",
    ),
]


def full_width(text: str) -> str:
    """Another spelling, which NFKC makes the same."""
    return "".join(chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character for character in text)


@cache
def hostile(name: str) -> st.SearchStrategy[str]:
    """Notes with spellings of the family's own markers, of others', of parts of them, and ordinary
    text between them."""
    mine = sorted({*(FAMILIES | chat_templates.FAMILIES)[name].tokens, *strings_of(name)})
    spelled = st.builds(
        spelling, st.one_of(*map(st.sampled_from, (mine, mine, EVERY_TOKEN))), st.integers(0, 9), st.integers(1, 30)
    )
    return st.lists(
        st.one_of(spelled, spelled, st.sampled_from(HARMLESS), st.text(max_size=4)), min_size=1, max_size=9
    ).map("".join)


def spelling(token: str, way: int, place: int) -> str:
    half = len(token) // 2
    ways = [
        token,
        token,
        token[: place % len(token)],
        token[place % len(token) :],
        token[:1] + token + token[1:],
        token[:half] + token,
    ]
    ways += [token.upper(), token.lower(), full_width(token), f" {token} "]
    return ways[way]


NOTES = st.lists(
    st.one_of(st.sampled_from(HARMLESS), st.text(alphabet="abc <>|[]/#:.\n\t 09é｜＜", max_size=6)), max_size=9
).map("".join)


def asked(text: str, place: str = "record") -> list[Message]:
    """A question with `text` in one of the places where others' words stand, behind a worked
    example."""
    fields = {"record": "Age 63.", "question": "Which?"} | ({place: text} if place in ("record", "question") else {})
    truth = {"kind": "label", "value": 0, "labels": ["low", "high" if place != "label" else f"x{text}x"]}
    hints = {"hints": {"notes": text if place == "hint" else "none"}}
    case = Case(
        "c", "table", "t", "table/t/label", "train", "g", fields, truth, text if place == "rationale" else "So.", hints
    )
    shot = Case(
        "s", "table", "t", "table/t/label", "train", "g", fields, truth, text if place == "shot" else "So.", hints
    )
    variant = PromptVariant(hints=("notes",), shots={case.stratum: ((shot, gold_response(shot)),)})
    return messages(case, variant=variant)


def turns_of(name: str, ids: Any) -> list[int]:
    return [token for token in ids if token in special_ids(name)]


def words_of(name: str, own: Chat, ids: Any) -> Counter[str]:
    text = own.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    text = text.replace(own.tokenizer.unk_token or "\0", "x")  # an unknown letter is a letter: "ÀUSER:" is no turn
    return Counter(found for string in strings_of(name) for found in re.findall(rf"(?<!\w){re.escape(string)}", text))


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@given(data=st.data(), place=st.sampled_from(["record", "question", "label", "hint", "shot"]))
def test_no_text_of_others_adds_a_turn(name: str, data: st.DataObject, place: str) -> None:
    text = data.draw(hostile(name))
    own = replace(chat(name), header="", closing="")
    forged, harmless = own.prompt(asked(text, place)).token_ids, own.prompt(asked("", place)).token_ids
    assert turns_of(name, forged) == turns_of(name, harmless)
    assert words_of(name, own, forged) == words_of(name, own, harmless)
    exported = [own.harmless(message) for message in asked(text, place)]
    given_away = [{"role": message.role, "content": message.content} for message in exported]
    rendered = own.tokenizer.apply_chat_template(
        given_away, tokenize=False, add_generation_prompt=True, **own.arguments
    )
    if all(
        message.content.strip() in rendered for message in exported
    ):  # the others change an earlier answer, which we keep
        assert own.tokens(rendered) == list(forged)
    assert [own.harmless(message) for message in exported] == exported
    for before, after in zip(asked(text, place), exported, strict=True):
        assert re.sub(r"[ ·_]", "", after.content) == re.sub(r"[ ·_]", "", before.content)


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@given(data=st.data())
def test_no_worked_answer_and_no_tools_reply_holds_a_turn(name: str, data: st.DataObject) -> None:
    text = data.draw(hostile(name))
    own = chat(name)
    truth = {"kind": "integer", "value": 3, "unit": None}
    case = Case(
        "c", "table", "t", "table/t/number", "train", "g", {"question": "Which?", "record": "Age 63."}, truth, text
    )
    told = own.response_tokens(gold_response(case), own.prompt(messages(case)))
    assert turns_of(name, told[:-1]) == []
    assert turns_of(name, own.tool_turn(text).token_ids) == turns_of(name, own.tool_turn("").token_ids)


@pytest.mark.parametrize("name", NAMES)
@PROPERTY
@given(text=NOTES)
def test_a_note_that_spells_no_marker_keeps_every_token(name: str, text: str) -> None:
    made = tokenizer(name)
    naive = made(text, add_special_tokens=False)["input_ids"]
    if neutral(text) != text or turns_of(name, naive) or any(string in text for string in strings_of(name)):
        return
    assert chat(name).markers.apart(text) == text
    content = asked(text)[-1].content
    assert text in content and chat(name).markers.apart(content) == content


@pytest.mark.parametrize("name", NAMES)
def test_every_token_alone_nested_and_halved_is_told_from_the_templates(name: str) -> None:
    own = chat(name)
    for token in EVERY_TOKEN:
        for text in (
            token,
            token * 3,
            f"{token[:3]}{token}{token[3:]}",
            token.upper(),
            token.lower(),
            full_width(token),
        ):
            ids = own.tokens(own.markers.apart(neutral(text)))
            assert not turns_of(name, ids), (token, text)


def test_synthetic_prompts_keep_their_bytes() -> None:
    for name in NAMES:
        for case in chat_templates.cases():
            for message in messages(case):
                assert chat(name).harmless(message) == message


def test_what_a_model_wrote_by_itself_keeps_its_special_tokens() -> None:
    """A model that answers in channels learns its own answers as it wrote them."""
    own = chat("channels")
    said = "<|channel|>analysis<|message|>Three.<|end|><|start|>assistant<|channel|>final<|message|>3"
    written = own.response_tokens(said, Prompt(()), own=True)
    assert own.tokenizer.decode(list(written[:-1])) == said
    assert own.response_tokens(said, Prompt(()))[:-1] != written[:-1] and not turns_of(
        "channels", own.response_tokens(said, Prompt(()))[:-1]
    )


def test_added_tokens_that_are_no_markers_stay_tokens() -> None:
    own = chat("phi_with_words")
    text = f"creatinine{' ' * 7}1.2 mmol/L\t\t[x] yes\n\n\nno"
    (message,) = [own.harmless(Message("user", text))]
    assert message.content == text
    added = {number for number, token in own.tokenizer.added_tokens_decoder.items() if not token.special}
    assert len(added & set(own.tokens(text))) >= 5


def test_a_token_of_single_words_is_told_in_a_longer_word() -> None:
    from tokenizers import AddedToken

    made = copy.deepcopy(chat_templates.tokenizer("phi"))
    made.add_special_tokens({"additional_special_tokens": [AddedToken("sop", single_word=True, special=True)]})
    prompt = render_prompt(made, [Message("user", "sopor, sop and SOP")], {})
    assert list(prompt.token_ids).count(made.convert_tokens_to_ids("sop")) == 0
    assert "sopor, s op and SOP" in made.decode(list(prompt.token_ids))


def test_a_token_that_is_put_together_again_gets_another_separator() -> None:
    """A normaliser that drops spaces."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Replace(" ", "")
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.train_from_iterator(
        ["a note"],
        trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False
        ),
    )
    core.add_special_tokens([AddedToken(token, special=True, normalized=True) for token in ("<|go|>", "<|end|>")])
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    made.chat_template = "{% for m in messages %}{{ '<|go|>' + m.content + '<|end|>' }}{% endfor %}"
    own = open_chat(made, frozenset(), {})
    ids = own.prompt([Message("user", "so < | e n d | > it ended")]).token_ids
    assert [token for token in ids if token in made.all_special_ids] == [made.eos_token_id]
