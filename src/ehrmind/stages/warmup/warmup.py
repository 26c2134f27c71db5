"""The warm-up: light supervised learning on worked answers, each proven by the verifier before it is used.

They are the data's own, the calculators', a teacher's, or what the model itself got right in the pilot and, where the recipe asks for it,
in further rounds over the questions still without a right answer (rejection sampling; STaR, arXiv 2203.14465).
Rehearsal, where the recipe asks for it, mixes in answers in the strata that are not warmed up, which would suffer otherwise: the base
model's own of the pilot, right or wrong as they were sampled, so that the model goes on there as before (pseudo-rehearsal, Robins 1995) and
mending is RLVR's part; or worked ones, which mend as well.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ehrmind import tasks
from ehrmind.config import Recipe
from ehrmind.engines import Engine
from ehrmind.prompts import gold_response
from ehrmind.runs import Run
from ehrmind.stages.pilot.diagnosis import MISSING, strata_of
from ehrmind.stages.progress import progress
from ehrmind.stages.rollout import answer_all, render_prompts
from ehrmind.stages.warmup.teacher import taught
from ehrmind.types import Case, InputError, Prompt
from ehrmind.verify.judge import judge
from ehrmind.world import current

Pair = tuple[Prompt, tuple[int, ...]]
# Why a case has no worked answer, by where the recipe takes them from.
UNWORKED = {
    "calculators": "the calculator cannot be worked on what the case says",
    "source": "no worked answer in the data",
}


def warmup(
    run: Run, recipe: Recipe, engine: Engine, train: Sequence[Case], diagnosis: dict[str, Any] | None
) -> dict[str, Any]:
    """Train `engine` in place and save it as the arm `sft`. Resumes from its last checkpoint."""
    settings, stage = recipe.warmup, "warmup"
    pairs, counts = traces(run, recipe, engine, train, diagnosis)
    per_epoch = -(-len(pairs) // settings.batch)
    total = settings.epochs * per_epoch
    learner = engine.learner(settings, total)
    checkpoint = run.latest_checkpoint(stage)
    done = int(learner.resume(checkpoint)["step"]) if checkpoint is not None else 0
    run.rollback(stage, done)
    with progress(stage, total, done) as ticker:
        for step in range(done, total):
            epoch, place = divmod(step, per_epoch)
            order = list(range(len(pairs)))
            random.Random(f"{recipe.seed}:warmup:{epoch}").shuffle(order)
            batch = [pairs[index] for index in order[place * settings.batch : (place + 1) * settings.batch]]
            metrics = learner.learn_from_responses(batch)
            run.log(stage, "sft", step, metrics)
            if (step + 1) % settings.checkpoint_every == 0:
                run.keep_checkpoint(stage, step + 1, partial(learner.save, progress={"step": step + 1}))
            ticker.advance(1, metrics)
    return {"steps": total, **counts, "saved": run.keep_model("sft", engine.save)}


def traces(
    run: Run, recipe: Recipe, engine: Engine, train: Sequence[Case], diagnosis: dict[str, Any] | None
) -> tuple[list[Pair], dict[str, Any]]:
    """(prompt, response tokens) of the cases chosen and of those rehearsed, and counts of what was left out and why."""
    settings = recipe.warmup
    strata = _strata(recipe, train, diagnosis)
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    origin: dict[str, Any] = {}
    chosen = [case for case in train if case.stratum in strata]
    worked = _worked(run, recipe, engine, chosen, prompts, diagnosis, origin)
    pairs, counts = _proven(recipe, engine, worked, prompts, settings.traces_per_stratum)
    if not pairs:
        why = origin.get("teacher", {}).get("refused") or counts["left_out"] or "no stratum or answer chosen"
        raise InputError(f"The warm-up has no trace to learn from ({why}); see warmup.strata and warmup.traces.")
    count, others = round(settings.rehearsal * len(pairs)), [case for case in train if case.stratum not in strata]
    kept: list[Pair] = []
    if count and settings.rehearse == "own":
        kept = rehearsal(run, recipe, engine, strata, prompts, count)
    elif count and others:
        each = -(-count // len({case.stratum for case in others}))
        worked = _worked(run, recipe, engine, others, prompts, diagnosis, {})
        kept = _proven(recipe, engine, worked, prompts, each)[0]
    return pairs + kept, {"traces": len(pairs), **counts, **origin, "rehearsed": len(kept)}


def _proven(
    recipe: Recipe,
    engine: Engine,
    worked: Iterable[tuple[Case, str | None]],
    prompts: Mapping[str, Prompt],
    most: int | None,
) -> tuple[list[Pair], dict[str, Any]]:
    """Worked answers that the verifier finds right, that fit, each once and up to `most` a stratum; and counts."""
    own = recipe.warmup.traces == "pilot"
    left_out: dict[str, int] = defaultdict(int)
    by_stratum: dict[str, int] = defaultdict(int)
    pairs: list[Pair] = []
    seen: set[tuple[Prompt, str | None]] = set()
    for case, text in worked:
        if by_stratum[case.stratum] == most:
            continue
        if text is None:
            left_out[UNWORKED[recipe.warmup.traces]] += 1
        elif case.id not in prompts:
            left_out["prompt too long"] += 1
        elif not judge(case, text, think=recipe.prompts.think).correct:
            left_out["the verifier refuses the worked answer"] += 1
        elif (
            len(tokens := engine.response_tokens(text, prompts[case.id], own=own)) + len(prompts[case.id].token_ids)
            > engine.context
        ):
            left_out["response too long"] += 1
        elif (prompts[case.id], text) in seen:
            left_out["the same question and answer as another"] += 1
        else:
            seen.add((prompts[case.id], text))
            by_stratum[case.stratum] += 1
            pairs.append((prompts[case.id], tokens))
    return pairs, {"by_stratum": dict(by_stratum), "left_out": dict(left_out)}


def _worked(
    run: Run,
    recipe: Recipe,
    engine: Engine,
    cases: Sequence[Case],
    prompts: Mapping[str, Prompt],
    diagnosis: dict[str, Any] | None,
    origin: dict[str, Any],
) -> Iterator[tuple[Case, str | None]]:
    """Cases with their worked answers, from where the recipe says; None where a calculator cannot work the case. What there is to tell of
    how they came about is put into `origin`."""
    if recipe.warmup.traces == "pilot":
        yield from _own(run, recipe, engine, {case.id: case for case in cases}, prompts, origin)
        return
    if recipe.warmup.traces == "teacher":
        by_id = {case.id: case for case in cases if case.id in prompts}
        pairs, origin["teacher"] = current().from_first(lambda: _taught(run, recipe, by_id, diagnosis))
        yield from ((by_id[name], text) for name, text in pairs)
        return
    origin["without_reasoning"] = bare = bare_answers(recipe, cases)
    for case in cases:
        draw = random.Random(f"{recipe.seed}:trace:{case.id}")
        if recipe.warmup.traces == "calculators":
            told = tasks.of(case).worked(case, draw)
        else:
            told = case if case.rationale or bare or not recipe.prompts.think else None
        yield case, None if told is None else gold_response(told, recipe.prompts.think)


def bare_answers(recipe: Recipe, cases: Sequence[Case]) -> int:
    """Count the cases whose answer would be taught behind an empty phrase: all, where reasoning is
    asked for and the data have no worked answer at all; else none."""
    asked = recipe.warmup.traces == "source" and recipe.prompts.think
    return len(cases) if asked and not any(case.rationale for case in cases) else 0


def warn_of_bare_answers(recipe: Recipe, train: Sequence[Case]) -> None:
    """Say before any work is done that the warm-up would teach answers without reasoning."""
    if count := bare_answers(recipe, train):
        sys.stderr.write(
            f"warning: none of the {count:,} training cases has a worked answer, so the warm-up would teach "
            "'<think>The answer is …</think>': answers without reasoning. Set warmup.traces=pilot (the model's own right answers) or "
            "teacher, name a rationale column, leave out the sft arms, or ask for answers alone with prompts.think=false.\n"
        )


def _taught(
    run: Run, recipe: Recipe, cases: Mapping[str, Case], diagnosis: dict[str, Any] | None
) -> tuple[list[Any], dict[str, Any]]:
    """As (id, text), which the first worker can tell the others."""
    pairs, facts = taught(run, recipe, list(cases.values()), diagnosis)
    return [(case.id, text) for case, text in pairs], facts


def _own(
    run: Run,
    recipe: Recipe,
    engine: Engine,
    cases: Mapping[str, Case],
    prompts: Mapping[str, Prompt],
    origin: dict[str, Any],
) -> Iterator[tuple[Case, str]]:
    """The untrained model's own right answers, each once: the pilot's, and those of further rounds over the questions still without one."""
    if run.done("pilot") is None:
        raise InputError(
            "warmup.traces=pilot learns from the pilot's right answers, and this run has no pilot; use source."
        )
    found = run.read_rollouts("pilot").select("case", "text", "correct", "finish_reason").to_dicts()
    asked = list(dict.fromkeys(row["case"] for row in found if row["case"] in cases))
    for number in range(1, recipe.warmup.rounds + 1):
        solved = {row["case"] for row in found if row["correct"]}
        open_ = [cases[name] for name in asked if name not in solved]
        if not open_:
            break
        stage, samples = f"resample-{number}", recipe.pilot.samples
        rows = answer_all(
            run, engine, recipe, stage, "base", open_, prompts, purpose=stage, members=samples, decoding=recipe.decoding
        )
        found += rows
        newly = len({row["case"] for row in rows if row["correct"]})
        origin.setdefault("rounds", []).append({"questions": len(open_), "answers": len(rows), "newly_solved": newly})
    right = [
        (row["case"], row["text"])
        for row in found
        if row["correct"] and row["finish_reason"] == "stop" and row["case"] in cases
    ]
    yield from ((cases[name], text) for name, text in dict.fromkeys(right))


def rehearsal(
    run: Run, recipe: Recipe, engine: Engine, strata: set[str], prompts: Mapping[str, Prompt], count: int
) -> list[Pair]:
    """Up to `count` finished answers of the pilot outside `strata`, drawn by seed."""
    if run.done("pilot") is None:
        raise InputError("warmup.rehearsal learns from the pilot's answers, and this run has no pilot; set it to 0.")
    rows = [
        row
        for row in run.read_rollouts("pilot").to_dicts()
        if row["stratum"] not in strata and row["finish_reason"] == "stop"
    ]
    drawn = random.Random(f"{recipe.seed}:rehearsal").sample(rows, k=min(count, len(rows)))
    return [
        (prompts[row["case"]], engine.response_tokens(row["text"], prompts[row["case"]], own=True)) for row in drawn
    ]


def _strata(recipe: Recipe, train: Sequence[Case], diagnosis: dict[str, Any] | None) -> set[str]:
    known = {case.stratum for case in train}
    chosen = recipe.warmup.strata
    if chosen == "all":
        return known
    if chosen == "missing":
        assert diagnosis is not None, "the pilot runs before a warm-up that follows it"
        missing = set(strata_of(diagnosis, MISSING))
        if not missing:
            raise InputError(
                "The pilot saw right answers in every stratum, so warmup.strata=missing has nothing to inject; use all."
            )
        return missing
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise InputError(f"warmup.strata names {', '.join(unknown)}, of which train has no case.")
    return set(chosen)
