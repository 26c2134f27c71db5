"""Edits the text of a chat template so that every reader renders on every day what the run
rendered.

All changes are jinja around the template's own text: `transformers`, vLLM and other servers read
them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

CLOCK = "strftime_now"  # templates of Llama 3, Granite, SmolLM3 and GPT-OSS call it
CODE = re.compile(r"%[-#]?[aAbBcdDeFGhHIjklmMpPrRsSTuUVwWxXyYzZ]")
PINNED = re.compile(r"\{# ehrmind: the date is (\d{4}-\d\d-\d\d) #\}")
NO_TRIM = "{{ '' }}"  # keeps a line break at the template's beginning, which jinja would drop after a block


def reads_date(template: str) -> bool:
    """Tells whether the template writes the day on which it is rendered."""
    return CLOCK in template and not PINNED.search(template)


def pinned(template: str, day: date) -> str:
    """Fixes the date that a template writes. A date that is fixed already stays."""
    if not reads_date(template):
        return template
    words = "".join(
        f" | replace('{code}', {literal(day.strftime(code))})" for code in sorted(set(CODE.findall(template)))
    )
    macro = f"{{% macro {CLOCK}(format) %}}{{{{ format{words} }}}}{{% endmacro %}}"
    return f"{{# ehrmind: the date is {day.isoformat()} #}}{macro}{NO_TRIM}{template}"


def with_defaults(template: str, arguments: Mapping[str, Any], after: str) -> str:
    """Gives a template default values for its arguments, and adds `after` behind the generation
    prompt.
    """
    names = {name: value for name, value in arguments.items() if name.isidentifier() and template_reads(template, name)}
    head = "".join(
        f"{{% if {n} is not defined %}}{{% set {n} = {literal(value)} %}}{{% endif %}}" for n, value in names.items()
    )
    tail = f"{{%+ if add_generation_prompt %}}{{{{ {literal(after)} }}}}{{% endif %}}" if after else ""
    body = template.removesuffix("\n") if tail else template  # jinja drops only a last line break
    return f"{head}{NO_TRIM if head else ''}{body}{tail}"


def template_reads(template: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def literal(value: Any) -> str:
    """Writes a JSON value as a jinja literal."""
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
