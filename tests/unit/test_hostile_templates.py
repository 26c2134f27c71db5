"""A chat template of strangers: one that has no end, or reaches for something else, is one sentence before a model is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from ehrmind.config import Model
from ehrmind.engines.local import template_probe
from ehrmind.engines.local.engine import open_engine
from ehrmind.types import InputError
from tests.small_models import small_model


def with_template(folder: Path, template: str) -> Path:
    small_model(folder, "untied")
    (folder / "chat_template.jinja").write_text(template)
    return folder


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "a text": "{% set ns = namespace(a='x') %}{% for b in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "a power": "{{ 10 ** (10 ** 10) }}",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_template_without_bounds_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(template_probe, "SECONDS", 1)
    folder = with_template(tmp_path / "model", ENDLESS[what] + "{{ messages[0].content }}")
    with pytest.raises(InputError, match=r"chat template of model takes more than .* for a short conversation; use the model's own"):
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
