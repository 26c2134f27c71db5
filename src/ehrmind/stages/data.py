"""Data of a recipe: checked splits, made once. A resumed run reads them from its own folder."""

from __future__ import annotations

import dataclasses
import json
import random

from pydantic import JsonValue

from ehrmind.config import DataSource, Recipe
from ehrmind.data.cases import refuse_unanswered
from ehrmind.data.splits import check_leaks, split_by_group, splits_digest, without_leaks
from ehrmind.prompts.records import with_histories
from ehrmind.runs import Run
from ehrmind.runs.records import DataFacts, DataMark, ProvenCases
from ehrmind.types import Case, InputError, Split
from ehrmind.verify.drawn import refuse_unproven
from ehrmind.world import current

SourceFacts = dict[str, JsonValue]  # a reader's own counts (docs/your-data.md)


def prepare_data(run: Run, recipe: Recipe) -> dict[str, list[Case]]:
    """Returns the cases by split, checked for leaks at every start. Of several workers only the
    first reads the files.

    Raises InputError if a split is empty or a note is in two splits.
    """
    world = current()
    if world.size == 1:
        return _prepared(run, recipe)
    received = world.from_first(
        lambda: {name: [case.to_json() for case in cases] for name, cases in _prepared(run, recipe).items()}
    )
    return {name: [Case.from_json(case) for case in cases] for name, cases in received.items()}


def _prepared(run: Run, recipe: Recipe) -> dict[str, list[Case]]:
    mark = run.mark("data", DataMark)
    if mark is not None:
        splits = run.load_cases()
        _check_leaks(splits)
        if _digest(splits) != mark.digest:
            raise InputError(
                f"The cases under {run.protected.name}/cases are not those this run was started with; start a new run."
            )
        _prove(splits, recipe)
        return {name: with_histories(cases, recipe.prompts.history)[0] for name, cases in splits.items()}
    with run.stage("data") as facts:
        splits, sources, dropped = read_splits(recipe)
        _check_leaks(splits)
        proven = _prove(splits, recipe)
        run.save_cases(splits)  # references stay references
        histories = {}
        for name, cases in splits.items():
            splits[name], written = with_histories(cases, recipe.prompts.history)
            if written:
                histories[name] = written
        found = DataFacts(
            sources=json.loads(json.dumps(sources)),  # tuples become lists, as in the file
            proven=ProvenCases.model_validate(proven),
            **({"histories": histories} if histories else {}),
            digest=_digest(splits),
            cases={name: len(cases) for name, cases in splits.items()},
            train_notes_also_held_out_dropped=dropped,
        )
        facts |= found.to_dict()
    return splits


def read_splits(recipe: Recipe) -> tuple[dict[str, list[Case]], dict[str, SourceFacts], int]:
    """Returns (cases by split, facts of each source, number of train cases dropped because held_out
    has their note)."""
    data = recipe.data
    sources: dict[str, SourceFacts] = {}
    train, sources["train"] = read_source(recipe, data.train, "train")
    held_out, sources["held_out"] = read_source(recipe, data.held_out, "held_out")
    dropped = 0
    if data.exclude_leaks:
        train, dropped = without_leaks(train, held_out)
    if data.tuning.share_of_train is not None:
        train, part = split_by_group(train, data.tuning.share_of_train, recipe.seed)
        tuning = [dataclasses.replace(case, split="tuning") for case in part]
        tuning, counts = _limited(tuning, data.tuning.limit, recipe.seed)
        sources["tuning"] = {"share_of_train": data.tuning.share_of_train, **counts}
    else:
        tuning, sources["tuning"] = read_source(recipe, data.tuning, "tuning")
    splits = {"train": train, "tuning": tuning, "held_out": held_out}
    for name, source in recipe.places.items():
        splits[f"transfer-{name}"], sources[f"transfer-{name}"] = read_source(recipe, source, "held_out")
    for name, cases in splits.items():
        if not cases:
            general = name == "transfer-general" and recipe.evaluate.general is not None
            key = "evaluate.general.source" if general else f"data.{name.replace('-', '.')}"
            raise InputError(f"{key} gives no case; check its files and limit.")
        refuse_unanswered(cases, f"data.{name.replace('-', '.')}")
    return splits, sources, dropped


def _prove(splits: dict[str, list[Case]], recipe: Recipe) -> dict[str, int]:
    """Tries the verifier on a sample of all cases, before anything is learned or scored by it."""
    cases = [case for of in splits.values() for case in of]
    return refuse_unproven(cases, recipe.seed, think=recipe.prompts.think)


def _check_leaks(splits: dict[str, list[Case]]) -> None:
    """Refuses held-out and transfer cases that training or selection would also see."""
    for name in splits.keys() - {"train", "tuning"}:
        check_leaks(train=splits["train"], tuning=splits["tuning"], held_out=splits[name])


def read_source(recipe: Recipe, source: DataSource, split: Split) -> tuple[list[Case], SourceFacts]:
    """Returns one source's cases, relabelled to `split`, and its facts."""
    from ehrmind.data import load_cases

    facts: SourceFacts = {}
    if source.synthetic is not None:
        from ehrmind.data.synthetic import synthetic_cases
        from ehrmind.data.synthetic.general import synthetic_general
        from ehrmind.data.synthetic.trials import synthetic_trials

        asked = source.synthetic
        if asked.family == "trials":
            cases = synthetic_trials(asked.n, asked.seed, split, asked.tasks, difficulty=asked.difficulty)
        elif asked.family == "general":
            cases = synthetic_general(asked.n, asked.seed, split, asked.tasks)
        else:
            cases = synthetic_cases(
                asked.n,
                asked.seed,
                split,
                asked.tasks,
                difficulty=asked.difficulty,
                manners=asked.manners,
                styles=asked.styles,
            )
        facts = {"synthetic": len(cases), "seed": asked.seed}
    elif source.medcalc:
        from ehrmind.data.medcalc import read_medcalc

        cases, read = read_medcalc(source.medcalc, split=split, online=recipe.data.online, revision=source.revision)
        facts = read.to_dict()
    elif source.trials is not None:
        from ehrmind.data.trec import read_trials

        cases, read = read_trials(source.trials)
        cases, facts = _of_split(cases, split), read.to_dict()
    elif source.table is not None:
        from ehrmind.data.table import read_table_cases

        cases, read = read_table_cases(source.table)
        cases, facts = _of_split(cases, split), read.to_dict()
    elif source.ehr is not None:
        from ehrmind.data.ehr import read_ehr

        cases, read = read_ehr(source.ehr)
        cases, facts = _of_split(cases, split), read.to_dict()
    else:
        cases = _of_split([case for path in source.cases for case in load_cases(path)], split)
        facts = {"files": [path.name for path in source.cases]}
    if source.recompute:
        from ehrmind.data.relabel import recomputed

        cases, counts = recomputed(cases)
        facts["recomputed"] = {**counts}
    cases, taken = _limited(cases, source.limit, recipe.seed)
    return cases, {**facts, **taken}


def _of_split(cases: list[Case], split: Split) -> list[Case]:
    """Takes the cases of `split` if there are several splits. Cases of one split may serve as
    another, but held-out ones never for training or selection."""
    splits = {case.split for case in cases}
    if len(splits) > 1:
        return [case for case in cases if case.split == split]
    if splits == {"held_out"} and split != "held_out":
        raise InputError(
            f"data.{split} names cases that are marked held_out; they are for evaluation only, so name others."
        )
    return [dataclasses.replace(case, split=split) for case in cases]


def _limited(cases: list[Case], limit: int | None, seed: int) -> tuple[list[Case], dict[str, int]]:
    """Draws at most `limit` of the cases by seed, in their order. Also returns how many there are
    and were left out."""
    if limit is None or limit >= len(cases):
        return cases, {"cases": len(cases)}
    chosen = set(random.Random(f"{seed}:limit").sample(range(len(cases)), limit))
    return [case for index, case in enumerate(cases) if index in chosen], {
        "cases": limit,
        "left_out_by_limit": len(cases) - limit,
    }


def _digest(splits: dict[str, list[Case]]) -> str:
    return splits_digest([case for cases in splits.values() for case in cases])
