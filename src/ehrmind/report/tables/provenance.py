"""Tables of provenance: versions, seeds, digests, and scorings of the held-out cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import JsonValue

from ehrmind.report.formatting import Cell, Rows, Table, arm_name, moment
from ehrmind.report.reading import Figures


def provenance(figures: Figures) -> Table:
    rows = [list(pair) for pair in flattened(figures.provenance.to_dict() if figures.provenance else {})]
    return Table("Versions, seeds and digests this run's figures depend on.", ["What", "Value"], rows)


def scorings(figures: Figures) -> Table:
    """How often the held-out cases were scored; once per arm, decoding and seed is right."""
    counted: Counter[tuple[str, str, int]] = Counter()
    last: dict[tuple[str, str, int], float] = {}
    for scoring in figures.results.held_out_scorings:
        key = (scoring.arm, scoring.decoding, scoring.seed)
        counted[key] += 1
        last[key] = max(last.get(key, 0.0), scoring.time)
    rows: Rows = [
        [
            arm_name(arm),
            how,
            str(seed),
            Cell(str(times), tone="warn" if times > 1 else ""),
            moment(last[arm, how, seed]),
        ]
        for (arm, how, seed), times in counted.items()
    ]
    caption = (
        "How often the held-out cases were scored: once per arm, decoding and seed is right; an interrupted scoring "
        "counts too."
    )
    return Table(caption, ["Arm", "Decoding", "Seed", "Times", "Last"], rows)


def flattened(tree: Mapping[str, JsonValue], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values, without counts by stratum, which other tables have."""
    pairs: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, list):
            value = {str(place): item for place, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            pairs += [] if key == "by_stratum" else flattened(value, f"{prefix}{key}.")
        elif value is not None:
            pairs.append((f"{prefix}{key}", str(value)))
    return pairs
