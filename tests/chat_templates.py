"""Chat templates of our own with the traits of today's families, each with a tokenizer that has the
tokens it writes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.engines.local.chat.conversation import Chat, open_chat
from ehrmind.engines.local.chat.template_text import pinned
from ehrmind.prompts import gold_response, messages
from ehrmind.types import Case
from tests.medcalc_cases import SHORT

CHATML = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
CHATML_END = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Thoughts stand in turns after the last question only, as Qwen3's template has it
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' and not"
    " m.content.startswith('<tool_response>') %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in"
    " messages %}{% set content = m.content %}{% if m.role == 'assistant' %}{% set thought = '' %}{% if '</think>' in"
    " content %}{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}{% set content ="
    " content.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ '<|im_start|>assistant\n' }}{% if loop.index0 >"
    " ns.last and (loop.last or thought) %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ content +"
    " '<|im_end|>\n' }}{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + content +"
    " '\n</tool_response><|im_end|>\n' }}{% else %}{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{%"
    " endif %}{% endfor %}"
)
LLAMA3 = (
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n        {%- set"
    " date_string = strftime_now('%d %b %Y') %}\n    {%- else %}\n        {%- set date_string = '26 Jul 2024' %}\n   "
    " {%- endif %}\n{%- endif %}\n{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string +"
    " '\n\n<|eot_id|>' }}{%- for m in messages %}{%- if m.role == 'tool' %}{{-"
    " '<|start_header_id|>ipython<|end_header_id|>\n\n' + (m.content | tojson) + '<|eot_id|>' }}{%- else %}{{-"
    " '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + (m.content | trim) + '<|eot_id|>' }}{%- endif %}{%-"
    " endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif"
    " %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation"
    " roles must alternate user/assistant') }}{% endif %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant'"
    " else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{"
    " '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('After the system message, roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ ' [INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
GRANITE = (
    "{{ '<|start_of_role|>system<|end_of_role|>Knowledge Cutoff Date: April 2024.\nToday\\'s Date: ' + strftime_now('%B"
    " %d, %Y') }}{{ '.<|end_of_text|>\n' }}{% for m in messages %}{{ '<|start_of_role|>' + m['role'] +"
    " '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}{% endfor %}{% if add_generation_prompt %}{{"
    " '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
R1_DISTILL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{% set content = m['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
CHANNELS = (
    "{% macro told() %}{{ 'Current date: ' + strftime_now('%Y-%m-%d') + '\n' }}{% endmacro %}"
    "{{ '<|start|>system<|message|>' + told() + '<|end|>' }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{% if loop.last and not add_generation_prompt %}{{ '<|return|>' }}{% else %}{{ '<|end|>' }}{% endif %}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
GLM = (
    "{{ '[gMASK]<sop>' }}{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>\n<think></think>\n' +"
    " m.content.split('</think>')[-1].strip() }}{% elif m.role == 'tool' %}{{ '<|observation|>\n<tool_response>\n' +"
    " m.content + '\n</tool_response>' }}{% else %}{{ '<|user|>\n' + m.content }}{% endif %}{% endfor %}{% if"
    " add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ ('User: ' if m.role == 'user' else 'Assistant: ') + m.content + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SMOLLM3 = (
    "{% set today = strftime_now('%d %B %Y') %}{{ '<|im_start|>system\nToday Date: ' + today + '\nReasoning Mode: ' +"
    " ('/think' if enable_thinking | default(true) else '/no_think') + '<|im_end|>\n' }}{% for m in messages %}{% if"
    " m.role == 'assistant' %}{% generation %}{{ '<|im_start|>assistant\n' + m.content.lstrip('\n') + '<|im_end|>\n'"
    " }}{% endgeneration %}{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{%"
    " endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' if enable_thinking | default(true) else"
    " '<|im_start|>assistant\n<think>\n\n</think>\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """`tokens` are special, `words` added without being so; `ends` are named by the model's
    configs."""

    template: str
    tokens: Sequence[str]
    eos: str
    ends: Sequence[str] = ()
    words: Sequence[str] = ()
    bos: str | None = None
    pad: str | None = None
    pieces: bool = False  # SentencePiece-like: spaces are letters, unknown characters bytes
    arguments: tuple[tuple[str, Any], ...] = ()


FAMILIES = {
    "qwen2.5": Family(
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%"
        " endif %}" + CHATML + CHATML_END,
        CHATML_TOKENS,
        "<|im_end|>",
        ("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
    ),
    "qwen3": Family(
        QWEN3 + CHATML_END + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}{{"
        " '<think>\n\n</think>\n\n' }}{% endif %}",
        CHATML_TOKENS,
        "<|im_end|>",
        words=("<think>", "</think>", "<tool_response>", "</tool_response>"),
    ),
    "qwen3_thinking": Family(
        QWEN3 + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
        CHATML_TOKENS,
        "<|im_end|>",
        words=("<think>", "</think>"),
    ),
    "llama3": Family(
        LLAMA3,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
        ),
        "<|end_of_text|>",
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
    ),
    "gemma3": Family(
        GEMMA3,
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>",
        ("<eos>", "<end_of_turn>"),
        bos="<bos>",
        pad="<pad>",
    ),
    "mistral": Family(MISTRAL, ("<unk>", "<s>", "</s>"), "</s>", bos="<s>", pad="</s>", pieces=True),
    "phi": Family(
        PHI, ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|endoftext|>", ("<|endoftext|>", "<|end|>")
    ),
    "granite": Family(
        GRANITE, ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"), "<|end_of_text|>", pad="<|end_of_text|>"
    ),
    "r1_distill": Family(
        R1_DISTILL,
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        "<｜end▁of▁sentence｜>",
        words=("<think>", "</think>"),
        bos="<｜begin▁of▁sentence｜>",
    ),
    "channels": Family(
        CHANNELS,
        ("<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        "<|return|>",
        ("<|return|>", "<|endoftext|>", "<|call|>"),
        pad="<|endoftext|>",
    ),
    "smollm3": Family(SMOLLM3, CHATML_TOKENS, "<|im_end|>", arguments=(("enable_thinking", False),)),
    "glm": Family(
        GLM,
        ("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"),
        "<|endoftext|>",
        ("<|endoftext|>", "<|user|>", "<|observation|>"),
        words=("<think>", "</think>"),
    ),
    "chatml_in_plain_text": Family(CHATML + CHATML_END, ("<|endoftext|>",), "<|endoftext|>", pieces=True),
    "no_generation_prompt": Family(CHATML, CHATML_TOKENS, "<|im_end|>"),
    "plain": Family(PLAIN, ("<|endoftext|>",), "<|endoftext|>"),
}


@cache
def cases() -> tuple[Case, ...]:
    """Cases of all three families of tasks."""
    truth = {"kind": "label", "labels": ["no", "yes"], "value": 1}
    fields = {"history": "2 days before: potassium 5.9 mmol/L (high)", "question": "Readmitted within 30 days?"}
    ehr = Case(
        "e-1",
        "ehr",
        "readmission_30d",
        "ehr/outcome/readmission_30d",
        "train",
        "p-1",
        fields,
        truth,
        "Potassium is high; so yes.",
    )
    return (
        *synthetic_cases(8, 5, "train", **SHORT),
        *synthetic_cases(8, 6, "train"),
        *synthetic_trials(6, 5, "train"),
        ehr,
    )


@cache
def tokenizer(name: str) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    text = [messages(case)[0].content + gold_response(case) for case in cases()]
    options: dict[str, Any] = {"vocab_size": 600, "special_tokens": list(family.tokens), "show_progress": False}
    if family.pieces:
        core = Tokenizer(models.BPE(byte_fallback=True, unk_token=family.tokens[0], fuse_unk=True))
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        spaces = decoders.Replace("▁", " ")
        core.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        core = Tokenizer(models.BPE())
        split = pre_tokenizers.Digits(individual_digits=True)
        core.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        core.decoder = decoders.ByteLevel()
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(text, trainers.BpeTrainer(**options))
    if family.pieces:
        learned = json.loads(core.to_str())
        vocabulary = learned["model"]["vocab"]
        learned["model"]["vocab"] = vocabulary | {f"<0x{byte:02X}>": len(vocabulary) + byte for byte in range(256)}
        core = Tokenizer.from_str(json.dumps(learned))
    core.add_tokens([AddedToken(word, normalized=False) for word in family.words])
    names = {"eos_token": family.eos, "bos_token": family.bos, "pad_token": family.pad}
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, **{key: token for key, token in names.items() if token is not None}
    )
    made.chat_template = family.template
    return made


@cache
def chat(name: str, day: Any) -> Chat:
    family, made = FAMILIES[name], copy.deepcopy(tokenizer(name))
    made.chat_template = pinned(made.chat_template, day)
    named = frozenset(made.convert_tokens_to_ids(list(family.ends)))
    return open_chat(made, named, dict(family.arguments))
