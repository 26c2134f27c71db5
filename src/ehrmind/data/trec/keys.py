"""Makes comparable keys of trials and topics, and finds the year that a file's name states."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ehrmind.data.cells import CellError
from ehrmind.data.identity import record_key
from ehrmind.types import InputError

NCT = re.compile(r"NCT[0-9]{8}")
_TRIAL = re.compile(r"(?:.*[/\\])?nct[\s:_#-]*([0-9]{8})(?:\.(?:xml|json|txt))?(?:\.gz)?", re.IGNORECASE)
_TOPIC = re.compile(
    r"(?P<name>[a-z][a-z\s._-]*?)?[\s._-]*(?P<year>20[0-3][0-9])?[\s._-]*0*(?P<number>[0-9]{1,3})(?:[.,]0*)?"
)
_WORDS = re.compile(r"\b(?:trec|ct|clinical|trials?|topics?|quer(?:y|ies)|q|patients?|no|number)\b")
_YEAR = re.compile(r"(?<![0-9])(20[0-3][0-9])(?![0-9]|[-_][0-9]{2}[-_][0-9]{2})")


class TopicKey(NamedTuple):
    """Number of a topic without leading zeros; year and words in front of it, otherwise ""."""

    name: str
    year: str
    number: str


def trial_key(text: str) -> str:
    """Returns `NCT01234567` for any spelling of it (case, spaces, a file's name), otherwise ""."""
    found = _TRIAL.fullmatch(unicodedata.normalize("NFKC", text).strip())
    return f"NCT{found[1]}" if found else ""


def topic_key(text: str) -> TopicKey:
    """Returns the key of a topic's id.

    `1`, `01`, `1.0` and `topic 1` have one key; `trec-20211`, `2021-1` and `20211` another, with a
    year.
    """
    plain = unicodedata.normalize("NFKC", text).strip().casefold()
    found = _TOPIC.fullmatch(plain)
    if found is None:
        try:
            return TopicKey("", "", record_key(text))
        except CellError as error:
            raise InputError(f"The id of a topic is {error}.") from None
    name = " ".join(re.sub(r"[\s._-]+", " ", _WORDS.sub(" ", re.sub(r"[._-]", " ", found["name"] or ""))).split())
    return TopicKey(name, found["year"] or "", str(int(found["number"])))


def year_named(text: str) -> str:
    """Returns the year in a file's name or an attribute; "" if there is none or more than one."""
    years = set(_YEAR.findall(text))
    return years.pop() if len(years) == 1 else ""


def refuse_other_years(topics: Path, years: Iterable[str], pairs: Path, ids: Iterable[str]) -> None:
    """Raises InputError if topics and judgments state different years.

    The years come from ids, an attribute, or names of files and folders.
    """
    same_folder = topics.resolve().parent == pairs.resolve().parent
    inside, of_ids = set(years) - {""}, {topic_key(name).year for name in set(ids)} - {""}
    theirs, ours = (
        year_named(file.name) or ("" if same_folder else year_named(file.resolve().parent.name))
        for file in (topics, pairs)
    )
    remedy = (
        "give the two files of one collection, or say --any-year (in a recipe `any_year: true`) if they do belong"
        " together"
    )
    said, wanted = inside or {theirs} - {""}, of_ids or {ours} - {""}
    if said and wanted and not wanted <= said:
        raise InputError(f"{topics} is of {_listed(said)} and {pairs} of {_listed(wanted)}; {remedy}.")
    for file, named, found in ((topics, year_named(topics.name), inside), (pairs, year_named(pairs.name), of_ids)):
        if named and found and named not in found:
            raise InputError(f"{file} has {named} in its name and says {_listed(found)} inside; {remedy}.")


def _listed(years: Iterable[str]) -> str:
    return " and ".join(sorted(years))
