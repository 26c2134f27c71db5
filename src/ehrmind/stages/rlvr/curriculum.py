"""Which training questions a step asks: each once an epoch, or rather those whose answers still differ; families in stated shares."""

from __future__ import annotations

import difflib
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from ehrmind.config import Recipe
from ehrmind.runs import Run
from ehrmind.types import Case, Group, InputError

ALL = "all"  # the one pool of a recipe without a mix
LEAN = 4.0  # answers that a question's stratum counts for in the question's own rate: half a small group


class Curriculum:
    """`state` is plain JSON and goes into the checkpoint: how many questions each pool was asked and owed, and what was seen of each
    question and stratum as [right, answers, step]. A draw depends on the seed and on what was asked and judged before, in their order."""

    def __init__(self, recipe: Recipe, questions: Sequence[Case], pilot: Iterable[Mapping[str, Any]] = ()) -> None:
        """`pilot` has rows of the pilot's rollouts, where they are of the model that RLVR starts from."""
        self.settings, self.seed = recipe.rlvr, recipe.seed
        if not questions:
            raise InputError(
                "No training question is left: every prompt is too long; raise prompts.max_tokens, or lower decoding.max_new_tokens where "
                "the model's context is the limit."
            )
        self.pools = pools_of(questions, self.settings.mix)
        self.state: dict[str, Any] = {"asked": dict.fromkeys(self.pools, 0), "owed": dict.fromkeys(self.pools, 0.0)}
        self.state |= {"questions": {}, "strata": {}, "asked_by_stratum": {}}
        if self.by_pass_rate:
            known = {case.id: case.stratum for pool in self.pools.values() for case in pool}
            for row in pilot:
                if row["case"] in known:
                    self._count(row["case"], known[row["case"]], int(row["correct"]), 1, step=0)

    @property
    def by_pass_rate(self) -> bool:
        return self.settings.curriculum == "pass_rate"

    @property
    def asked(self) -> int:
        """Questions drawn so far, replacements included: no two draws have the same number."""
        return sum(self.state["asked"].values())

    def shares(self, count: int) -> dict[str, int]:
        """How many of `count` questions each pool gives. What a share loses to rounding is owed to it in the next steps."""
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
        """That many questions of each pool; by pass rate none that `besides` holds, as long as there are others."""
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
        """What the answers showed, those of replaced groups too."""
        if self.by_pass_rate:
            for group in groups:
                right = sum(verdict.correct for verdict in group.verdicts)
                self._count(group.case.id, group.case.stratum, right, len(group.verdicts), step)

    def pass_rate(self, case: Case, step: int) -> float:
        """Of the question's answers so far, old ones less, leaning on its stratum's where they are few; one half where nothing is known."""
        right, answers = self._seen("strata", case.stratum, step)
        stratum = (right + 1.0) / (answers + 2.0)
        right, answers = self._seen("questions", case.id, step)
        return (right + LEAN * stratum) / (answers + LEAN)

    def weight(self, case: Case, step: int) -> float:
        """p(1 − p), the variance of an answer's outcome, and a floor (learnability, arXiv 2502.12272)."""
        rate = self.pass_rate(case, step)
        return rate * (1.0 - rate) + self.settings.pass_rate_floor

    def _in_turn(self, pool: str, count: int) -> list[Case]:
        """The pool's next questions: every one once an epoch, each epoch in its own order."""
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
        """Without replacement, the chance by weight: the largest log(u) / weight (Efraimidis and Spirakis 2006)."""
        uniform = random.Random(f"{self.seed}:draw:{pool}:{self.state['asked'][pool]}")
        keys = [(math.log(1.0 - uniform.random()) / self.weight(case, step), case) for case in self.pools[pool]]
        ranked = [case for _, case in sorted(keys, key=lambda pair: -pair[0])]
        fresh = [case for case in ranked if case.id not in besides] or ranked
        return [fresh[place % len(fresh)] for place in range(count)]

    def _seen(self, table: str, name: str, step: int) -> tuple[float, float]:
        right, answers, then = self.state[table].get(name, (0.0, 0.0, step))
        faded = self.settings.pass_rate_memory ** (step - then)
        return right * faded, answers * faded

    def _count(self, question: str, stratum: str, right: int, answers: int, step: int) -> None:
        for table, name in (("questions", question), ("strata", stratum)):
            before_right, before = self._seen(table, name, step)
            self.state[table][name] = [before_right + right, before + answers, step]


def pools_of(questions: Sequence[Case], mix: Mapping[str, float]) -> dict[str, list[Case]]:
    """The questions by the mix's families, or all in one. Raises InputError where a family has none."""
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
    """Questions of families that the mix does not name, which are never asked."""
    return dict(Counter(case.family for case in questions if mix and case.family not in mix))


def pilot_rows(run: Run) -> list[Mapping[str, Any]]:
    """Case and outcome of every answer of the pilot; none where this run has no pilot."""
    if run.done("pilot") is None:
        return []
    rows: list[Mapping[str, Any]] = run.read_rollouts("pilot").select("stage", "case", "correct").to_dicts()
    return [row for row in rows if row["stage"] == "pilot"]
