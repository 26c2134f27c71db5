"""Eligibility criteria of a registry record: inclusion and exclusion where headings say which is which, whole where they do not.

Nothing is dropped: text under no heading of either kind stays as `other`. Which record was split is marked, because many
(most of those from the 1990s) state their criteria in prose under headings of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ADJECTIVES = r"(?:(?:key|main|major|general|primary|principal|important|patient|patients|subject|study|specific|additional|selected)\s+)*"
_HEADING = re.compile(
    rf"^[ \t]*(?:[-*•#]+[ \t]*|\(?[0-9ivx]{{1,3}}[.)][ \t]*)?(?:for\s+)?{_ADJECTIVES}"
    r"(?P<kind>inclusions?|exclusions?|eligibility\s+inclusion|eligibility\s+exclusion)"
    r"(?P<word>\s+criteri(?:a|on|ums?))?(?P<more>[^\n:.;-]{0,60}?)[ \t]*(?P<end>:+|[-–—](?=\s)|$)",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"^[ \t]*(?:[-*•·]|\(?[0-9]{1,2}[.)]|[a-zA-Z][.)])[ \t]+")


@dataclass(frozen=True, slots=True)
class Criteria:
    """Criteria as lists of statements. `split` says whether headings told inclusion from exclusion; if not, all is in `other`."""

    inclusion: tuple[str, ...] = ()
    exclusion: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def split(self) -> bool:
        return bool(self.inclusion or self.exclusion)


def split_criteria(text: str) -> Criteria:
    """Sections by their headings, in any order and number; each a list of statements with the registry's line wraps undone. What a
    heading says besides ("for part A") begins its statements."""
    text = text.replace("\r\n", "\n").replace("~", "\n")
    parts: dict[str, list[str]] = {"inclusion": [], "exclusion": [], "other": []}
    kind, start = "other", 0
    for heading in filter(_is_heading, _HEADING.finditer(text)):
        parts[kind] += statements(text[start : heading.start()])
        kind = "inclusion" if "inclusion" in heading["kind"].lower() else "exclusion"
        if whom := heading["more"].strip(" \t-"):
            parts[kind].append(f"{whom}:")
        start = heading.end()
    parts[kind] += statements(text[start:])
    return Criteria(*(tuple(parts[kind]) for kind in ("inclusion", "exclusion", "other")))


def _is_heading(found: re.Match[str]) -> bool:
    """A line that begins so may go on as a sentence ("Inclusion of women is …"): a heading ends in a colon, a dash or its line."""
    if found["end"]:
        return bool(found["word"]) or not found["more"].strip()
    return not found["more"].strip()


def statements(text: str) -> list[str]:
    """One text a statement: a bullet or a blank line begins the next, a wrapped line goes on."""
    found: list[str] = []
    fresh = True
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped:
            fresh = True
        elif fresh or not found or _BULLET.match(line):
            found.append(_BULLET.sub("", line).strip())
            fresh = False
        else:
            found[-1] += f" {stripped}"
    return [statement for statement in found if statement.strip(" -*•·.:")]
