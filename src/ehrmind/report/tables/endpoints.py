"""Figures of a run -> the tables of what endpoints did: models scored beside the arms, and the warm-up's teacher."""

from __future__ import annotations

from ehrmind.report.formatting import Table, number
from ehrmind.report.reading import Figures


def endpoints(figures: Figures) -> Table | None:
    """What scoring each endpoint's model took; None where there is none."""
    scored = {arm: row["endpoint"] for arm, row in figures.results["arms"].items() if "endpoint" in row}
    if not scored:
        return None
    keys = ("answers", "prompt_tokens", "completion_tokens", "cost", "unanswered")
    rows = [[arm, str(row.get("model", "")), *(number(row.get(key)) for key in keys)] for arm, row in scored.items()]
    caption = (
        f"Models behind endpoints, {figures.results['decoding']} decoding: tokens as the endpoints count them, cost by the recipe's "
        "prices, and questions that got no answer, which count as malformed."
    )
    return Table(caption, ["Arm", "Model", "Answers", "Tokens read", "Tokens written", "Cost", "Unanswered"], rows)


def teacher(figures: Figures) -> Table | None:
    """What the teacher was asked and what became of it; None where the warm-up had none."""
    facts = figures.marks.get("warmup", {}).get("teacher")
    if not facts:
        return None
    spent = f"{number(facts['prompt_tokens'])} and {number(facts['completion_tokens'])}"
    rows = [["Asked", number(facts["asked"])], ["Accepted", number(facts["accepted"])]]
    rows += [
        [f"Refused: {reason}", number(count)]
        for reason, count in sorted(facts["refused"].items(), key=lambda row: (-row[1], row[0]))
    ]
    missing = sum(count for labels in facts["short"].values() for count in labels.values())
    rows += [
        ["Fewer than wanted by", number(missing)],
        ["Tokens read and written", spent],
        ["Cost", number(facts["cost"])],
    ]
    caption = f"Worked answers of the teacher {facts['model']}, each proven before it was learnt from; cost by the recipe's prices."
    return Table(caption, ["", "Worked answers"], rows)
