"""Decides which column names a message may show.

A file without a header line has a record in place of the names. So a name from a file is shown only
if each of its words is a known word of column names; other columns are named by their number. A
name that the recipe or the code asks for may always be shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

MOST = 20
NEAR = 0.8  # similarity above which a column's name counts as a misspelling of the wanted one
# Words of column names and nothing else: no finding, no drug, no name of a person, no answer.
_NAMES = """
a abstain age aid aids aliases and answer answers at audit birth boolean brief calculator care categorical category cell chart
code codes column comment concept condition conditions context corpus count criteria data dataset date datetime day days death
description difficulty doc docid document domain dose drug eligibility encounter end entities ethnicity event exclusion
explanation feature features field file first float from gender grade ground group hadm hospital icu id ids in inclusion index
input inputs instruction integer interventions is item iteration judgment key kind label labels language last limit location
lower maximum mean measurement minimum modifier month mrn name nct note notes num number numeric observation occurrence of
official omop option options order output parent pathology patient period person prediction probability procedure prompt
provider qid qrel qualifier quantity queries query question rationale reason record records relevance relevant report response
result results row sample score section series service set sex shard site source specimen split stage start static status stay
study subject summary table target task test text time timestamp title topic train trial truth tuning type unique unit unnamed
upper value values visit vocabulary year zip
"""
_WORDS = frozenset(_NAMES.split())


def is_name(column: str) -> bool:
    """Tells whether a text looks like a column's name: one to six known words, or numbered ones."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\sA-Za-z0-9_./():-]", column)
    letters = [word.lower() for word in words if not word.isdigit()]
    return (
        bool(letters)
        and len(words) <= 6
        and all(word in _WORDS for word in letters)
        and all(len(word) < 3 for word in words if word.isdigit())
    )


def at(columns: Sequence[str], place: int) -> str:
    """Names a column in a message: `column 'note'`, or `column 3`."""
    return f"column '{columns[place]}'" if is_name(columns[place]) else f"column {place + 1}"


def there(columns: Sequence[str], asked: str | None = None, quote: str = "") -> str:
    """Lists a file's columns for a message: `it has question, answer and 2 of other names`.

    `asked` is the name that was wanted. A column with nearly that name is shown too, because the
    user wrote it.
    """
    shown = [f"{quote}{column}{quote}" for column in columns if is_name(column) or _is_near(column, asked)][:MOST]
    others = len(columns) - len(shown)
    if not shown:
        many = "1 column" if others == 1 else f"{others:,} columns"
        return (
            f"it has {many} of other names; if its first line is a row, write a line with the columns' names above it"
        )
    more = f" and {others:,} of {'another name' if others == 1 else 'other names'}" if others else ""
    return f"it has {', '.join(shown)}{more}"


def some(columns: Sequence[str], most: int) -> str:
    """Lists the columns whose names may be shown and counts the rest: `ward, unit and 3 more`."""
    shown = [column for column in columns if is_name(column)][:most]
    others = len(columns) - len(shown)
    return " and ".join(
        part
        for part in (
            ", ".join(shown),
            f"{others:,} {'more' if shown else 'whose names are not shown here'}" if others else "",
        )
        if part
    )


def _is_near(column: str, asked: str | None) -> bool:
    if asked is None or len(column) > 2 * len(asked):
        return False
    ours, theirs = (re.sub(r"[\W_]+", "", name).casefold() for name in (asked, column))
    return bool(ours) and (ours == theirs or difflib.SequenceMatcher(None, ours, theirs).ratio() >= NEAR)


def kind_of(dtype: pl.DataType) -> str:
    """Names a column's type without its content; an Enum would list its cells."""
    zone = getattr(dtype, "time_zone", None)
    return f"{dtype.base_type()}{' with a zone' if zone else ''}"
