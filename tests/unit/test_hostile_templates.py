"""A chat template of strangers: one that has no end, or reaches for something else, is one sentence
before a model is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from ehrmind.config import Model
from ehrmind.engines.local.chat.conversation import render
from ehrmind.engines.local.engine import open_engine
from ehrmind.engines.local.opening import template_probe
from ehrmind.types import InputError, Message
from tests.small_models import small_model


def with_template(folder: Path, template: str) -> Path:
    small_model(folder, "untied")
    (folder / "chat_template.jinja").write_text(template)
    return folder


LOOPS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{%"
    " endfor %}"
)
ENDLESS = {
    "loops": LOOPS,
    "loops where no answer begins": f"{{% if not add_generation_prompt %}}{LOOPS}{{% endif %}}",
    "loops where there is a date": f"{{% if strftime_now('%Y') | int > 2000 %}}{LOOPS}{{% endif %}}",
    "a text": "{% set ns = namespace(a='x') %}{% for b in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "a power": "{{ 10 ** (10 ** 10) }}",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_template_without_bounds_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(template_probe, "SECONDS", 1)
    folder = with_template(tmp_path / "model", ENDLESS[what] + "{{ messages[0].content }}")
    with pytest.raises(
        InputError, match=r"chat template of model takes more than .* for a short conversation; use the model's own"
    ):
        open_engine(Model(name="model"), folder, rows=4)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% include 'config.json' %}",
        "{% import '/etc/passwd' as a %}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ 'x' * 10**12 }}",
        "{{ '%s' % messages.__init__.__globals__ }}",
        "{% set a.b = 1 %}",
        "{{ namespace(__init__=1) }}",
    ],
)
def test_a_template_that_reaches_out_is_one_sentence(tmp_path: Path, template: str) -> None:
    folder = with_template(tmp_path / "model", template)
    with pytest.raises(InputError, match="chat template"):
        open_engine(Model(name="model"), folder, rows=4)


SECRET = "grandmother of 81 from Upper Lane"
TOLD = {
    "the words of a turn": ("{{ raise_exception(messages[-1].content) }}", r"\(TemplateError\)"),
    "words and those of a turn": ("{{ raise_exception('no: ' + messages[-1].content) }}", r"\(TemplateError\)"),
    "an attribute called as a turn": ("{{ messages[messages[-1].content].a }}", r"\((UndefinedError|TypeError)\)"),
    "a key called as a turn": ("{{ messages[0][messages[-1].content].a }}", r"\(UndefinedError\)"),
    "a filter's fault": (
        "{{ messages[-1].content | attr(messages[-1].content) | join | int('x') + messages }}",
        r"\(\w+Error\)",
    ),
    "a filter called as a turn": ("{{ messages | map(messages[-1].content) | list }}", r"\(\w+Error\)"),
    "a template called as a turn": ("{% include messages[-1].content %}", r"\(\w+\)"),
    "a number of a turn": ("{{ messages[-1].content.encode('ascii').decode('utf-16') }}", "chat template cannot"),
    "its own words": ('{{ raise_exception("it\\\'s no turn") }}', r"\(it's no turn\)"),
    "a name of its own": ("{{ a.b.c }}", r"\('a' is undefined\)"),
    "a key of its own": ("{{ messages[0].b.c }}", r"\('dict object' has no attribute 'b'\)"),
    "wrong syntax": ("{% for m in messages %}{{ m }", r"\(unexpected '}'\)"),
}


@pytest.mark.parametrize("what", TOLD)
def test_a_templates_fault_is_told_in_its_own_words_and_never_in_those_of_a_turn(tmp_path: Path, what: str) -> None:
    template, sentence = TOLD[what]
    tokenizer: Any = AutoTokenizer.from_pretrained(with_template(tmp_path / "model", template))
    with pytest.raises(InputError, match=sentence) as refusal:
        render(tokenizer, [Message("user", SECRET)], {})
    assert not any(word in str(refusal.value) for word in SECRET.split() if len(word) > 4)
