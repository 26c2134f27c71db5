"""Matches an adapter's regular expressions once in a process with a time limit, before peft matches
them here.

Python's matcher cannot be stopped from within. A short expression can take for ever on one module's
name.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS, MOST_TRIED = 10, 8
# peft's own expression around them, by key; a key that ends in _pattern is like rank_pattern
FORMS = {
    "modules_to_save": r"(^|.*\.){}($|\..*)",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
    "rank_pattern": r"(.*\.)?({})$",
}
LISTED = (
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "layers_pattern",
    "target_parameters",
    "feedforward_modules",
)
LONGEST, MOST_REPEATED, MOST_UNSEEN, MOST_BRANCHES = 2000, 6, 3, 8
REPEATED = re.compile(r"[*+{]|(?<![*+?}(])\?")
PLAIN = re.compile(r"[\w.\-]*")  # the name of a module, which is matched quickly


def patterns_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists (key, text) for everything in an adapter's config that peft reads as a regular
    expression.
    """
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if key in LISTED:
            found += [(key, one) for one in (value if isinstance(value, list) else [value])]
        elif key.endswith("_pattern") and isinstance(value, dict):
            found += [(key, one) for one in value]
    return [(key, one) for key, one in found if isinstance(one, str) and not PLAIN.fullmatch(one)]


def is_slow(pattern: str) -> bool:
    """Tells whether an expression may take for ever: it repeats a group, or has many
    repetitions.
    """
    return (
        len(pattern) > LONGEST
        or re.search(r"\)[*+{]", pattern) is not None
        or len(REPEATED.findall(pattern)) > MOST_REPEATED
    )


def is_slow_unseen(pattern: str) -> bool:
    """Tells the same more strictly, for expressions that cannot be tried because no names are known
    yet.

    Here branches count too.
    """
    repeated = len(REPEATED.findall(pattern))
    return is_slow(pattern) or repeated > MOST_UNSEEN or repeated + pattern.count("|") > MOST_BRANCHES


def slow_one(patterns: Sequence[tuple[str, str]], names: Sequence[str]) -> tuple[str, str] | None:
    """Returns the (key, expression) that is not matched against all names within `SECONDS`, or
    None.
    """
    if not patterns or _are_quick(patterns, names):
        return None
    return next((one for one in patterns[:MOST_TRIED] if not _are_quick([one], names)), patterns[0])


def _are_quick(patterns: Sequence[tuple[str, str]], names: Sequence[str]) -> bool:
    from ehrmind.engines.local.opening.probe import ended  # not above: the child process has none of our packages

    whole = [_form(key).replace("{}", pattern) for key, pattern in patterns]
    status = ended(__file__, json.dumps([whole, list(names)]).encode("ascii"), SECONDS)
    return status is not None and status >= 0


def _form(key: str) -> str:
    return FORMS.get(key, FORMS["rank_pattern"] if key.endswith("_pattern") else "{}")


def _child() -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system; the parent's timeout remains
        pass
    else:
        resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
    patterns, names = json.loads(sys.stdin.buffer.read())
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError):
            continue  # peft says what is wrong with it
        for name in names:
            compiled.fullmatch(name)


if __name__ == "__main__":
    _child()
