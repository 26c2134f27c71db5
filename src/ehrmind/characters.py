"""Replaces typographic minus signs, spaces, quotes and digits with those of a keyboard."""

from __future__ import annotations

import unicodedata

MINUS = "\u2212\u2010\u2011\u2012\u2013\u2014\u2015\ufe58\ufe63\uff0d"
SPACES = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t"
_UNSEEN = "\ufeff\u200b\u200e\u200f\u2060\u00ad\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufe0e\ufe0f"
_PLAIN = str.maketrans(
    {
        **dict.fromkeys(MINUS, "-"),
        **dict.fromkeys(SPACES, " "),
        **dict.fromkeys("\u2019\u02bc\uff07", "'"),
        **dict.fromkeys(_UNSEEN, None),
        "\uff0b": "+",
        "\uff0e": ".",
        "\uff0c": ",",
        "\u066b": ".",
        "\u066c": "'",
    }
)


def plain(text: str) -> str:
    """Returns the text with ordinary spaces, minus signs and decimal digits, stripped."""
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text.translate(_PLAIN))
    return text.strip()
