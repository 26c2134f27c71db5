"""Counts what became of every row of OMOP tables, for a person or a program to read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ehrmind.data.omop.codes import WAYS


@dataclass(slots=True)
class TableCounts:
    """Counts of one table. `rows` is `events` plus `left_out`.

    PERSON is the exception: a person becomes several events.
    """

    rows: int = 0
    events: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    files: int = 1


@dataclass(slots=True)
class OmopCounts:
    """Counts of all tables. `codes` counts events by how their code was found.

    `unread` names tables and files that were not read.
    """

    subjects: int = 0
    events: int = 0
    shards: int = 0
    tables: dict[str, TableCounts] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(WAYS, 0)))
    notes: Counter[str] = field(default_factory=Counter)
    unread: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        tables = {
            name: {
                "rows": of.rows,
                "events": of.events,
                "left_out": dict(+of.left_out),
                **({"files": of.files} if of.files > 1 else {}),
            }
            for name, of in self.tables.items()
        }
        plain = {"subjects": self.subjects, "events": self.events, "shards": self.shards, "tables": tables}
        return {**plain, "codes": dict(+self.codes), "notes": dict(+self.notes), "unread": self.unread}

    def lines(self) -> list[str]:
        found = [f"{self.subjects:,} subjects with {self.events:,} events in {self.shards:,} shard(s)"]
        for name, of in self.tables.items():
            left_out = "".join(f"; left out {n:,}: {reason}" for reason, n in (+of.left_out).items())
            files = f" of {of.files:,} files" if of.files > 1 else ""
            found.append(f"{name}: {of.rows:,} rows{files}, {of.events:,} events{left_out}")
        found += [f"codes {way}: {n:,} events" for way, n in (+self.codes).items()]
        found += [f"note {n:,}: {what}" for what, n in (+self.notes).items()]
        return [*found, *([f"not looked at: {', '.join(self.unread)}"] if self.unread else [])]
