"""The process audit as an extra reward of RLVR: `reward.extra` names it in a recipe."""

from __future__ import annotations

from ehrmind.process_audit.auditing import audit
from ehrmind.process_audit.conclusion import CONCLUSION
from ehrmind.process_audit.facts import known, with_numbers_of
from ehrmind.process_audit.formula import FORMULA
from ehrmind.process_audit.grounding import ENTITIES, GROUNDING
from ehrmind.process_audit.sums import ARITHMETIC
from ehrmind.types import Case, Completion, Verdict

REWARDED = (GROUNDING, ENTITIES, FORMULA, ARITHMETIC, CONCLUSION)


def soundness(case: Case, completion: Completion, verdict: Verdict) -> float:
    """Returns 0 if anything in the thought is wrong or the answer is malformed, else the mean share
    of the five parts that check working.

    A part with nothing to check counts as 0, so an empty thought earns nothing, and true sentences
    cannot make up for a wrong one. A wrong answer may earn it too. What a tool replied counts as
    given."""
    if not verdict.well_formed:
        return 0.0
    about = known(case)
    found = audit(case, completion.text, about=with_numbers_of(about, completion.earlier))
    if found.flawed:
        return 0.0
    parts = (found.parts[name] for name in REWARDED)
    return sum(0.0 if part is None else part.share for part in parts) / len(REWARDED)
