"""Checks that the criteria a thought goes through stand in the trial: `must: hemoglobin of 9 g/dL
or more: 10.2, fine`."""

from __future__ import annotations

import re

from ehrmind.process_audit.facts import Known, plain_text
from ehrmind.process_audit.grounding import GROUNDING
from ehrmind.process_audit.thought import Finding, Looked, Thought
from ehrmind.types import Case

NOT_IN_TRIAL = "this criterion does not stand in the trial"
_CRITERION = re.compile(
    r"\b(?:must not|must|(?:inclusion|exclusion)(?: criterion)?|criterion)(?: [0-9]{1,3})?: ([^:;\n]{3,300})",
    re.IGNORECASE,
)


def criteria_quoted(case: Case, thought: Thought, known: Known) -> Looked:
    if case.family != "trials":
        return Looked(0, ())
    checked, findings = 0, list[Finding]()
    for match in _CRITERION.finditer(thought.text):
        checked += 1
        if plain_text(match[1]) not in known.text:
            findings.append(
                Finding(GROUNDING, thought.offset + match.start(1), thought.offset + match.end(1), NOT_IN_TRIAL)
            )
    return Looked(checked, tuple(findings))
