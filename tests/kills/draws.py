"""Draws what is struck when, and tells whether the command came through. Given once more, it ends
well or says in a sentence what to do. It leaves what an undisturbed command leaves, bit for bit, no
other file, and no record text where others can read it.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.commands import CANARY, COMMANDS, Command
from tests.kills.layer import KINDS, NEEDS_ROOM
from tests.kills.starter import Ended, Starter
from tests.kills.state import differences, leaks, state_of

ACTS = {
    "SIGKILL": 8,
    "power": 5,
    "clock": 2,
    "SIGTERM": 2,
    "SIGINT": 2,
    "ENOSPC": 2,
    "disk": 2,
}  # how often each is drawn
NO_ROOM = (
    "ENOSPC",
    "disk",
)  # simulated by the layer in Python's calls; a file system that is too small, which libraries meet too
ORDERLY = {
    "SIGTERM": 143,
    "SIGINT": 130,
    "ENOSPC": 2,
    "disk": 2,
}  # the command itself puts things away, and ends with this code
KINDS_OF = {"SIGKILL": KINDS, "power": KINDS, "SIGTERM": KINDS[:-1], "SIGINT": KINDS[:-1], "ENOSPC": NEEDS_ROOM}
HIDDEN = re.compile(r"(?:^|/)\.(?!ehrmind-(?:lock|writer)$)")  # a lock that nobody holds any more is in nobody's way
TRIES = 3
PAGE = 4096


@dataclass(frozen=True)
class Draw:
    """One strike: `act` at the `when`-th event of `kind`, or at a share of the time or of the bytes
    that it writes."""

    command: Command
    act: str
    kind: str = ""
    when: int = 0
    share: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        shares = {"clock": f"{self.share:.0%} of its time", "disk": f"{self.share:.0%} of what it writes"}
        place = shares.get(self.act, f"{self.kind} {self.when}")
        return f"{self.command.name}: {self.act} at {place}, seed {self.seed}"


@dataclass
class Tally:
    """Strikes of one command."""

    struck: int = 0
    resumed: int = 0
    refused: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass
class Undisturbed:
    """State that a command begins with and ends with when nothing happens to it."""

    given: dict[str, str]
    state: dict[str, str]
    ended: Ended
    bytes: int


@dataclass
class Bench:
    """A folder to work in: the inputs of a command, and the copy in which it works, always at the
    same place."""

    folder: Path
    starter: Starter

    def __post_init__(self) -> None:
        self.inputs, self.work = self.folder / "inputs", self.folder / "work"

    def undisturbed(self, command: Command) -> Undisturbed:
        shutil.rmtree(self.inputs, ignore_errors=True)
        self.inputs.mkdir()
        (self.inputs / "tmp").mkdir()
        command.inputs(self.inputs, self.starter)
        given = self.fresh()
        ended = self.starter.run(command.arguments.split(), self.work)
        if ended.code:
            raise RuntimeError(f"{command.name} undisturbed: {ended.code}, {ended.err}")
        return Undisturbed(given, state_of(self.work), ended, _room(self.work) - _room(self.inputs))

    @property
    def can_mount(self) -> bool:
        """Whether a file system of a size of ours can be had; else the layer alone tells a command
        that its disk is full."""
        self.work.mkdir(exist_ok=True)
        can = mounted(self.work, 1 << 20)
        return can and subprocess.run(["umount", self.work], check=False).returncode == 0

    def fresh(self, room: int | None = None) -> dict[str, str]:
        if self.work.is_mount():
            subprocess.run(["umount", self.work], check=True)
        for folder in (self.work, self._after):
            shutil.rmtree(folder, ignore_errors=True)
        self.work.mkdir()
        if room is not None:
            mounted(self.work, room + _room(self.inputs))
        shutil.copytree(self.inputs, self.work, dirs_exist_ok=True)
        return state_of(self.work)

    @property
    def _after(self) -> Path:
        return self.work.with_name("work.after")

    def strike(self, draw: Draw, whole: Undisturbed) -> Ended:
        given = draw.command.arguments.split()
        if draw.act == "disk":
            self.fresh(max(0, int(draw.share * whole.bytes)))  # a purge gives room back
            ended = self.starter.run(given, self.work)
            subprocess.run(["mount", "-o", "remount,size=1g", self.work], check=True)
            return ended
        self.fresh()
        if draw.act == "clock":
            return self.starter.run(given, self.work, after=draw.share * whole.ended.seconds)
        strike = {"act": draw.act, "kind": draw.kind, "when": draw.when, "seed": draw.seed}
        ended = self.starter.run(given, self.work, strike)
        if self._after.is_dir():
            shutil.rmtree(self.work)
            self._after.rename(self.work)
        return ended

    def faults(self, draw: Draw, whole: Undisturbed) -> tuple[str, list[str]]:
        """(resumed, refused or not struck; what went wrong)."""
        ended = self.strike(draw, whole)
        wrong = [*self._told(ended), *self._leaks(draw, whole)]
        if draw.act in ORDERLY and ended.code != 0:
            wrong += self._put_away(draw, ended)
        how = "not struck" if draw.act in ("clock", "disk") and ended.code == 0 else "resumed"
        for _ in range(TRIES):
            if not differences(whole.state, state_of(self.work)) and (draw.kind == "exit" or how == "not struck"):
                break  # it had said that it was done, and it was
            if draw.act == "power" and draw.kind == "exit" and not draw.command.resumes:
                wrong.append("it had ended well, and a loss of power took what it had written")
            ended = self.starter.run(draw.command.again, self.work)
            wrong += self._told(ended)
            if ended.code == 0:
                break
            how = "refused"
            if ended.code != 2 or not self._heed(ended, whole):
                wrong.append(f"given again: {ended.code}, {_last(ended)}")
                break
        wrong += differences(whole.state, state_of(self.work)) + self._leaks(draw, whole)
        if (self.work / "run").is_dir():
            verified = self.starter.run(["runs", "verify", "run"], self.work)
            wrong += [f"runs verify: {_last(verified)}"] if verified.code else []
        return how, wrong

    def _leaks(self, draw: Draw, whole: Undisturbed) -> list[str]:
        return leaks(self.work, whole.given, CANARY) if draw.command.records else []

    def _told(self, ended: Ended) -> list[str]:
        said = ended.out + ended.err
        faults = ["prints record text"] if CANARY in said else []
        return faults + ([f"a fault: {_last(ended)}"] if "fault of ehrmind" in said or "Traceback" in said else [])

    def _put_away(self, draw: Draw, ended: Ended) -> list[str]:
        """After an orderly end: the code and the sentence are right, and nothing half-written is
        left. Two exceptions, which the next command puts away: what --resume begins with, and a
        signal that comes while things are being put away."""
        wrong = [] if ended.code == ORDERLY[draw.act] else [f"{draw.act}: ended with {ended.code}, {_last(ended)}"]
        if draw.act in NO_ROOM and not re.search("disk is full|No space left|GiB of disk space", ended.err):
            wrong.append(f"the disk is full, and it says: {_last(ended)}")
        if draw.command.resumes or draw.kind == "remove":
            return wrong
        return wrong + [f"half-written: {name}" for name in state_of(self.work) if HIDDEN.search(name)]

    def _heed(self, ended: Ended, whole: Undisturbed) -> bool:
        """Does what a refusal says; whether it says anything that can be done. That a folder is
        full is an answer where it is whole."""
        if not differences(whole.state, state_of(self.work)):
            return re.search("there already|is not empty|choose another|name a new", ended.err) is not None
        return False


def _last(ended: Ended) -> str:
    return (ended.err.strip().splitlines() or [""])[-1][:300]


def mounted(place: Path, size: int) -> bool:
    asked = ["mount", "-t", "tmpfs", "-o", f"size={max(1, size // PAGE) * PAGE}", "tmpfs", place]
    return bool(shutil.which("mount")) and subprocess.run(asked, check=False, capture_output=True).returncode == 0


def _room(folder: Path) -> int:
    """Bytes that the files of a folder take, in whole pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def drawn(command: Command, whole: Undisturbed, draw: random.Random, acts: Mapping[str, int]) -> Iterator[Draw]:
    """Moments of one command, without end: the kind of event is drawn first, so that rare ones are
    met as often."""
    kinds = [kind for kind in KINDS if whole.ended.counts.get(kind)]
    while True:
        (act,) = draw.choices(list(acts), list(acts.values()))
        if act in ("clock", "disk"):
            yield Draw(command, act, share=draw.random())
            continue
        kind = draw.choice([kind for kind in kinds if kind in KINDS_OF[act]])
        yield Draw(command, act, kind, draw.randint(1, whole.ended.counts[kind]), seed=draw.randrange(1 << 30))


def shares(commands: Sequence[Command], n: int, draw: random.Random) -> dict[Command, int]:
    """How many strikes each command gets: those with --resume twice as many, which ones get the
    last by chance."""
    counted = dict.fromkeys(commands, 0)
    while n > sum(counted.values()):
        order = [command for command in commands for _ in range(2 if command.resumes else 1)]
        draw.shuffle(order)
        for command in order[: n - sum(counted.values())]:
            counted[command] += 1
    return counted


def run_draws(folder: Path, n: int, seed: int, only: str = "", *, torch: bool = True) -> dict[str, Tally]:
    """Strikes `n` times; commands whose name holds `only`, those that open a model left out unless
    `torch`."""
    draw = random.Random(seed)
    chosen = [command for command in COMMANDS if only in command.name and (torch or not command.torch)]
    (folder / "said").mkdir()
    bench = Bench(folder, Starter(folder / "said"))
    tallies: dict[str, Tally] = {}
    acts = ACTS if bench.can_mount else {act: often for act, often in ACTS.items() if act != "disk"}
    try:
        for command, many in shares(chosen, n, draw).items():
            if not many:
                continue
            whole = bench.undisturbed(command)
            tally = tallies[command.name] = Tally()
            for one in drawn(command, whole, draw, acts):
                if tally.struck == many:
                    break
                how, wrong = bench.faults(one, whole)
                tally.struck += how != "not struck" or bool(wrong)
                tally.resumed += how == "resumed" and not wrong
                tally.refused += how == "refused" and not wrong
                tally.failed += [f"{one}: {'; '.join(wrong)}"] if wrong else []
    finally:
        bench.starter.close()
        if bench.work.is_mount():
            subprocess.run(["umount", bench.work], check=False)
    return tallies
