"""Errors in a recipe, in words: keys as the recipe writes them, and the nearest key to a misspelt
one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

NEAR = 0.7  # of the same letters in the same order: a slip of the keyboard, a plural; `newkey` is not `seed`
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def explain(problems: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> str:
    """Writes pydantic's errors as one line; `schema` is the JSON schema of what was validated.
    Values are never quoted.
    """
    messages: dict[str, list[str]] = {}
    for problem in problems:
        place = [
            str(part) for part in problem["loc"] if "[" not in str(part)
        ]  # without pydantic's names of a union's choices
        messages.setdefault(".".join(place) or "the recipe", []).append(_message(problem, place, schema))
    return "; ".join(f"{key}: {', or '.join(found)}" for key, found in messages.items())


def _message(problem: Mapping[str, Any], place: list[str], schema: Mapping[str, Any]) -> str:
    if problem["type"] not in _UNKNOWN:
        text = problem["msg"].removeprefix("Value error, ")
        return text[:1].lower() + text[1:]
    known = _known_keys(place[:-1], schema)
    nearest = difflib.get_close_matches(place[-1], known, n=1, cutoff=NEAR)
    if nearest:
        return f"unknown key, did you mean '{'.'.join([*place[:-1], *nearest])}'?"
    return f"unknown key, known here are {', '.join(known)}"


def _known_keys(parents: Sequence[str], schema: Mapping[str, Any]) -> list[str]:
    """Returns the keys allowed under a dotted place, optional sections included."""
    node = schema
    for parent in parents:
        node = _resolve(node, schema).get("properties", {}).get(parent, {})
    return list(_resolve(node, schema).get("properties", {}))


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for choice in (node, *node.get("anyOf", []), *node.get("allOf", [])):
        if "$ref" in choice:
            found: Mapping[str, Any] = schema["$defs"][choice["$ref"].rsplit("/", 1)[-1]]
            return found
    return node
