"""The process audit of an arm's answers, as figures for results.json: a share per part, and right answers whose reasoning is flawed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from ehrmind.config import Recipe
from ehrmind.process_audit import PARTS, ProcessAudit, audit
from ehrmind.process_audit.facts import Known, known, with_numbers_of
from ehrmind.runs import Row, Run
from ehrmind.stages.evaluation.evaluate import stage_of
from ehrmind.stages.evaluation.variants import thinks
from ehrmind.statistics import mean_interval
from ehrmind.types import Case

MOST = 8  # kinds of findings that are counted one by one


def process_figures(
    run: Run, recipe: Recipe, arm: str, cases: Mapping[str, Case], about: dict[str, Known]
) -> dict[str, Any] | None:
    """Of the headline decoding; None where the arm is not asked to think. `about` keeps what is known of a case from arm to arm."""
    if not thinks(recipe, arm):
        return None
    rows = run.read_rollouts(stage_of(arm, recipe.evaluate.decodings[0])).to_dicts()
    audits = [(cases[row["case"]].group, row, audit_row(row, cases[row["case"]], about)) for row in rows]
    found: dict[str, Any] = {part: _share([(group, audited, part) for group, _, audited in audits]) for part in PARTS}
    right = [(group, audited.flawed) for group, row, audited in audits if row["correct"]]
    times = Counter((finding.part, finding.what) for _, _, audited in audits for finding in audited.findings)
    return {
        **found,
        "right_but_flawed": _flawed(right),
        "findings": [{"part": part, "what": what, "times": count} for (part, what), count in times.most_common(MOST)],
    }


def audit_row(row: Row, case: Case, about: dict[str, Known]) -> ProcessAudit:
    """Of one rollout; what a tool answered in earlier turns counts as given."""
    if case.id not in about:
        about[case.id] = known(case)
    given = with_numbers_of(about[case.id], row["earlier"]) if row.get("earlier") else about[case.id]
    return audit(case, row["text"], about=given)


def _share(audits: list[tuple[str, ProcessAudit, str]]) -> dict[str, Any] | None:
    """Things looked at and passed, over all answers; the interval is over patients. None where nothing was looked at."""
    values: list[float] = []
    groups: list[str] = []
    by_group: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for group, audited, name in audits:
        if (part := audited.parts[name]) is not None:
            by_group[group][0] += part.checked
            by_group[group][1] += part.passed
    for group, (checked, passed) in by_group.items():
        values += [1.0] * passed + [0.0] * (checked - passed)
        groups += [group] * checked
    if not values:
        return None
    interval = mean_interval(values, groups)
    return {
        "checked": len(values),
        "passed": int(sum(values)),
        "share": sum(values) / len(values),
        "ci95": [interval.low, interval.high],
    }


def _flawed(right: list[tuple[str, bool]]) -> dict[str, Any] | None:
    if not right:
        return None
    values = [float(flawed) for _, flawed in right]
    interval = mean_interval(values, [group for group, _ in right])
    return {
        "n": len(values),
        "flawed": int(sum(values)),
        "share": sum(values) / len(values),
        "ci95": [interval.low, interval.high],
    }
