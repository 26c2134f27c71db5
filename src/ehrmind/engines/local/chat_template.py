"""The text of a chat template, changed so that it writes tomorrow what it writes today, for whoever renders it.

Everything is put around the template's own text, in its own language: `transformers`, vLLM and other servers read it without help.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

CLOCK = "strftime_now"  # what templates of Llama 3, Granite, SmolLM3 and GPT-OSS call
CODE = re.compile(r"%[-#]?[aAbBcdDeFGhHIjklmMpPrRsSTuUVwWxXyYzZ]")
PINNED = re.compile(r"\{# ehrmind: the date is (\d{4}-\d\d-\d\d) #\}")
NO_TRIM = "{{ '' }}"  # keeps a line break at the template's beginning, which jinja would take for that of a block


def reads_date(template: str) -> bool:
    """Tells whether the template writes the day on which it is rendered."""
    return CLOCK in template and not PINNED.search(template)


def pinned(template: str, day: date) -> str:
    """The same template for one day. One that has its day keeps it."""
    if not reads_date(template):
        return template
    words = "".join(
        f" | replace('{code}', {literal(day.strftime(code))})" for code in sorted(set(CODE.findall(template)))
    )
    macro = f"{{% macro {CLOCK}(format) %}}{{{{ format{words} }}}}{{% endmacro %}}"
    return f"{{# ehrmind: the date is {day.isoformat()} #}}{macro}{NO_TRIM}{template}"


def with_defaults(template: str, arguments: Mapping[str, Any], after: str) -> str:
    """The template with values for the arguments that a caller leaves out, and with `after` behind the prompt of an answer."""
    names = {name: value for name, value in arguments.items() if name.isidentifier() and template_reads(template, name)}
    head = "".join(
        f"{{% if {n} is not defined %}}{{% set {n} = {literal(value)} %}}{{% endif %}}" for n, value in names.items()
    )
    tail = f"{{%+ if add_generation_prompt %}}{{{{ {literal(after)} }}}}{{% endif %}}" if after else ""
    body = (
        template.removesuffix("\n") if tail else template
    )  # jinja leaves out the last line break, which is no longer the last
    return f"{head}{NO_TRIM if head else ''}{body}{tail}"


def template_reads(template: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def literal(value: Any) -> str:
    """A value of JSON as jinja writes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + "".join(_escaped(character) for character in value) + "'"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(str(key))}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def _escaped(character: str) -> str:
    return {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"}.get(character, character)
