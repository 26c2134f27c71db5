"""Parses untrusted XML with defusedxml, which refuses entities, external references and bombs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from ehrmind.types import InputError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_RECORD = 64 << 20  # bytes of one trial; the registry's largest, with results, have about 20 MiB
MAX_DOCUMENT = 64 << 20  # bytes of a file of topics; TREC's have less than 1 MiB


def parse_xml(content: bytes, name: str) -> Element:
    """Returns the root element. Raises InputError naming the file and, for broken XML, the line."""
    from defusedxml.ElementTree import fromstring

    if len(content) > MAX_DOCUMENT:
        raise InputError(f"{name} is larger than {MAX_DOCUMENT >> 20} MiB, which no such file is; is it the right one?")
    with _clear_errors(name):
        root: Element = fromstring(content, forbid_dtd=False)
        return root


@contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    """Turns the parser's errors into one sentence that names the file."""
    from defusedxml import DefusedXmlException

    try:
        yield
    except InputError:  # a ValueError too
        raise
    except ParseError as error:
        raise InputError(f"{name}, line {error.position[0]}: not well-formed XML; fetch the file again.") from None
    except DefusedXmlException as error:
        raise InputError(
            f"{name} declares XML entities or external references ({type(error).__name__}); such files are refused."
        ) from None
    except (ValueError, LookupError):
        raise InputError(f"{name} is not XML in an encoding that is known here; save it as UTF-8.") from None
    except RecursionError:
        raise InputError(f"{name}: elements lie too deep in each other; fetch the file again.") from None


def elements(content: bytes, name: str, tag: str) -> Iterator[Element]:
    """Yields every element called `tag`, one at a time, and frees the ones before it.

    Raises InputError as `parse_xml` does, and for a record that is too large.
    """
    from defusedxml.ElementTree import iterparse

    stream = _Counted(content, name)
    with _clear_errors(name):
        root: Element | None = None
        for event, element in iterparse(stream, ("start", "end"), forbid_dtd=False):
            if root is None:
                root = element
            if event == "end" and element.tag == tag:
                stream.since = 0
                yield element
                if element is not root:
                    root.clear()


class _Counted(io.BytesIO):
    """Stream that raises InputError if one record has too many bytes."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name, self.since = name, 0

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        self.since += len(block)
        if self.since > MAX_RECORD:
            raise InputError(
                f"{self.name}: a record of more than {MAX_RECORD >> 20} MiB, which no trial has; fetch the file again."
            )
        return block


def text_of(parent: Element, path: str) -> str:
    """Returns the text of the first element at `path`, with inner tags for `text.plain`, or ""."""
    found = parent.find(path)
    return "" if found is None else _written(found).strip()


def texts_of(parent: Element, path: str) -> list[str]:
    return [text for found in parent.findall(path) if (text := _written(found).strip())]


def _written(element: Element) -> str:
    """Returns an element's text with its inner tags, which show where lines end."""
    pieces: list[str] = []
    waiting: list[str | Element] = [element]  # a stack instead of recursion: elements may be deeply nested
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            pieces.append(here)
            continue
        if here is not element:
            pieces.append(f"<{here.tag}>")
            waiting.append(f"</{here.tag}>{here.tail or ''}")
        pieces.append(here.text or "")
        waiting += reversed(here)
    return "".join(pieces)
