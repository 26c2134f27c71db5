"""Reads untrusted YAML and JSON into plain values, within bounds on size, depth and time.

A YAML alias stands for everything it names, so a few lines can mean a billion values. They are
counted from the parser's events before anything is built. Every message starts with the file's
name; none quotes the file's content.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ehrmind.system import why
from ehrmind.types import InputError

MAX_BYTES = 4 << 20  # limit for a file that people write; the longest recipe here has 10 KiB
MAX_VALUES = 30_000  # keys, values and list items, with aliases expanded
MAX_DEPTH = 64  # nested lists and mappings; a recipe has six levels
MAX_NUMBER = 300  # characters: Python's floats end after 309 digits
MAX_RESULT = 256 << 20  # bytes of a JSON file that ehrmind itself writes
_QUOTED = re.compile(r"(['\"])(?!<[a-z ]+>\1).{2,}?\1")
# The C loader reads the same values ten times as fast, if PyYAML has its C library.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[-+.]?[0-9][0-9a-fA-FxXob_.,:+-]*")


def read_yaml(path: Path) -> Any:
    """Reads a YAML file. Raises InputError naming the file."""
    return yaml_value(read_text(path), str(path))


def yaml_value(text: str | bytes, name: str) -> Any:
    """Reads a YAML text. Raises InputError if it is not YAML, gives a key twice, or is out of
    bounds."""
    if isinstance(text, bytes):
        text = _decoded(text, name)
    if len(text) > MAX_BYTES:
        raise _too_large(name, MAX_BYTES)
    with _sentences(name):
        refuse_unbounded(yaml.parse(text, Loader=_LOADER), name)
        loader = _LOADER(text)
        node = loader.get_single_node()
        twice = _key_given_twice(node)
        value = None if node is None or twice else loader.construct_document(node)
    if twice is not None:
        raise InputError(
            f"{name}, line {twice.start_mark.line + 1}: the key '{str(twice.value)[:80]}' is given twice; keep one."
        )
    return value


def top_text(path: Path, key: str) -> str | None:
    """Returns the value of `key` at the top level of a YAML file, if it is a single text.

    It scans the whole file and builds nothing. Raises InputError as `read_yaml` does.
    """
    text, name = read_text(path), str(path)
    events: list[Any] = []
    # event by event, so that input without an end is refused before all of it is parsed
    with _sentences(name):
        refuse_unbounded(_kept(yaml.parse(text, Loader=_LOADER), events), name)
    depth = 0
    # of the top level, keys and values in turn; None is a list or a mapping
    scalars: list[str | None] = []
    for event in events:
        if depth == 1 and isinstance(event, yaml.NodeEvent):
            scalars.append(event.value if isinstance(event, yaml.ScalarEvent) else None)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
    return (
        dict(zip(scalars[::2], scalars[1::2], strict=False)).get(key)
        if any(isinstance(event, yaml.MappingStartEvent) for event in events[2:3])
        else None
    )


def _kept(events: Iterable[Any], kept: list[Any]) -> Iterator[Any]:
    for event in events:
        kept.append(event)
        yield event


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """Turns what PyYAML raises into one sentence."""
    try:
        yield
    except InputError:  # it is a ValueError too
        raise
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not valid YAML: {_said(error)}") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        # SafeLoader does not wrap the errors that int(), date() and its own tables raise for
        # `2001-99-99` or `!!bool maybe`.
        raise InputError(
            f"{name} is not valid YAML: a number, a date or a tag in it cannot be read; put quotes around texts."
        ) from None


def refuse_unbounded(events: Iterable[Any], name: str) -> None:
    """Raises InputError if a parser's events (PyYAML's or ruamel's) hold too many values or nest
    too deeply.

    The time is linear in the length of the text, whatever its aliases stand for.
    """
    # by anchor: how many values it stands for, and how deep they nest
    whole: dict[str, tuple[int, int]] = {}
    open_: list[list[Any]] = []  # by depth: the anchor, the values so far, the depth below
    total = 0

    def add(values: int, depth: int) -> None:
        nonlocal total
        if len(open_) + depth > MAX_DEPTH:
            raise InputError(
                f"{name}: lists and mappings lie more than {MAX_DEPTH} deep in each other; write them flatter."
            )
        if open_:
            open_[-1][1] += values
            open_[-1][2] = max(open_[-1][2], depth + 1)
            seen = open_[-1][1]
        else:
            total += values
            seen = total
        if seen > MAX_VALUES:
            raise InputError(
                f"{name} comes to more than {MAX_VALUES:,} values once its aliases are written out; write fewer."
            )

    for event in events:
        kind = type(event).__name__
        if kind in ("SequenceStartEvent", "MappingStartEvent"):
            open_.append([event.anchor, 1, 0])
            add(0, 0)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            anchor, values, depth = open_.pop()
            if anchor is not None:
                whole[anchor] = values, depth
            add(values, depth)
        elif kind == "ScalarEvent":
            if (
                len(event.value) > MAX_NUMBER
                and (event.tag is not None or not event.style)
                and _NUMBER.fullmatch(event.value)
            ):
                raise InputError(
                    f"{name} holds a number of {len(event.value):,} characters; put quotes around it if it is a text."
                )
            if event.anchor is not None:
                whole[event.anchor] = 1, 0
            add(1, 0)
        elif kind == "AliasEvent":
            if any(anchor == event.anchor for anchor, _, _ in open_):
                raise InputError(f"{name}: what an alias names holds itself; write out what is meant.")
            add(*whole.get(event.anchor, (1, 0)))


def read_json(path: Path, *, most: int = MAX_RESULT) -> Any:
    """Reads a JSON file. Raises InputError naming the file."""
    return json_value(read_text(path, most), str(path))


def json_value(text: str | bytes, name: str) -> Any:
    """Reads a JSON text. Raises InputError if it is not JSON or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{name}: lists and objects lie too deep in each other; write them flatter.") from None
    # broken JSON, broken UTF-8, or an integer with more digits than Python reads
    except ValueError:
        raise InputError(f"{name} is not valid JSON, or holds a number that is too long.") from None


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """Reads a regular file's text, up to `most` bytes. Raises InputError naming the file.

    A pipe or a device is refused because it may have no end.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{path} is no regular file.")
        if about.st_size > most:
            raise _too_large(str(path), most)
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {why(error)}.") from None
    if len(content) > most:
        raise _too_large(str(path), most)
    return _decoded(content, str(path))


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text (byte {error.start:,}); save it as UTF-8.") from None


def _too_large(name: str, most: int) -> InputError:
    return InputError(f"{name} is larger than {most >> 20} MiB, which no such file is; is it the right one?")


def _said(error: yaml.YAMLError) -> str:
    """Returns the problem and its line, without PyYAML's snippet and without any word of the text,
    which may be a key."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    said = " ".join(str(problem or getattr(error, "reason", None) or "it cannot be read").split())
    return f"{_QUOTED.sub('a word', said)[:200]}{where}"


def _key_given_twice(node: yaml.Node | None) -> yaml.Node | None:
    """Returns the second of two equal keys, which YAML itself would silently keep."""
    waiting, seen = [node], set[int]()
    while waiting:
        here = waiting.pop()
        if here is None or id(here) in seen:  # an alias can lead here again
            continue
        seen.add(id(here))
        if isinstance(here, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in here.value:
                if str(key.value) in keys:
                    return key
                keys.add(str(key.value))
                waiting.append(value)
        elif isinstance(here, yaml.SequenceNode):
            waiting += here.value
    return None
