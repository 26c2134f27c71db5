"""Makes names of files and folders safe to show in a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    """Writes a text on one line, with codes for what acts on a terminal: escape sequences, line
    ends, and characters that turn the direction of text."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(text))
