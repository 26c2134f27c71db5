"""Makes comparable keys of patients, records and rows, however a file spells their ids."""

from __future__ import annotations

import re
import unicodedata

from ehrmind.characters import plain
from ehrmind.data.cells import LONGEST, CellError, TypedNumber, is_null

_WHOLE = re.compile(r"\+?(-?)0*([0-9]+)(?:[.,]0*)?")
_GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_ROUNDED = re.compile(r"-?[0-9][.,][0-9]+e\+?[0-9]+")


def record_key(cell: str) -> str:
    """Returns the key of a patient, subject, record or row; empty for a null.

    `7`, `007`, `7.0`, ` 7 ` and `７` have the same key, and so do `A-7` and `a‐7`. Raises CellError
    for a number that a spreadsheet has rounded (`1.23457E+11`).
    """
    if is_null(cell):
        return ""
    text = " ".join(plain(unicodedata.normalize("NFKC", plain(cell))).casefold().split())
    if len(text) > LONGEST:
        return text
    if found := _WHOLE.fullmatch(text):
        number = found[1] + found[2]
        return "0" if number == "-0" else number
    if _GROUPED.fullmatch(text):
        return text.replace(",", "")
    if _ROUNDED.fullmatch(text) or (isinstance(cell, TypedNumber) and "e" in text):
        raise CellError(
            "a number with an exponent, which has lost digits; format the column as text and export it again"
        )
    return text


def group_key(cell: str, namespace: str | None = None) -> str:
    """Returns the group of a patient or record: its key, with `namespace` as prefix if given.

    A namespace separates two collections whose numbers are unrelated.
    """
    key = record_key(cell)
    return f"{namespace}-{key}" if namespace is not None and key else key


def short_id(cell: str) -> str:
    """Returns a row's id for use in a Case's id: as written, but `2.0` and `2,00` become `2`."""
    text = plain(cell)
    if is_null(cell) or len(text) > LONGEST:
        return "" if is_null(cell) else text
    found = re.fullmatch(r"([0-9]+)[.,]0*", text)
    return found[1] if found else text
