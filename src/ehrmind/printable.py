"""Names that come from files and folders, as a terminal may show them."""

from __future__ import annotations


def printable(text: object) -> str:
    """The text on one line, with codes in place of all that does something on a terminal: escape sequences, line ends, and signs that
    turn the direction of what follows."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(text))
