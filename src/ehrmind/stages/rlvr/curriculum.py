"""The curriculum of RLVR: which training questions a step asks. It asks each once an epoch, or more
often those whose answers still differ, with families in set shares."""

from __future__ import annotations

import difflib
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal, TypedDict

from ehrmind.config import Recipe
from ehrmind.runs import Run
from ehrmind.runs.records import RolloutRow
from ehrmind.types import Case, Group, InputError

ALL = "all"  # the one pool of a recipe without a mix
LEAN = 4.0  # answers that a question's stratum counts for in the question's own rate: half a small group
Table = Literal["questions", "strata"]


class CurriculumState(TypedDict):
    """The state of a curriculum, as the checkpoint's JSON has it: how many questions each pool was
    asked and owed, and what was seen of each question and stratum as [right, answers, step]."""

    asked: dict[str, int]
    owed: dict[str, float]
    questions: dict[str, list[float]]
    strata: dict[str, list[float]]
    asked_by_stratum: dict[str, int]


class Curriculum:
    """Draws questions. A draw depends on the seed and on what was asked and judged before, in that
    order; `state` has what it needs of that."""

    def __init__(self, recipe: Recipe, questions: Sequence[Case], pilot: Iterable[RolloutRow] = ()) -> None:
        """`pilot` has rows of the pilot's rollouts, if they come from the model that RLVR starts
        from."""
        self.settings, self.seed = recipe.rlvr, recipe.seed
        if not questions:
            raise InputError(
                "No training question is left: every prompt is too long; raise prompts.max_tokens, or lower"
                " decoding.max_new_tokens where the model's context is the limit."
            )
        self.pools = pools_of(questions, self.settings.mix)
        self.state: CurriculumState = {
            "asked": dict.fromkeys(self.pools, 0),
            "owed": dict.fromkeys(self.pools, 0.0),
            "questions": {},
            "strata": {},
            "asked_by_stratum": {},
        }
        if self.by_pass_rate:
            known = {case.id: case.stratum for pool in self.pools.values() for case in pool}
            for row in pilot:
                if row.case in known:
                    self._count(row.case, known[row.case], int(row.correct), 1, step=0)

    @property
    def by_pass_rate(self) -> bool:
        return self.settings.curriculum == "pass_rate"

    @property
    def asked(self) -> int:
        """Questions drawn so far, with replacements: no two draws have the same number."""
        return sum(self.state["asked"].values())

    def shares(self, count: int) -> dict[str, int]:
        """Divides `count` questions over the pools. What a share loses to rounding is owed to it in
        the next steps."""
        owed, given = self.state["owed"], dict.fromkeys(self.pools, 0)
        total = sum(self.settings.mix.values()) or 1.0
        for pool in self.pools:
            owed[pool] += count * self.settings.mix.get(pool, 1.0) / total
        for _ in range(count):
            pool = max(self.pools, key=lambda name: owed[name])  # of equals the first named
            owed[pool] -= 1.0
            given[pool] += 1
        return given

    def pool(self, case: Case) -> str:
        return case.family if self.settings.mix else ALL

    def draw(self, wanted: Mapping[str, int], step: int, besides: Sequence[Case] = ()) -> list[Case]:
        """Draws the wanted number of questions of each pool. By pass rate, it avoids those in
        `besides` as long as there are others."""
        drawn: list[Case] = []
        for pool, count in wanted.items():
            if self.by_pass_rate:
                drawn += self._weighted(pool, count, step, {case.id for case in besides})
            else:
                drawn += self._in_turn(pool, count)
            self.state["asked"][pool] += count
        by_stratum = self.state["asked_by_stratum"]
        for case in drawn:
            by_stratum[case.stratum] = by_stratum.get(case.stratum, 0) + 1
        return drawn

    def hear(self, groups: Iterable[Group], step: int) -> None:
        """Records what the answers showed, also those of replaced groups."""
        if self.by_pass_rate:
            for group in groups:
                right = sum(verdict.correct for verdict in group.verdicts)
                self._count(group.case.id, group.case.stratum, right, len(group.verdicts), step)

    def pass_rate(self, case: Case, step: int) -> float:
        """Estimates a question's pass rate from its answers so far, with old ones counting less.
        Few answers are pulled towards the stratum's rate; with no answers it is one half."""
        right, answers = self._seen("strata", case.stratum, step)
        stratum = (right + 1.0) / (answers + 2.0)
        right, answers = self._seen("questions", case.id, step)
        return (right + LEAN * stratum) / (answers + LEAN)

    def weight(self, case: Case, step: int) -> float:
        """p(1 − p), the variance of an answer's outcome, plus a floor (learnability, arXiv
        2502.12272)."""
        rate = self.pass_rate(case, step)
        return rate * (1.0 - rate) + self.settings.pass_rate_floor

    def _in_turn(self, pool: str, count: int) -> list[Case]:
        """Takes the pool's next questions: every one once an epoch, each epoch in its own order."""
        questions, cursor = self.pools[pool], self.state["asked"][pool]
        found: list[Case] = []
        name = "order" if pool == ALL else f"order:{pool}"
        while len(found) < count:
            epoch, place = divmod(cursor + len(found), len(questions))
            order = list(range(len(questions)))
            random.Random(f"{self.seed}:{name}:{epoch}").shuffle(order)
            found += (questions[index] for index in islice(order, place, place + count - len(found)))
        return found

    def _weighted(self, pool: str, count: int, step: int, besides: set[str]) -> list[Case]:
        """Draws without replacement, with chances by weight: the largest log(u) / weight
        (Efraimidis and Spirakis 2006)."""
        uniform = random.Random(f"{self.seed}:draw:{pool}:{self.state['asked'][pool]}")
        keys = [(math.log(1.0 - uniform.random()) / self.weight(case, step), case) for case in self.pools[pool]]
        ranked = [case for _, case in sorted(keys, key=lambda pair: -pair[0])]
        fresh = [case for case in ranked if case.id not in besides] or ranked
        return [fresh[place % len(fresh)] for place in range(count)]

    def _seen(self, table: Table, name: str, step: int) -> tuple[float, float]:
        right, answers, then = self.state[table].get(name, [0.0, 0.0, step])
        faded = self.settings.pass_rate_memory ** (step - then)
        return right * faded, answers * faded

    def _count(self, question: str, stratum: str, right: int, answers: int, step: int) -> None:
        tables: tuple[tuple[Table, str], ...] = (("questions", question), ("strata", stratum))
        for table, name in tables:
            before_right, before = self._seen(table, name, step)
            self.state[table][name] = [before_right + right, before + answers, step]


def pools_of(questions: Sequence[Case], mix: Mapping[str, float]) -> dict[str, list[Case]]:
    """Sorts the questions into the mix's families, or into one pool. Raises InputError if a family
    has none."""
    if not mix:
        return {ALL: list(questions)}
    by_family: dict[str, list[Case]] = defaultdict(list)
    for case in questions:
        by_family[case.family].append(case)
    for family in mix:
        if family not in by_family:
            nearest = difflib.get_close_matches(family, by_family, n=1)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"train has {', '.join(sorted(by_family))}."
            raise InputError(f"rlvr.mix names the family '{family}', of which train has no question; {hint}")
    return {family: by_family[family] for family in mix}


def left_out_of_mix(questions: Sequence[Case], mix: Mapping[str, float]) -> dict[str, int]:
    """Counts questions of families that the mix does not name. They are never asked."""
    return dict(Counter(case.family for case in questions if mix and case.family not in mix))


def pilot_rows(run: Run) -> list[RolloutRow]:
    """The pilot's answers; none if this run has no pilot."""
    return [] if run.done("pilot") is None else run.rollout_rows("pilot")
