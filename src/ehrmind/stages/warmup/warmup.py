"""The warm-up: light supervised learning on worked answers. The verifier must accept each one
first.

Worked answers are the data's own, the calculators', a teacher's, or the model's own right answers
in the pilot. For the last, the recipe can ask for more rounds over the questions still without a
right answer (rejection sampling; STaR, arXiv 2203.14465).

Rehearsal, if the recipe asks for it, mixes in answers in the strata that are not warmed up, which
would suffer otherwise. These are the base model's own pilot answers, right or wrong as they were
sampled, so that the model continues there as before (pseudo-rehearsal, Robins 1995) and RLVR
improves them later; or worked answers, which also improve them.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from pydantic import JsonValue

from ehrmind import tasks
from ehrmind.config import Recipe
from ehrmind.engines import Engine
from ehrmind.process_audit import audit
from ehrmind.prompts import gold_response
from ehrmind.runs.records import Diagnosis, ResamplingRound, TeacherFacts, TraceCounts, TraceOrigin, WarmupFacts
from ehrmind.stages.context import StageContext
from ehrmind.stages.pilot.diagnosis import MISSING
from ehrmind.stages.progress import progress
from ehrmind.stages.rollout import Request, answer_all, render_prompts, variant_of
from ehrmind.stages.warmup.teacher import taught
from ehrmind.types import Case, InputError, Prompt
from ehrmind.verify.judge import judge
from ehrmind.world import current

Pair = tuple[Prompt, tuple[int, ...]]
Worked = list[tuple[Case, str | None]]
# Why a case has no worked answer, by where the recipe takes them from.
UNWORKED = {
    "calculators": "the calculator cannot be worked on what the case says",
    "source": "no worked answer in the data",
}


def warmup(context: StageContext, engine: Engine, diagnosis: Diagnosis | None) -> WarmupFacts:
    """Trains `engine` in place and saves it as the arm `sft`. Resumes from its last checkpoint."""
    run, recipe = context.run, context.recipe
    settings, stage = recipe.warmup, "warmup"
    pairs, counts = traces(context, engine, diagnosis)
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
    return WarmupFacts(steps=total, **counts.to_dict(), saved=run.keep_model("sft", engine.save))


def traces(context: StageContext, engine: Engine, diagnosis: Diagnosis | None) -> tuple[list[Pair], TraceCounts]:
    """Returns (prompt, response tokens) of the chosen and the rehearsed cases, and counts of what
    was left out and why."""
    recipe, train = context.recipe, context.train
    settings = recipe.warmup
    strata = _strata(recipe, train, diagnosis)
    prompts = render_prompts(engine, recipe, train, recipe.decoding)
    chosen = [case for case in train if case.stratum in strata]
    worked, origin = _worked(context, engine, chosen, prompts, diagnosis)
    pairs, by_stratum, left_out = _proven(recipe, engine, worked, prompts, settings.traces_per_stratum)
    if not pairs:
        refused = {} if origin.teacher is None else origin.teacher.refused
        why = refused or left_out or "no stratum or answer chosen"
        raise InputError(f"The warm-up has no trace to learn from ({why}); see warmup.strata and warmup.traces.")
    count, others = round(settings.rehearsal * len(pairs)), [case for case in train if case.stratum not in strata]
    kept: list[Pair] = []
    if count and settings.rehearse == "own":
        kept = rehearsal(context, engine, strata, prompts, count)
    elif count and others:
        each = -(-count // len({case.stratum for case in others}))
        worked, _ = _worked(context, engine, others, prompts, diagnosis)
        kept, _, _ = _proven(recipe, engine, worked, prompts, each)
    return pairs + kept, TraceCounts(
        traces=len(pairs), by_stratum=by_stratum, left_out=left_out, **origin.to_dict(), rehearsed=len(kept)
    )


def _proven(
    recipe: Recipe,
    engine: Engine,
    worked: Worked,
    prompts: Mapping[str, Prompt],
    most: int | None,
) -> tuple[list[Pair], dict[str, int], dict[str, int]]:
    """Keeps worked answers that fit and that the verifier accepts (with `audited` the process audit
    too), each once and up to `most` per stratum. Also returns counts."""
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
        elif recipe.warmup.audited and not audit(case, text, recipe.prompts.think).sound:
            left_out["the process audit finds the thinking unsound"] += 1
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
    return pairs, dict(by_stratum), dict(left_out)


def _worked(
    context: StageContext,
    engine: Engine,
    cases: Sequence[Case],
    prompts: Mapping[str, Prompt],
    diagnosis: Diagnosis | None,
) -> tuple[Worked, TraceOrigin]:
    """Returns cases with their worked answers from the recipe's source, and facts about where they
    came from. An answer is None if the calculator cannot work the case."""
    recipe = context.recipe
    if recipe.warmup.traces == "pilot":
        return _own(context, engine, {case.id: case for case in cases}, prompts)
    if recipe.warmup.traces == "teacher":
        by_id = {case.id: case for case in cases if case.id in prompts}
        pairs, facts = current().from_first(lambda: _taught(context, by_id, diagnosis))
        return [(by_id[name], text) for name, text in pairs], TraceOrigin(teacher=TeacherFacts.model_validate(facts))
    bare = bare_answers(recipe, cases)
    worked: Worked = []
    for case in cases:
        draw = random.Random(f"{recipe.seed}:trace:{case.id}")
        if recipe.warmup.traces == "calculators":
            solved = tasks.of(case).worked(case, draw)
        else:
            solved = case if case.rationale or bare or not recipe.prompts.think else None
        worked.append((case, None if solved is None else gold_response(solved, recipe.prompts.think)))
    return worked, TraceOrigin(without_reasoning=bare)


def bare_answers(recipe: Recipe, cases: Sequence[Case]) -> int:
    """Counts the cases whose answer would be taught behind an empty phrase: all, if reasoning is
    asked for and the data have no worked answer at all; else none."""
    asked = recipe.warmup.traces == "source" and recipe.prompts.think
    return len(cases) if asked and not any(case.rationale for case in cases) else 0


def warn_of_bare_answers(recipe: Recipe, train: Sequence[Case]) -> None:
    """Warns before any work is done that the warm-up would teach answers without reasoning."""
    if count := bare_answers(recipe, train):
        sys.stderr.write(
            f"warning: none of the {count:,} training cases has a worked answer, so the warm-up would teach '<think>The"
            " answer is …</think>': answers without reasoning. Set warmup.traces=pilot (the model's own right answers)"
            " or teacher, name a rationale column, leave out the sft arms, or ask for answers alone with"
            " prompts.think=false.\n"
        )


def _taught(
    context: StageContext, cases: Mapping[str, Case], diagnosis: Diagnosis | None
) -> tuple[list[tuple[str, str]], dict[str, JsonValue]]:
    """Asks the teacher. Returns (case id, text) pairs, which the first worker can send to the
    others."""
    pairs, facts = taught(context, list(cases.values()), diagnosis)
    return [(case.id, text) for case, text in pairs], facts.to_dict()


def _own(
    context: StageContext, engine: Engine, cases: Mapping[str, Case], prompts: Mapping[str, Prompt]
) -> tuple[Worked, TraceOrigin]:
    """Collects the untrained model's own right answers, each once: those of the pilot, and of
    further rounds over the questions still without one."""
    run, recipe = context.run, context.recipe
    if run.done("pilot") is None:
        raise InputError(
            "warmup.traces=pilot learns from the pilot's right answers, and this run has no pilot; use source."
        )
    found = run.rollout_rows("pilot")
    asked = list(dict.fromkeys(row.case for row in found if row.case in cases))
    rounds = []
    for number in range(1, recipe.warmup.rounds + 1):
        solved = {row.case for row in found if row.correct}
        open_ = [cases[name] for name in asked if name not in solved]
        if not open_:
            break
        stage, samples = f"resample-{number}", recipe.pilot.samples
        request = Request(open_, prompts, stage, samples, recipe.decoding, variant_of(recipe))
        rows = answer_all(context, engine, request, stage, "base")
        found += rows
        newly = len({row.case for row in rows if row.correct})
        rounds.append(ResamplingRound(questions=len(open_), answers=len(rows), newly_solved=newly))
    right = [(row.case, row.text) for row in found if row.correct and row.finish_reason == "stop" and row.case in cases]
    origin = TraceOrigin(rounds=tuple(rounds)) if rounds else TraceOrigin()
    return [(cases[name], text) for name, text in dict.fromkeys(right)], origin


def rehearsal(
    context: StageContext, engine: Engine, strata: set[str], prompts: Mapping[str, Prompt], count: int
) -> list[Pair]:
    """Draws by seed up to `count` finished answers of the pilot outside `strata`."""
    run, seed = context.run, context.recipe.seed
    if run.done("pilot") is None:
        raise InputError("warmup.rehearsal learns from the pilot's answers, and this run has no pilot; set it to 0.")
    rows = [row for row in run.rollout_rows("pilot") if row.stratum not in strata and row.finish_reason == "stop"]
    drawn = random.Random(f"{seed}:rehearsal").sample(rows, k=min(count, len(rows)))
    return [(prompts[row.case], engine.response_tokens(row.text, prompts[row.case], own=True)) for row in drawn]


def _strata(recipe: Recipe, train: Sequence[Case], diagnosis: Diagnosis | None) -> set[str]:
    known = {case.stratum for case in train}
    chosen = recipe.warmup.strata
    if chosen == "all":
        return known
    if chosen == "missing":
        assert diagnosis is not None, "the pilot runs before a warm-up that follows it"
        missing = set(diagnosis.strata(MISSING))
        if not missing:
            raise InputError(
                "The pilot saw right answers in every stratum, so warmup.strata=missing has nothing to inject; use all."
            )
        return missing
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise InputError(f"warmup.strata names {', '.join(unknown)}, of which train has no case.")
    return set(chosen)
