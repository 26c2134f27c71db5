"""Tokenizers and chat templates of further families, for what a record may spell: markers in other
brackets, in plain words, behind normalisers, and added tokens that are no markers. Those of
`tests/chat_templates.py` are the others.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ehrmind.engines.local.chat.conversation import Chat, open_chat
from ehrmind.prompts import gold_response, messages
from tests import chat_templates
from tests.chat_templates import cases

TURNS = "{% for m in messages %}{% if m.role == 'user' %}"
TEKKEN = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ '[SYSTEM_PROMPT]' + m.content +"
    " '[/SYSTEM_PROMPT]' }}{% elif m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}{% elif m.role == 'tool'"
    " %}{{ '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}{% else %}{{ m.content + eos_token }}{% endif %}{%"
    " endfor %}"
)
EXAONE = (
    "{% for m in messages %}{{ '[|' + m.role + '|]' + m.content }}{% if m.role == 'user' %}{{ '\n' }}{% else %}"
    "{{ '[|endofturn|]\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
)
COHERE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}{{ {'user': '<|USER_TOKEN|>', 'assistant':"
    " '<|CHATBOT_TOKEN|>'}.get(m.role, '<|SYSTEM_TOKEN|>') + m.content }}{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}{% if"
    " add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
MINIMAX = (
    "{% for m in messages %}{{ ']~b]' + m.role + '\n' + m.content + '[e~[\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ ']~b]ai\n' }}{% endif %}"
)
OLMO = (
    "{{ eos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% if m.role == 'assistant' %}{{"
    " eos_token }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
ALPACA = (
    "Below is an instruction that describes a task.\n\n" + TURNS + "{{ '### Instruction:\n' + m.content + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + m.content + eos_token + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
VICUNA = (
    "A chat between a curious user and an assistant. "
    + TURNS
    + "{{ 'USER: ' + m.content + ' ' }}{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}{%"
    " if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
OPENCHAT = (
    TURNS + "{{ 'GPT4 Correct User: ' + m.content + eos_token }}{% else %}{{ 'GPT4 Correct Assistant: ' + m.content +"
    " eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)
WORDS = (
    "{% for m in messages %}{{ 'USERTURN ' if m.role == 'user' else 'MODELTURN ' }}{{ m.content + eos_token }}{%"
    " endfor %}"
)
BERT = "{% for m in messages %}{{ '[TURN] ' + m.role + ' ' + m.content + ' [SEP] ' }}{% endfor %}"
SPACES = (*(" " * count for count in range(2, 12)), "\t", "\t\t", "\n\n", "\n\n\n")


@dataclass(frozen=True)
class Family:
    """`words` are added tokens that are not special: no record loses them. `strings` are what the
    template writes in plain words."""

    template: str
    tokens: Sequence[str]
    eos: str
    words: Sequence[str] = ()
    strings: Sequence[str] = ()
    bos: str | None = None
    kind: str = "bytes"
    normalized: bool = False


FAMILIES = {
    "tekken": Family(
        TEKKEN,
        (
            "<unk>",
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[SYSTEM_PROMPT]",
            "[/SYSTEM_PROMPT]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
            "[IMG]",
        ),
        "</s>",
        bos="<s>",
    ),
    "exaone": Family(
        EXAONE,
        ("[PAD]", "[BOS]", "[|endofturn|]", "[|system|]", "[|user|]", "[|assistant|]", "[|tool|]"),
        "[|endofturn|]",
        bos="[BOS]",
    ),
    "cohere": Family(
        COHERE,
        (
            "<BOS_TOKEN>",
            "<|START_OF_TURN_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
        ),
        "<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
    ),
    "minimax": Family(MINIMAX, ("]!p~[", "]~b]", "[e~[", "]~!b["), "[e~["),
    "neox_with_runs_of_spaces": Family(
        OLMO, ("<|endoftext|>",), "<|endoftext|>", words=SPACES, strings=("<|user|>", "<|assistant|>")
    ),
    "phi_with_words": Family(
        chat_templates.PHI,
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|dummy 7|>"),
        "<|endoftext|>",
        words=(*SPACES, "creatinine", "mmol/L", "[x]"),
    ),
    "added_words_for_turns": Family(
        WORDS, ("ENDOFTURN",), "ENDOFTURN", words=("MODELTURN", "USERTURN"), strings=("USERTURN", "MODELTURN")
    ),
    "alpaca": Family(ALPACA, ("<|endoftext|>",), "<|endoftext|>", strings=("### Instruction:", "### Response:")),
    "vicuna": Family(VICUNA, ("<unk>", "<s>", "</s>"), "</s>", strings=("USER:", "ASSISTANT:")),
    "openchat": Family(
        OPENCHAT, ("<|end_of_turn|>",), "<|end_of_turn|>", strings=("GPT4 Correct User:", "GPT4 Correct Assistant:")
    ),
    "unigram_nfkc": Family(
        VICUNA,
        ("<unk>", "<s>", "</s>", "<extra_id_0>"),
        "</s>",
        strings=("USER:", "ASSISTANT:"),
        kind="unigram",
        normalized=True,
    ),
    "wordpiece_lowercase": Family(
        BERT, ("[UNK]", "[SEP]", "[CLS]", "[MASK]", "[TURN]"), "[SEP]", kind="wordpiece", normalized=True
    ),
}
STRINGS = {
    "plain": ("User:", "Assistant:"),
    "mistral": ("[INST]", "[/INST]"),
    "chatml_in_plain_text": ("<|im_start|>", "<|im_end|>"),
}
NAMES = (*chat_templates.FAMILIES, *FAMILIES)


def strings_of(name: str) -> Sequence[str]:
    return FAMILIES[name].strings if name in FAMILIES else STRINGS.get(name, ())


@cache
def tokenizer(name: str) -> Any:
    if name not in FAMILIES:
        return chat_templates.tokenizer(name)
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    text = [messages(case)[0].content + gold_response(case) for case in cases()]
    options: dict[str, Any] = {"vocab_size": 700, "special_tokens": list(family.tokens), "show_progress": False}
    if family.kind == "unigram":
        core = Tokenizer(models.Unigram())
        core.normalizer, core.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        core.decoder = decoders.Metaspace()
        core.train_from_iterator(text, trainers.UnigramTrainer(unk_token="<unk>", **options))
    elif family.kind == "wordpiece":
        core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        core.normalizer, core.pre_tokenizer = (
            normalizers.BertNormalizer(lowercase=True),
            pre_tokenizers.BertPreTokenizer(),
        )
        core.decoder = decoders.WordPiece()
        core.train_from_iterator(text, trainers.WordPieceTrainer(**options))
    else:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        core.train_from_iterator(
            text, trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
        )
    core.add_special_tokens([AddedToken(token, special=True, normalized=family.normalized) for token in family.tokens])
    core.add_tokens([AddedToken(word, normalized=False) for word in family.words])
    named = {
        "eos_token": family.eos,
        "bos_token": family.bos,
        "unk_token": {"unigram": "<unk>", "wordpiece": "[UNK]"}.get(family.kind),
    }
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, **{key: token for key, token in named.items() if token is not None}
    )
    made.chat_template = family.template
    return made


@cache
def chat(name: str) -> Chat:
    if name not in FAMILIES:
        return chat_templates.chat(name, chat_templates_day())
    return open_chat(copy.deepcopy(tokenizer(name)), frozenset(), {})


def chat_templates_day() -> Any:
    from datetime import date

    return date(2024, 7, 26)


def special_ids(name: str) -> frozenset[int]:
    """By the tokenizer's own flags; what stands for unknown characters is none of them."""
    made = tokenizer(name)
    flagged = {number for number, token in made.added_tokens_decoder.items() if token.special} | set(
        made.all_special_ids
    )
    return frozenset(flagged - {made.unk_token_id})
