"""Command line: reports errors in a recipe section that was made from options, in the words of
those options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from ehrmind.types import InputError

Kind = TypeVar("Kind", bound=Any)
# An option that is given once per value has the key's name in the singular.
_SINGULAR = {
    "labels": "--label",
    "boundaries": "--boundary",
    "held_out_sites": "--held-out-site",
    "tuning_sites": "--tuning-site",
}
_FLAGS = {"unusable=leave_out": "--leave-out-unusable"}


def section(kind: type[Kind], tree: Mapping[str, Any], command: str, plural: tuple[str, ...] = ()) -> Kind:
    """Parses a section for a command. `plural` names keys whose options stay plural. Raises
    InputError."""
    from ehrmind.config import parse_section

    try:
        return parse_section(kind, tree, command)
    except InputError as error:
        raise InputError(in_options(str(error), [*kind.model_fields], command, plural)) from None


def in_options(said: str, keys: list[str], command: str, plural: tuple[str, ...] = ()) -> str:
    """Rewrites a sentence with `--split-by time` for `split_by=time` and `--label` for `labels`."""
    head, mark, rest = said.partition(f"{command}: ")
    rest = (rest if mark else head).replace("the recipe: ", "")
    for flag, option in _FLAGS.items():
        rest = rest.replace(flag, option)
    for key in sorted(keys, key=len, reverse=True):
        option = _SINGULAR[key] if key in _SINGULAR and key not in plural else f"--{key.replace('_', '-')}"
        rest = re.sub(rf"(?<![\w.'-]){key}=(?=\w)", f"{option} ", rest)
        rest = re.sub(rf"(?<![\w.'-]){key}(?![\w.'=-])", option, rest)
    return f"{command}: {rest}" if mark else rest
