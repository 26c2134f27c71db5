"""Regular expressions of an adapter matched once in a process of its own, within a bound on time, before peft matches them here.

Python's matcher cannot be stopped from within: one short expression can take longer than anyone waits over one name of a module.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS, MOST_TRIED = 10, 8
# What peft puts around them, by key; a key that ends in _pattern is like rank_pattern
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
PLAIN = re.compile(r"[\w.\-]*")  # a name of a module, which no matcher takes long over


def patterns_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists (key, text) of everything in an adapter's config that peft reads as a regular expression."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if key in LISTED:
            found += [(key, one) for one in (value if isinstance(value, list) else [value])]
        elif key.endswith("_pattern") and isinstance(value, dict):
            found += [(key, one) for one in value]
    return [(key, one) for key, one in found if isinstance(one, str) and not PLAIN.fullmatch(one)]


def is_slow(pattern: str) -> bool:
    """Tells whether an expression repeats a group, or holds so many repetitions that a name of a module can take for ever to be
    refused."""
    return (
        len(pattern) > LONGEST
        or re.search(r"\)[*+{]", pattern) is not None
        or len(REPEATED.findall(pattern)) > MOST_REPEATED
    )


def is_slow_unseen(pattern: str) -> bool:
    """The same where no process can try it first, since the names are not known yet; so every way to match counts, branches too."""
    repeated = len(REPEATED.findall(pattern))
    return is_slow(pattern) or repeated > MOST_UNSEEN or repeated + pattern.count("|") > MOST_BRANCHES


def slow_one(patterns: Sequence[tuple[str, str]], names: Sequence[str]) -> tuple[str, str] | None:
    """Returns the (key, expression) because of which all of them are not matched against all names within `SECONDS`, or None."""
    if not patterns or _are_quick(patterns, names):
        return None
    return next((one for one in patterns[:MOST_TRIED] if not _are_quick([one], names)), patterns[0])


def _are_quick(patterns: Sequence[tuple[str, str]], names: Sequence[str]) -> bool:
    from ehrmind.engines.local.probe import ended  # not above: the process that is tried has no package of ours

    whole = [_form(key).replace("{}", pattern) for key, pattern in patterns]
    status = ended(__file__, json.dumps([whole, list(names)]).encode("ascii"), SECONDS)
    return status is not None and status >= 0


def _form(key: str) -> str:
    return FORMS.get(key, FORMS["rank_pattern"] if key.endswith("_pattern") else "{}")


def _child() -> None:
    try:
        import resource
    except ImportError:  # no such bounds on this system; the parent's timeout remains
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
