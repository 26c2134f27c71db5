"""Renders a chat template once in a process with limits on time and memory, before it is rendered
here.

A template is a stranger's program. The sandbox keeps it from code and files, but not from endless
loops.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from functools import lru_cache
from pathlib import Path

SECONDS, BYTES = 5, 1 << 30
TURNS = [("user", "alpha beta"), ("assistant", "gamma"), ("tool", "delta"), ("user", "epsilon"), ("assistant", "zeta")]
CONVERSATIONS = [TURNS[:1], TURNS[:2], [("system", "eta"), *TURNS[:2]], TURNS]
BEYOND = 3  # the exit status of a template that asks for more than there is


@lru_cache(maxsize=64)
def is_bounded(template: str) -> bool:
    """Tells whether a template writes a short conversation within `SECONDS` and `BYTES`.

    A template with another fault counts as bounded: rendering it later says what is wrong.
    """
    import jinja2
    import markupsafe

    from ehrmind.engines.local.opening.probe import ended  # not above: the child process has none of our packages

    places = sorted({str(Path(str(module.__file__)).parents[1]) for module in (jinja2, markupsafe)})
    status = ended(__file__, template.encode("utf-8", "surrogatepass"), SECONDS, *places)
    return status is not None and status >= 0 and status != BEYOND


def _render(template: str) -> None:
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The block of transformers that marks the assistant's words."""

        tags = {"generation"}  # noqa: RUF012 - as in its base class

        def parse(self, parser):  # type: ignore[no-untyped-def]
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    environment.globals |= {"strftime_now": lambda form: datetime.now().strftime(form), "raise_exception": _refuse}
    made = environment.from_string(template)
    for turns in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in turns]
        for begun in (True, False):
            try:
                made.render(
                    messages=messages,
                    add_generation_prompt=begun,
                    tools=None,
                    documents=None,
                    bos_token="<s>",
                    eos_token="</s>",
                )
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 - rendering it later says what is wrong
                continue


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _child() -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system; the parent's timeout remains
        pass
    else:
        resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    sys.path[1:1] = sys.argv[2:]
    try:
        _render(sys.stdin.buffer.read().decode("utf-8", "surrogatepass"))
    except MemoryError:
        sys.exit(BEYOND)


if __name__ == "__main__":
    _child()
