"""Cleans the text of registry records: line ends, HTML entities and tags, Markdown escapes.

Only the names of HTML tags count as tags, so a comparison such as "Hb < 9" stays as it is.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f\ufeff\u200b]")
_SPACES = str.maketrans(dict.fromkeys("\xa0\u2007\u202f", " "))
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LINE_TAGS = "br|p|div|ul|ol|tr|table|tbody|thead|h[1-6]|hr|section|blockquote|para|pre"
_TAG = re.compile(
    rf"<(?P<close>/?)(?P<name>{_LINE_TAGS}|li|td|th|sup|sub|b|i|u|em|strong|span|font|a|small|linebreak)"
    r"(?:\s+[A-Za-z:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>\"']+))*\s*/?>",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--.{0,2000}?-->", re.DOTALL)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")  # Markdown: a backslash before ASCII punctuation
# AACT's files write a line end as `~`. A `~` before a number means "about", except before the
# number of a list item.
_TILDE_LINE = re.compile(r"(?<!\\)~(?![ ]?(?:[<>=≤≥]|[0-9]+(?![0-9]*[.)]\s)))")
_TILDE_BULLET = re.compile(r"~\s*(?:[-*•]|[0-9]{1,2}[.)])\s")
_TILDES = re.compile(r"~~|~\s{2,}|~\s*(?:[-*•]|[0-9]{1,2}[.)])\s|criteri(?:a|on)\s*:?\s*~|:\s*~", re.IGNORECASE)


def plain(text: str) -> str:
    """Replaces every kind of line end by `\\n`, and resolves entities and tags.

    `unescaped` removes Markdown's escapes.
    """
    for _ in range(2):  # some files are escaped twice
        if "&" in text:
            text = _ENTITY.sub(_character, text)
    if "<" in text:
        text = _TAG.sub(_written, _COMMENT.sub(" ", text))
    text = with_line_ends(text).translate(_SPACES)
    if "\n" in text.strip() or not _TILDES.search(text):
        return text
    return _TILDE_LINE.sub("\n" if _TILDE_BULLET.search(text) else "\n\n", text)


def with_line_ends(text: str) -> str:
    """Replaces every kind of line end by a newline, and removes control characters."""
    return _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))


def one_line(text: str) -> str:
    """Cleans a text into one line, for titles, names and summaries."""
    return " ".join(unescaped(_TILDE_LINE.sub(" ", plain(text))).split())


def unescaped(text: str) -> str:
    """Removes Markdown's backslashes: `\\>` becomes `>`.

    Find bullets before calling this, because an escaped bullet is text.
    """
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def _character(found: re.Match[str]) -> str:
    if found[0][1] == "#":
        written = unescape(found[0])
        return written if written and written != "\ufffd" else found[0]
    return html5.get(found[0][1:], found[0])


def _written(found: re.Match[str]) -> str:
    """Returns the text that replaces a tag, such as `^` for <sup>, which keeps a power of ten."""
    name, closes = found["name"].lower(), bool(found["close"])
    if name == "sup":
        return "" if closes else "^"
    if name == "li":
        return "\n" if closes else "\n* "
    if name in ("td", "th"):
        return " "
    return "\n" if name == "linebreak" or re.fullmatch(_LINE_TAGS, name) else ""
