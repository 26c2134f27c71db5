"""Splits a registry record's eligibility criteria into inclusion and exclusion by their headings.

Nothing is dropped: text without such a heading stays as `other`. Sometimes the split cannot be
trusted, because the inclusion part still says who is excluded, or because the end of a list is not
clear. Then the criteria stay whole and are marked as mixed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ehrmind.data.trec.headings import BULLET, Kind, heading_of, lines_of
from ehrmind.data.trec.text import plain, unescaped

# Statements of who is excluded from the study. "Excluding" inside a criterion limits that
# criterion, and "not eligible for transplant" describes a patient, so neither counts.
_OTHERS = r"(?!\s+(?:for|to)\s+(?!(?:the|this|our|these|any|participat|enrol|entry|enter|inclusion|stud|trial|random|protocol\b|registration)))"
_KEPT_OUT = re.compile(
    rf"\bexclu(?:de|des|ded|sion|sions|sionary)\b|\bnon-?\s?inclusion\b|\bineligib(?:le|ility)\b{_OTHERS}|\b(?:not|never|no\s+longer)\s+(?:be\s+)?eligible\b{_OTHERS}"
    r"|\b(?:not|never)\s+be\s+(?:included|enrolled|admitted|recruited|entered|(?:accepted|considered)\s+(?:for|in|into)\b|allowed\s+to\s+(?:enter|enrol|participat|take))"
    r"|\b(?:cannot|can\s?not|can't|(?:will|may|must|should|do|does)\s+not)\s+(?:participate|take\s+part|enter|enrol|enroll|join|qualify)\b"
    r"|\b(?:not|never|un)[\s-]*(?:be\s+)?(?:allowed|permitted|suitable|able|fit)\s+(?:to\s+(?:participat|take\s+part|enter|enrol|join)|for\s+(?:the|this|our)\s+(?:stud|trial))"
    r"|\b(?:(?:will|must|should|may)\s+be|are)\s+(?:barred|turned\s+away|rejected|(?:ruled|screened)\s+out(?=\s*(?:[:.]|from|$)))|\bex-?\s?[clusion]{5,9}\s+criteri|\bexcl\.?\s*[:：]|排除|剔除"
    r"|\bdisqualif|(?:^|[.;]\s+)excluding\b|\bexcluding\s*:|^contra-?\s?indications?\s*:"
    r"|\bexclusi(?:ón|on\s+de)|\bno\s+inclusi[oó]n\b|\bausgeschlossen|\bausschlu(?:ss|ß)|\besclusion|\bexclus[aã]o\b|\bexclu(?:e|es|s)\b|\bexcluid[oa]s?\b",
    re.IGNORECASE,
)
# Beginnings of a list, in the inclusion part, of what a patient must not have.
_DENIES_LIST = re.compile(
    r"(?:none\s+of\s+the(?:se)?\b(?:(?!\bexcept\b)[^:：])*"
    r"|(?:\w+\s+){0,2}?(?:must|should|may|can|shall|do|does)\s*not\s+(?:have|be|suffer|take|receive|use|show|present)\b(?:(?!\b(?:except|unless|more|until)\b)[^:：]){0,80}"
    r"|(?:\S+\s+){0,8}?(?:no|not|without|free\s+(?:of|from))\s(?:(?!\b(?:except|unless|more|until)\b)[^:：]){0,60}\bany\s+of\s+the(?:se|\s+following)?[^:：]{0,30}"
    r"|contra-?\s?indications?|(?:prohibited|forbidden|unsuitable|rejected)\b[^:：]{0,40})\s*[:：]$",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:no|not|never|nor|without|need\s+not)\b[^.;:]{0,60}\bexclu|\bexclu\w+[^.;:]{0,40}\bnot\b", re.IGNORECASE
)
_LET_IN = re.compile(
    r"(?:[\w /]{0,40}:\s*)?(?:required|allowed|permitted|included"
    r"|(?:patients|subjects|participants|volunteers|they|you|donors|women|men)\s+"
    r"(?:must(?!\s+not)|may\s+be\s+(?:eligible|included)|are\s+eligible|will\s+be\s+(?:eligible|included))[^.;:]{0,60})\s*:\s*$|inclusion\s+criteria\s*:",
    re.IGNORECASE,
)
_COHORT = re.compile(
    r"(?:cohort|part|phase|arm|group|stage|stratum|step|sub-?study|period|population|for)\b.{0,60}", re.IGNORECASE
)
_LONGEST_LEAD = 200


@dataclass(frozen=True, slots=True)
class Criteria:
    """Criteria as lists of statements; without headings, all are in `other`.

    `mixed` says that there were headings, but that the text under them could not be trusted. Then
    all statements are in `other` too.
    """

    inclusion: tuple[str, ...] = ()
    exclusion: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    mixed: bool = False

    @property
    def split(self) -> bool:
        return bool(self.inclusion or self.exclusion)


@dataclass(slots=True)
class _Section:
    """Lines under a heading. `at` is the indent of a heading that is a bullet.

    `lead` says that a sentence serves as heading, `inline` that text follows on the heading's line,
    `fixed` that the first line is a heading of neither kind.
    """

    kind: Kind
    label: str = ""
    at: int | None = None
    lead: bool = False
    inline: bool = False
    fixed: bool = False
    lines: list[str] = field(default_factory=list)


def split_criteria(text: str) -> Criteria:
    """Splits criteria by their headings, in any order and number.

    Each part is a list of statements without the registry's line wraps. Other words of a heading
    ("for part A") become the first statement under it.
    """
    lines = lines_of(plain(text))
    sections = _sections(lines)
    parts: dict[Kind, list[str]] = {"inclusion": [], "exclusion": [], "other": []}
    for section in sections:
        parts[section.kind] += ([f"{unescaped(section.label)}:"] if section.label else []) + statements(
            "\n".join(section.lines)
        )
    found = Criteria(tuple(parts["inclusion"]), tuple(parts["exclusion"]), tuple(parts["other"]))
    if found.split and (
        is_mixed(found) or any(_has_unclear_end(section) or _denies_a_list(section) for section in sections)
    ):
        return Criteria(other=tuple(statements("\n".join(lines))), mixed=True)
    return found


def is_mixed(found: Criteria) -> bool:
    """Tells whether the inclusion part excludes anyone, or the exclusion part includes anyone."""
    return any(map(_KEPT_OUT.search, found.inclusion)) or any(map(_LET_IN.match, found.exclusion))


def _sections(lines: Sequence[str]) -> list[_Section]:
    sections = [_Section("other")]
    # `around`: PDQ's headings enclose those of inclusion and exclusion, so each ends the section
    # before it.
    cohort, around = "", False
    for place, line in enumerate(lines):
        above, below = lines[place - 1] if place else "", lines[place + 1] if place + 1 < len(lines) else ""
        heading = heading_of(line, above, below)
        if heading is None and _is_lead(line, above, lines[place + 1 :], sections[-1].kind):
            sections.append(_Section("exclusion", at=_bullet_at(line), lead=True, lines=[line, ""]))
        elif heading is None or (heading.outer and not around and len(sections) > 1):
            sections[-1].lines.append(line)
        elif heading.kind == "other":  # a heading of neither kind is kept as a statement
            around = around or heading.outer
            sections.append(_Section("other", fixed=True, lines=[line] if heading.rest else [line, ""]))
        else:
            own = (
                ""
                if sections[-1].fixed and not any(map(str.strip, sections[-1].lines[1:]))
                else _take_label(sections[-1].lines)
            )
            label = " ".join(
                part for part in (own or (cohort if heading.kind == "exclusion" else ""), heading.label) if part
            )
            cohort = own if heading.kind == "inclusion" else ""  # a cohort's exclusions follow its inclusions
            sections.append(
                _Section(heading.kind, label, _bullet_at(line), inline=bool(heading.rest.strip()), lines=[heading.rest])
            )
    return sections


def _take_label(lines: list[str]) -> str:
    """Removes the line above a heading from its section and returns it, if it names a cohort.

    Such a line says which group of patients the heading is for.
    """
    at = next((place for place in range(len(lines) - 1, -1, -1) if lines[place].strip()), None)
    if at is None or BULLET.match(lines[at]) or (at and lines[at - 1].strip()):
        return ""
    line = lines[at].strip(" \t*_#")
    if len(line) > 70 or not (line.endswith(":") or _COHORT.fullmatch(line)) or _KEPT_OUT.search(line):
        return ""
    del lines[at:]
    return line.rstrip(" :")


def _is_lead(line: str, above: str, following: Sequence[str], kind: Kind) -> bool:
    """Tells whether a sentence in the inclusion part begins a list of exclusions.

    An example is "Patients will be excluded if they have:".
    """
    core = line.strip(" \t*_#-•")
    if (
        kind != "inclusion"
        or not core
        or len(core) > _LONGEST_LEAD
        or not _KEPT_OUT.search(core)
        or _DENIED.search(core)
    ):
        return False
    if core[0].islower() or (above.strip() and not BULLET.match(line)) or re.search(r"[.;]\s|[:：]\s+\S", core):
        return False
    below = next((other for other in following if other.strip()), "")
    return core.endswith((":", "：")) or (core[-1] not in ".;" and bool(BULLET.match(below)) and not BULLET.match(line))


def _bullet_at(line: str) -> int | None:
    """Returns the indent of a bullet; None for a line that is no bullet."""
    return len(line) - len(line.lstrip()) if BULLET.match(line) else None


def _has_unclear_end(section: _Section) -> bool:
    """Tells whether the end of a section is not clear.

    This is so for a bullet that is less indented than the heading's own list, and for text behind a
    list that a sentence began.
    """
    if section.kind == "other" or (section.at is None and not section.lead):
        return False
    lines = [line for line in (section.lines[1:] if section.lead or section.inline else section.lines) if line.strip()]
    bullets = [at for line in lines if (at := _bullet_at(line)) is not None]
    if section.at is not None and bullets:
        floor = section.at + 1 if section.inline or bullets[0] > section.at else section.at
        if min(bullets) < floor:
            return True
    return section.lead and (not lines or not BULLET.match(lines[0]) or _text_behind(section.lines[1:]))


def _denies_a_list(section: _Section) -> bool:
    """Tells whether an inclusion part has a list of what patients must not have.

    Such a list begins with "None of the following:" or "Contraindications:", for example.
    """
    lines = [line for line in section.lines if line.strip()]
    return section.kind == "inclusion" and any(
        _DENIES_LIST.match(_without_bullet(line).strip(" \t*_")) and BULLET.match(below)
        for line, below in itertools.pairwise(lines)
    )


def _text_behind(lines: Sequence[str]) -> bool:
    """Tells whether a paragraph without a bullet follows a blank line."""
    return any(
        line.strip() and not BULLET.match(line) and not lines[place - 1].strip()
        for place, line in enumerate(lines)
        if place and line.strip()
    )


def statements(text: str) -> list[str]:
    """Splits a text into statements and removes Markdown's escapes.

    A bullet or a blank line begins the next statement; a wrapped line continues it.
    """
    found: list[str] = []
    fresh = True
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped:
            fresh = True
        elif fresh or not found or BULLET.match(line):
            found.append(_without_bullet(line))
            fresh = False
        else:
            found[-1] += f" {stripped}"
    return [unescaped(statement) for statement in found if statement.strip(" -*•·.:")]


def _without_bullet(line: str) -> str:
    """Removes a bullet. An escaped dash before a number may be a minus, so it stays."""
    return line.strip() if re.match(r"\s*\\[-+*]\s+[0-9.]", line) else BULLET.sub("", line).strip()
