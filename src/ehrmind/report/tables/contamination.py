"""Contamination: text that held-out records share with what was learned from."""

from __future__ import annotations

from collections.abc import Mapping

from ehrmind.report.formatting import Cell, Rows, Table, number, percent
from ehrmind.report.reading import Figures
from ehrmind.runs.records import Contamination


def contamination(figures: Figures) -> Table | None:
    found = figures.results.contamination
    if not found:
        return None
    rows: Rows = [
        [
            place.replace("held_out", "held-out"),
            source,
            number(row.cases),
            number(shared.any),
            Cell(number(shared.half), tone="warn" if shared.half else ""),
            percent(shared.mean_share),
            number(sum(not_comparable(row).values())),
        ]
        for place, row in found.items()
        for source, shared in row.against.items()
    ]
    words = next(iter(found.values())).words
    caption = (
        f"Records that share {words} words in a row with what was learned from; the check by patient is separate. "
        "Text in the records of many patients is template text and does not count. Records that are shorter, or all "
        "template, cannot be compared. Nothing was dropped."
    )
    titles = ["Cases", "with", "Number", "share any", "share half or more", "mean share", "Not comparable"]
    return Table(caption, titles, rows)


def not_comparable(found: Contamination) -> dict[str, int]:
    """{why records cannot be compared: how many}, without reasons that no record has."""
    short = f"are shorter than {found.words} words"
    counts = {short: found.too_short, "hold nothing but text of many patients": found.template_only}
    return {reason: count for reason, count in counts.items() if count}


def contamination_sentence(by_set: Mapping[str, Contamination]) -> list[str]:
    """The finding about the held-out records; empty where nothing was compared."""
    found = by_set.get("held_out")
    if not found:
        return []
    most = max(found.against.values(), key=lambda shared: (shared.half, shared.any))
    run, left_out = f"{found.words} words in a row", not_comparable(found)
    compared = found.cases - sum(left_out.values())
    why = " and ".join(f"{number(count)} {reason}" for reason, count in left_out.items())
    if not compared:
        return [f"No held-out record can be compared with what was learned from: {why}."]
    records = f"{number(compared)} held-out records{' that can be compared' if left_out else ''}"
    others = f" The others cannot be compared: {why}." if left_out else ""
    if not most.any:
        return [f"None of {records} shares {run} with what was learned from.{others}"]
    half = f"{number(most.half) if most.half else 'none'} of them half of their text or more"
    return [f"{number(most.any)} of {records} share {run} with what was learned from, {half}.{others}"]
