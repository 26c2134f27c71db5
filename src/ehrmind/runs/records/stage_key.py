"""The names of stages, by which their marks, rollouts and metrics are stored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

HELD_OUT = "held_out"
TRANSFER = "transfer"
BY_ARM = ("samples", "repeated", "votes")  # scorings whose decoding is their kind
SCORINGS = ("evaluate", TRANSFER, *BY_ARM)
_PLAIN = re.compile(r"(?P<kind>evaluate)-(?P<arm>[a-z0-9_]+)-(?P<decoding>[a-z]+)")
_TRANSFER = re.compile(r"(?P<where>transfer-[a-z0-9_]+)-(?P<arm>[a-z0-9_]+)-(?P<decoding>[a-z]+)")
_BY_ARM = re.compile(r"(?P<kind>samples|repeated|votes|rlvr)-(?P<arm>[a-z0-9_]+)")


@dataclass(frozen=True, slots=True)
class StageKey:
    """A stage's name in its parts; `str` writes it, `parse` reads it.

    The scoring of an arm has the kind evaluate, samples, repeated, votes or transfer, a decoding,
    and `where` its cases are: "held_out" or "transfer-NAME", as the splits are called. RLVR has its
    arm. Any other stage is its kind alone: data, pilot, intervention-formula."""

    kind: str
    arm: str = ""
    decoding: str = ""
    where: str = HELD_OUT

    @classmethod
    def scoring(cls, arm: str, decoding: str, where: str = HELD_OUT) -> Self:
        """Returns the key of scoring one arm. `samples`, `repeated` and `votes` are decodings
        here."""
        if where != HELD_OUT:
            return cls(TRANSFER, arm, decoding, where)
        return cls(decoding if decoding in BY_ARM else "evaluate", arm, decoding)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Reads a stage's name."""
        if match := _TRANSFER.fullmatch(name):
            return cls(TRANSFER, match["arm"], match["decoding"], match["where"])
        if match := _PLAIN.fullmatch(name):
            return cls("evaluate", match["arm"], match["decoding"])
        if match := _BY_ARM.fullmatch(name):
            return cls(match["kind"], match["arm"], "" if match["kind"] == "rlvr" else match["kind"])
        return cls(name)

    def __str__(self) -> str:
        if self.kind == TRANSFER:
            return f"{self.where}-{self.arm}-{self.decoding}"
        if self.kind == "evaluate":
            return f"evaluate-{self.arm}-{self.decoding}"
        return f"{self.kind}-{self.arm}" if self.arm else self.kind

    @property
    def is_scoring(self) -> bool:
        return self.kind in SCORINGS

    @property
    def place(self) -> str:
        """The transfer set's name, or "held_out"."""
        return self.where.removeprefix(f"{TRANSFER}-")
