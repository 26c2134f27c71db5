"""Tables of what endpoints did: models scored as arms, and the warm-up's teacher."""

from __future__ import annotations

from ehrmind.report.formatting import Rows, Table, number
from ehrmind.report.reading import Figures


def endpoints(figures: Figures) -> Table | None:
    """The cost of scoring each endpoint's model; None where there is none."""
    scored = {arm: row.endpoint for arm, row in figures.results.arms.items() if row.endpoint is not None}
    if not scored:
        return None
    rows: Rows = []
    for arm, row in scored.items():
        counts = (row.answers, row.prompt_tokens, row.completion_tokens, row.cost, row.unanswered)
        rows.append([arm, row.model or "", *map(number, counts)])
    caption = (
        f"Models behind endpoints, {figures.results.decoding} decoding: tokens as the endpoints count them, cost by "
        "the recipe's prices, and questions that got no answer, which count as malformed."
    )
    return Table(caption, ["Arm", "Model", "Answers", "Tokens read", "Tokens written", "Cost", "Unanswered"], rows)


def teacher(figures: Figures) -> Table | None:
    """The teacher's answers, accepted and refused; None where the warm-up had no teacher."""
    facts = figures.warmup.teacher if figures.warmup else None
    if facts is None:
        return None
    refused = sorted(facts.refused.items(), key=lambda row: (-row[1], row[0]))
    missing = sum(count for labels in facts.short.values() for count in labels.values())
    rows: Rows = [["Asked", number(facts.asked)], ["Accepted", number(facts.accepted)]]
    rows += [[f"Refused: {reason}", number(count)] for reason, count in refused]
    rows += [
        ["Fewer than wanted by", number(missing)],
        ["Tokens read and written", f"{number(facts.prompt_tokens)} and {number(facts.completion_tokens)}"],
        ["Cost", number(facts.cost)],
    ]
    caption = (
        f"Worked answers of the teacher {facts.model}. The verifier accepted each before training; cost by the "
        "recipe's prices."
    )
    return Table(caption, ["", "Worked answers"], rows)
