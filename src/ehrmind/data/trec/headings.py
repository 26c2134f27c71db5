"""Recognises headings of eligibility criteria: inclusion, exclusion or neither.

A heading is a short line or the beginning of one. A sentence that goes on, or a negation ("no
exclusion criteria"), is no heading.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["inclusion", "exclusion", "other"]


class Heading(NamedTuple):
    """Heading of the `kind` of criteria that follow.

    `label` has its other words ("for part A"), `rest` the text behind it on the line. `outer` marks
    headings of PDQ's records, which may enclose those of inclusion and exclusion or lie under them.
    """

    kind: Kind
    label: str
    rest: str
    outer: bool = False


BULLET = re.compile(r"^[ \t]*(?:\\?[-*•·▪◦‣●○■➢✓]|\(?[0-9]{1,2}(?:\.[0-9]{1,2})*\\?[.)]|[a-zA-Z]\\?[.)])[ \t]+")

_DROPPED = r"for|key|main|major|general|primary|principal|important|patients?|subjects?|study|specific|additional|selected|eligibility"
_PLAIN = re.compile(_DROPPED, re.IGNORECASE)  # words without meaning in front of a heading
_ADJECTIVE = re.compile(
    rf"{_DROPPED}|the|all|these|following|participants?|trial|other|overall|common|core|basic|protocol", re.IGNORECASE
)
# The order matters: "non-inclusion" contains "inclusion", and "inclusion/exclusion" contains both.
_JOINED = r"(?:/|\\{1,2}|&|\+|,|-|and/or\b|and\b|or\b)"
_BOTH = rf"(?:in|ex)clusions?(?:\s+criteria)?\s*{_JOINED}\s*(?:non[-\s]?in|in|ex)clusions?|in-?\s?/\s?exclusions?"
_OUT = (
    r"non[-\s]?inclusions?|exclusion(?:s|ary)?|excl(?=\.?\s*:)|ex-?\s?[clusion]{5,9}(?=\s+criteri)|ineligibility|exclu(?:de|ding|ded)(?=\s+criteri)"
    r"|(?:ineligible|rejection|disqualif(?:ication|ying)|non-?eligibility)(?=\s+criteri)"
    r"|(?:criteri(?:a|on)|reasons?|grounds|conditions)\s+(?:for|of)\s+(?:the\s+)?(?:non[-\s]?inclusion|exclusion|ineligibility)"
    r"|crit[eè]res?\s+d(?:e\s+|['’]\s?)(?:non[-\s]?inclusion|exclusion)|criterios?\s+de\s+(?:(?:no|non)[-\s]+inclusi[oó]n|exclusi[oó]n)"
    r"|ausschlu(?:ss|ß)(?:-?\s?kriterien|-?\s?kriterium)?|criteri\s+di\s+(?:esclusione|non\s+inclusione)|(?:排除|剔除|非纳入)标准"
    r"|crit[eé]rios?\s+de\s+(?:exclus[aã]o|n[aã]o[-\s]inclus[aã]o)|exclusiecriteria"
)
_IN = (
    r"eligibility\s+inclusion|inclusions?|criteri(?:a|on)\s+(?:for|of)\s+inclusion|crit[eè]res?\s+d['’]\s?inclusion"
    r"|criterios?\s+de\s+inclusi[oó]n|einschlu(?:ss|ß)(?:-?\s?kriterien|-?\s?kriterium)?|criteri\s+di\s+inclusione|(?:入选|纳入|入组)标准"
    r"|crit[eé]rios?\s+de\s+inclus[aã]o|inclusiecriteria"
)
_MORE = r"(?:\([^()\n]{0,80}\)|(?<=\w)-(?=\w)|[^\n:：.;()–—-]){0,70}?"
_HEADING = re.compile(
    rf"(?P<before>(?:[^\s:：.;()]+\s+){{0,6}}?)(?:(?P<both>{_BOTH})|(?P<out>{_OUT})|(?P<in>{_IN}))(?![\w'’])"
    rf"(?P<word>\s+(?:criteri(?:a|on|ums?)|requirements?|factors?))?(?P<more>{_MORE})"
    r"(?P<end>\s*[:：]+|\s*[–—]+|\s+-+(?=\s)|\s*-+\s*$|(?<=\w)-(?=\s)|\s*[.;]?\s*$)",
    re.IGNORECASE,
)
# Headings of neither kind: PDQ's own, and those that do not concern eligibility at entry.
_PDQ = re.compile(
    r"(?:(?:disease|patient|subject|participant|donor|tumou?r)\s+characteristics|prior(?:\s*/\s*|\s+(?:and|or)\s+)?\s?concurrent\s+therapy)"
    r"\s*(?:--|[:：]|$)",
    re.IGNORECASE,
)
_NEUTRAL = re.compile(
    r"(?:protocol\s+entry\s+criteria|(?:withdrawal|discontinuation|stopping|removal|randomi[sz]ation)\s+criteria|eligibility(?:\s+criteria)?(?:\s+for\s+[^:]{1,40})?)"
    r"\s*(?:[:：]|$)",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:no|not|none|without|absence|lack|free|fail(?:s|ed|ure|ing)?|unable|neither|nor|never|except|besides|violat\w*|see|per)\b",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\b(?:is|are|was|were|will|must|may|should|has|have|had|apply|applies|requires?|required|that|which|if)\b",
    re.IGNORECASE,
)
_SCOPE = re.compile(r"(?i:(?:for|in|of|at|on|to|among|related|only)\b)|\(|[A-Z0-9]")
_PART = re.compile(r"(?:(?:cohorts?|part|phase|arm|group|stage|stratum|step|study|period)\s*)?[A-Z0-9]{1,4}")
_MARKS = re.compile(
    r"^[\s>#*_=•·▪◦‣●○■➢+\[\\–—-]*"
    r"(?:[0-9]{1,2}(?:\.[0-9]{1,2})+(?:\s+|$)|\(?(?:[0-9]{1,2}(?:\.[0-9]{1,2})*|[ivxIVX]{1,4}|[A-Za-z])\\?[.)]\s*)*[\s*_\[]*"
)
_INSIDE = re.compile(
    r"(?<=\S)[ \t]+(?=[*_]{0,2}(?:(?:Key|KEY|Main|MAIN|Major|MAJOR|General|GENERAL|Patient|PATIENT|Study|STUDY)\s+)?"
    r"(?:Inclusion|INCLUSION|Exclusion|EXCLUSION|Non-?\s?[Ii]nclusion|NON-?\s?INCLUSION|Ineligibility|INELIGIBILITY)"
    r"(?:s|S)?(?:\s+(?:[Cc]riteri(?:a|on)|CRITERI(?:A|ON)))?"
    r"[*_]{0,2}\s*(?:[:：]|[-–•*]\s|\(?[1aA][.)]\s))"
)
_LOWER_INSIDE = re.compile(r"(?<=[.;])[ \t]+(?=(?:inclusion|exclusion|non-inclusion)\s+criteria\s*:)")
# Title words in front of a heading: "Cohort 2" before "Exclusion Criteria:" belongs to the heading.
_TITLE = re.compile(r"[\s#*_]*(?:(?:\w[\w/'’,-]*|&)\s+){0,4}\w[\w/'’,-]*")
_LINK = re.compile(
    r"an?|the|of|to|in|on|for|by|with|from|and|or|&|any|all|none?|not|per|see|following|th[eo]se|this|that|above|below|meet(?:s|ing)?|under|as|if"
    r"|are|is|their|its|other|than|key|main|both|either|each|some",
    re.IGNORECASE,
)


def lines_of(text: str) -> list[str]:
    """Splits a text into lines, also before headings inside a line.

    Criteria in AACT's files have no line ends.
    """

    def broken(found: re.Match[str]) -> str:
        begins = text.rfind("\n", 0, found.start()) + 1
        before, above = (
            text[begins : found.start()],
            text[text.rfind("\n", 0, max(0, begins - 1)) + 1 : max(0, begins - 1)],
        )
        last = before.split()[-1].strip("([\"'")
        is_title = _MARKS.fullmatch(before) or (_is_begun(above) and _TITLE.fullmatch(before))
        belongs = _LINK.fullmatch(last) or not any(map(str.isalnum, last)) or is_title
        return found[0] if belongs else "\n"

    text = _INSIDE.sub(broken, text)
    return _LOWER_INSIDE.sub("\n", text).split("\n")


def heading_of(line: str, above: str, below: str) -> Heading | None:
    """Returns the heading at the beginning of a line, if any; `above` and `below` are next to
    it."""
    marks = _MARKS.match(line)
    core = re.sub(r"(?:\\?\*){2}|(?:\\?_){2}", "", line[marks.end() if marks else 0 :]).rstrip(" *_=#]\t")
    begun = _is_begun(above) or bool(BULLET.match(line))
    if not core or (core[0].islower() and not begun):
        return None  # a wrapped line that continues a sentence
    for pattern in (_PDQ, _NEUTRAL):
        if (neutral := pattern.match(core)) and (begun or core.endswith(":")):
            return Heading("other", "", core[neutral.end() :].strip(), outer=pattern is _PDQ)
    found = _HEADING.match(core)
    if found is None or not _stands_alone(found, not below.strip() or bool(BULLET.match(below))):
        return None
    if not begun and not _is_plain(found["before"]):
        return None
    if found["both"]:
        return Heading("other", "", core[found.end() :].strip())
    kind: Kind = "exclusion" if found["out"] else "inclusion"
    more = found["more"].strip(" \t-")
    says_no_more = all(map(_PLAIN.fullmatch, found["before"].split())) and "ineligib" not in found[0].lower()
    label = more if says_no_more and (not more or _SCOPE.match(more)) else core[: found.end("more")].strip(" \t-")
    return Heading(kind, label, core[found.end() :])


def _is_begun(above: str) -> bool:
    """Tells whether the next line begins a text and does not continue a wrapped line."""
    return not above.strip() or above.strip()[-1] in ".:;"


def _is_plain(before: str) -> bool:
    return all(_ADJECTIVE.fullmatch(word) for word in before.split())


def _stands_alone(found: re.Match[str], ends_here: bool) -> bool:
    """Tells whether a match is a heading and not a sentence ("Inclusion of women is …").

    A heading ends with a colon, a dash or the end of its line.
    """
    before, more, end = found["before"].strip(), found["more"].strip(), found["end"].strip(" \t*_")
    kind = found["both"] or found["out"] or found["in"]
    named = bool(found["word"]) or bool(re.search(r"criteri|kriteri|crit[eè]r", kind, re.IGNORECASE))
    if _DENIES.search(before) or _DENIES.match(more):
        return False
    colon = end[:1] in (":", "：")
    if not _is_plain(before):  # other words in front, such as a cohort's name
        titled = all(word[0].isupper() or word[0].isdigit() for word in before.split())
        if not (named or colon) or not (colon or (titled and not more)) or (not named and not titled):
            return False
    if colon or (end and end not in ".;"):
        return named or not more or (colon and more.startswith("(")) or bool(_PART.fullmatch(more))
    return not more or (
        ends_here and (bool(_PART.fullmatch(more)) or (named and not end and not _GOES_ON.search(more)))
    )
