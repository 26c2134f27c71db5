"""The cases of a run and the texts of their records, read when the first one is shown."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

from ehrmind import tasks
from ehrmind.config import History, parse_section
from ehrmind.data import load_cases
from ehrmind.documents import read_yaml
from ehrmind.prompts.records import with_histories
from ehrmind.runs import Run
from ehrmind.runs.folder import CASES
from ehrmind.types import Case, InputError
from ehrmind.view.rollout_index import Stamp, stamps_of


class Asked(NamedTuple):
    """A question with its record, or with `said`, the reason why it cannot be shown."""

    case: Case | None
    record: str = ""
    question: str = ""
    expected: str = ""
    said: str = ""


class Cases:
    """The cases of one run, read again when their files change."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lock = Lock()
        self._stamps: dict[str, Stamp] = {}
        self._cases: dict[str, Case] = {}
        self._records: dict[str, str] = {}
        self._asked = lru_cache(64)(self._read)

    def asked(self, name: str) -> Asked:
        """The question of the case with this id."""
        with self._lock:
            self._refresh()
            return self._asked(name)

    def records(self) -> Mapping[str, str]:
        """Record and question of every case; coded histories are left out, as they are long."""
        with self._lock:
            self._refresh()
            if not self._records:
                written = {name: case for name, case in self._cases.items() if case.family != "ehr"}
                self._records = {
                    name: f"{tasks.of(case).record(case)}\n{tasks.of(case).question(case)}"
                    for name, case in written.items()
                }
            return self._records

    def _refresh(self) -> None:
        """Reads the cases again if files changed; splits win over transfer sets."""
        there = stamps_of(self.run.cases("train").parent)
        if there == self._stamps:
            return
        self._cases, self._records = {}, {}
        self._asked.cache_clear()
        for name in sorted(there, key=lambda name: (not name.startswith("transfer-"), name)):
            try:
                if self.run.manifest.file.is_file():
                    self.run.manifest.prove(f"{CASES}/{name}")
                self._cases |= {case.id: case for case in load_cases(self.run.cases(name.removesuffix(".parquet")))}
            except InputError:
                continue  # gone meanwhile, or broken: its cases are reported as missing when shown
        self._stamps = there

    def _read(self, name: str) -> Asked:
        case = self._cases.get(name)
        if case is None:
            return Asked(None, said="The record of this question is not in the run folder (any more).")
        try:
            (case,), _ = with_histories([case], _history(self.run))
        except InputError as error:
            return Asked(None, said=f"The record cannot be shown: {error}")
        task = tasks.of(case)
        return Asked(case, task.record(case), task.question(case), task.gold_answer(case))


def _history(run: Run) -> History:
    """The settings by which coded histories were written into the prompts."""
    stored = run.path / "recipe.yaml"
    recipe = read_yaml(stored)
    prompts = recipe.get("prompts") if isinstance(recipe, dict) else None
    return parse_section(History, prompts.get("history") or {} if isinstance(prompts, dict) else {}, str(stored))
