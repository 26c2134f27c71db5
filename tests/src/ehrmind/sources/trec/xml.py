"""XML of strangers: parsed by defusedxml, so that entities, external references and bombs are refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from ehrmind.types import InputError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def parse_xml(content: bytes, name: str) -> Element:
    """The root element. Raises InputError naming the file and, for broken XML, the line."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(content, forbid_dtd=False)
    except ParseError as error:
        raise InputError(f"{name}, line {error.position[0]}: not well-formed XML; fetch the file again.") from None
    except DefusedXmlException as error:
        raise InputError(f"{name} declares XML entities or external references ({type(error).__name__}); such files are refused.") from None
    except (ValueError, LookupError):
        raise InputError(f"{name} is not XML in an encoding that is known here; save it as UTF-8.") from None
    return root


def text_of(parent: Element, path: str) -> str:
    """The text under the first element at `path`, tags of its own elements written out for `text.plain`; "" where there is none."""
    found = parent.find(path)
    return "" if found is None else _written(found).strip()


def texts_of(parent: Element, path: str) -> list[str]:
    return [text for found in parent.findall(path) if (text := _written(found).strip())]


def _written(element: Element) -> str:
    """An element's text with the tags in it, which say where a line ends."""
    return (element.text or "") + "".join(f"<{child.tag}>{_written(child)}</{child.tag}>{child.tail or ''}" for child in element)
