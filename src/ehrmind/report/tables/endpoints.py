"""Tables of what endpoints did: models scored as arms, and the warm-up's teacher."""

from __future__ import annotations

from ehrmind.report.formatting import Rows, Table, number
from ehrmind.report.reading import Figures


def endpoints(figures: Figures) -> Table | None:
    """The cost of scoring each endpoint's model; None where there is none."""
    scored = {arm: row["endpoint"] for arm, row in figures.results["arms"].items() if "endpoint" in row}
    if not scored:
        return None
    keys = ("answers", "prompt_tokens", "completion_tokens", "cost", "unanswered")
    rows: Rows = [
        [arm, str(row.get("model", "")), *(number(row.get(key)) for key in keys)] for arm, row in scored.items()
    ]
    caption = (
        f"Models behind endpoints, {figures.results['decoding']} decoding: tokens as the endpoints count them, cost by "
        "the recipe's prices, and questions that got no answer, which count as malformed."
    )
    return Table(caption, ["Arm", "Model", "Answers", "Tokens read", "Tokens written", "Cost", "Unanswered"], rows)


def teacher(figures: Figures) -> Table | None:
    """The teacher's answers, accepted and refused; None where the warm-up had no teacher."""
    facts = figures.marks.get("warmup", {}).get("teacher")
    if not facts:
        return None
    refused = sorted(facts["refused"].items(), key=lambda row: (-row[1], row[0]))
    missing = sum(count for labels in facts["short"].values() for count in labels.values())
    rows: Rows = [
        ["Asked", number(facts["asked"])],
        ["Accepted", number(facts["accepted"])],
        *([f"Refused: {reason}", number(count)] for reason, count in refused),
        ["Fewer than wanted by", number(missing)],
        ["Tokens read and written", f"{number(facts['prompt_tokens'])} and {number(facts['completion_tokens'])}"],
        ["Cost", number(facts["cost"])],
    ]
    caption = (
        f"Worked answers of the teacher {facts['model']}. The verifier accepted each before training; cost by the "
        "recipe's prices."
    )
    return Table(caption, ["", "Worked answers"], rows)
