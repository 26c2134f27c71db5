"""A synthetic study whose generator knows where a model fails, and a base model built to fail
there.

The study has two dozen scores of three findings each, with points of two digits. The base reads
text in which every score is worked in its own way: rightly; with wrong points (knowledge); with
every finding taken as absent (extraction); or with a total that is off by seven (arithmetic). In a
stated share of cases the text is right all the same.

Knowledge may be missing altogether: no text has the right points of these scores, and no other
score reveals them. Looking up and adding are skills that the other scores need too. So they are
misapplied, in part of the cases nearly always, but never missing. A mistake is always the same one,
so that nothing right is near it.

With a hint about what it fails at, or with the tool, the base reads the right text. A formula given
as a hint is another score's, so that the right points are never read. The cases say nothing of
this: stratum, prompt and truth look the same for every kind.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FINDINGS = (
    "fever",
    "cough",
    "rash",
    "chills",
    "nausea",
    "cramps",
    "tremor",
    "edema",
    "fatigue",
    "syncope",
    "pallor",
    "thirst",
)
CAUSES = ("knowledge", "extraction", "arithmetic")
SHARES = (0.04, 0.15, 0.3, 0.45, 0.65)  # of cases that are worked rightly
POINTS = (11, 14, 23, 27, 36, 38, 45, 49, 52, 57, 68, 69)
MISSING, SOLID = 5, 4  # scores
PLAIN, ENTITIES, FORMULA, BOTH, TOOL = "plain", "entities", "formula", "both", "tool"
LISTINGS = 16  # a step
DEMO_BASE = Path(__file__).parents[1] / "recipes" / "demo_base"
READERS = 4  # whose answers to a prompt are read together
FORMS = {PLAIN: 8, ENTITIES: 1, FORMULA: 1, BOTH: 1, TOOL: 2}  # how often each form of prompt is read
MENDS = {
    ENTITIES: {"extraction"},
    FORMULA: {"knowledge"},
    BOTH: {"extraction", "knowledge"},
    TOOL: {"arithmetic"},
    PLAIN: set(),
}


class Score(NamedTuple):
    """`wrong` are the points that a reader without knowledge uses. `right` is the share of cases
    worked rightly; `cause` is empty for a score that is always worked rightly."""

    name: str
    findings: tuple[str, ...]
    points: tuple[int, ...]
    wrong: tuple[int, ...]
    cause: str
    right: float

    @property
    def stratum(self) -> str:
        return f"table/study/{self.name}"


def scores_of(seed: int) -> list[Score]:
    """24: solid ones, each cause with each share, and those whose knowledge is missing. Wrong
    points share none with the right ones, and never give the right total but for no finding at all.
    """
    draw = random.Random(f"study:{seed}")
    names = [
        first + second for first in ("ka", "lo", "mi", "ru", "te") for second in ("bel", "dor", "fin", "gus", "ves")
    ]
    draw.shuffle(names)
    kinds = (
        [("", 1.0)] * SOLID + [(cause, share) for cause in CAUSES for share in SHARES] + [("knowledge", 0.0)] * MISSING
    )
    return [
        Score(name, tuple(draw.sample(FINDINGS, 3)), *_points(draw), *kind)
        for name, kind in zip(names, kinds, strict=False)
    ]


def _points(draw: random.Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(right, wrong)"""
    while True:
        drawn = draw.sample(POINTS, 6)
        right, wrong = tuple(drawn[:3]), tuple(drawn[3:])
        some = [there for there in itertools.product((False, True), repeat=3) if any(there)]
        if all(_total(right, there) != _total(wrong, there) for there in some):
            return right, wrong


def case_of(score: Score, seed: int, index: int, split: str) -> Any:
    from ehrmind.types import Case

    draw = random.Random(f"{seed}:{score.name}:{split}:{index}")
    others = draw.sample([finding for finding in FINDINGS if finding not in score.findings], 3)
    note = {finding: draw.random() < 0.6 for finding in (*score.findings, *others)}
    order = list(note)
    draw.shuffle(order)
    record = ". ".join(f"{finding} {_word(note[finding])}" for finding in order)
    there = tuple(note[finding] for finding in score.findings)
    entities = " ; ".join(f"{finding} {_word(found)}" for finding, found in zip(score.findings, there, strict=True))
    formula = " ; ".join(f"{finding} {point}" for finding, point in zip(score.findings, score.points, strict=True))
    return Case(
        id=f"study-{seed}-{split}-{score.name}-{index}",
        family="table",
        task=score.name,
        stratum=score.stratum,
        split=split,  # type: ignore[arg-type]
        group=f"{seed}-{split}-{score.name}-{index}",
        fields={
            "record": f"Seen: {record}. Bed {draw.randint(100, 999)}.",
            "question": f"What is the {score.name} score?",
        },
        truth={"kind": "integer", "value": _total(score.points, there), "unit": None},
        rationale=_working(score, there, score.points, _total(score.points, there)),
        provenance={
            "hints": {"entities": f"Values in the note: {entities}.", "formula": f"{score.name}: {formula}."},
            "found": list(there),
        },
    )


def _word(found: bool) -> str:
    return "yes" if found else "no"


def _total(points: tuple[int, ...], there: tuple[bool, ...]) -> int:
    return sum(point for point, found in zip(points, there, strict=True) if found)


def _working(score: Score, there: tuple[bool, ...], points: tuple[int, ...], total: int | None) -> str:
    steps = [
        f"{name} {_word(found)} {point if found else 0}"
        for name, found, point in zip(score.findings, there, points, strict=True)
    ]
    return f"so {' ; '.join([*steps, *([] if total is None else [f'total {total}'])])}"


def read_answer(score: Score, case: Any, form: str, draw: random.Random) -> list[str]:
    """The turns of one reader: an answer; or where it may, a call first and then the answer to the
    reply."""
    from ehrmind.prompts.protocol import TOOL_CLOSE, TOOL_OPEN, wrap

    fails = score.cause if score.cause not in MENDS[form] and draw.random() >= score.right else ""
    there, points = tuple(case.provenance["found"]), score.points
    if fails == "extraction":
        there = (False,) * len(there)
    if fails == "knowledge":
        points = score.wrong
    total = _total(points, there)
    if form == TOOL:
        sum_ = " + ".join(str(point if found else 0) for point, found in zip(points, there, strict=True))
        call = f"{TOOL_OPEN}{json.dumps({'expression': sum_})}{TOOL_CLOSE}"
        return [
            f"<think>{_working(score, there, points, None)}</think>{call}",
            wrap(f"total {total}", json.dumps({"answer": total})),
        ]
    if fails == "arithmetic":
        total += 7
    return [wrap(_working(score, there, points, total), json.dumps({"answer": total}))]


def variant_of(form: str) -> Any:
    from ehrmind.prompts.chat import PromptVariant

    hints = {ENTITIES: ("entities",), FORMULA: ("formula",), BOTH: ("entities", "formula")}.get(form, ())
    return PromptVariant(hints=hints, tool=form == TOOL)


def reading(scores: list[Score], seed: int) -> Iterator[tuple[Any, str, list[list[str]]]]:
    """(case, form, the turns of each reader) without end, from cases that the study itself never
    asks."""
    draw = random.Random(f"reading:{seed}")
    index = 0
    while True:
        score, form = scores[index % len(scores)], draw.choices(list(FORMS), weights=list(FORMS.values()))[0]
        if form in (FORMULA, BOTH):
            score = score._replace(points=draw.choice([other.points for other in scores if other.name != score.name]))
        case = case_of(score, 10_000 + seed, index, "train")
        yield case, form, [read_answer(score, case, form, draw) for _ in range(READERS)]
        index += 1


def build_base(
    folder: Path, scores: list[Score], seed: int, *, steps: int, batch: int = 16, rate: float = 2e-3
) -> None:
    """The demo's base of 0.9 million parameters, which can look findings up and knows none of these
    scores, after `steps` × `batch` prompts more."""
    from ehrmind.config import Model, Optimiser
    from ehrmind.engines.local.engine import open_engine

    pairs_of = reading(scores, seed)
    engine = open_engine(Model(name=str(DEMO_BASE)), DEMO_BASE, rows=512)
    learner = engine.learner(
        Optimiser(learning_rate=rate, warmup_share=0.05, final_share=0.02, tokens_per_microbatch=4096), steps
    )
    started = time.monotonic()
    for step in range(steps):
        batch_pairs = [pair for _ in range(batch) for pair in _pairs(engine, *next(pairs_of))]
        batch_pairs += [_listing(engine, seed, step * LISTINGS + place) for place in range(LISTINGS)]
        metrics = learner.learn_from_responses(batch_pairs)
        if step % 100 == 0 or step + 1 == steps:
            sys.stderr.write(
                f"base {seed}: step {step} loss {metrics['loss']:.4f} {time.monotonic() - started:.0f} s\n"
            )
    engine.save(folder)


def _listing(engine: Any, seed: int, index: int) -> tuple[Any, tuple[int, ...]]:
    """A note whose findings are to be listed in the alphabet's order: how the base learns to look
    things up."""
    from ehrmind.types import Message

    draw = random.Random(f"listing:{seed}:{index}")
    order = draw.sample(FINDINGS, draw.randint(4, 8))
    note = {finding: _word(draw.random() < 0.5) for finding in order}
    prompt = engine.prompt(
        [Message("user", f"Seen: {'. '.join(f'{name} {found}' for name, found in note.items())}. List the findings.")]
    )
    return prompt, engine.response_tokens(f"so {' ; '.join(f'{name} {note[name]}' for name in sorted(note))}", prompt)


def _pairs(engine: Any, case: Any, form: str, readers: list[list[str]]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """A prompt and a response for each reader's turns; a later turn stands behind the first and the
    tool's reply."""
    from ehrmind.prompts import messages
    from ehrmind.stages.tool import calculator_tool
    from ehrmind.types import Prompt

    prompt = engine.prompt(messages(case, variant=variant_of(form)))
    yield from ((prompt, engine.response_tokens(turns[0], prompt)) for turns in readers)
    if readers[0][1:]:  # one reader's is enough: who has a reply repeats it
        call, answer = readers[0]
        reply = calculator_tool(call)
        assert reply is not None
        between = engine.tool_turn(reply)
        then = Prompt((*prompt.token_ids, *engine.response_tokens(call, prompt), *between.token_ids), between.opening)
        yield then, engine.response_tokens(answer, then)


def write_cases(folder: Path, scores: list[Score], seed: int, counts: dict[str, int]) -> dict[str, Path]:
    """`counts` cases a stratum of each split, as Cases files."""
    from ehrmind.data import save_cases

    folder.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        save_cases(
            [case_of(score, seed, index, split) for index in range(count) for score in scores],
            folder / f"{split}.parquet",
        )
    return {split: folder / f"{split}.parquet" for split in counts}


def causes_of(scores: list[Score]) -> dict[str, str]:
    return {score.stratum: score.cause for score in scores}


HELD_OUT, ASKED, SAMPLES = 100, 24, 8  # cases a stratum, pilot questions a stratum, samples a question


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Parser of a benchmark over seeds of the study. The hub stays offline."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--steps", type=int, default=500, help="of the base's reading")
    parser.add_argument("--rlvr-steps", type=int, default=60)
    return parser


def run_of(out: Path, seed: int, reading_steps: int, name: str, *, interventions: bool = False, **changes: Any) -> Any:
    """A run of the study of a seed, gone on with where it stopped; its base model and cases are
    made once under `out`."""
    from ehrmind.config import parse_recipe
    from ehrmind.stages.pipeline import run_pipeline

    scores, folder = scores_of(seed), out / f"seed-{seed}"
    if not (folder / "base" / "config.json").is_file():
        build_base(folder / "building", scores, seed, steps=reading_steps)
        (folder / "building").rename(folder / "base")
    files = write_cases(folder / "cases", scores, seed, {"train": 400, "tuning": 10, "held_out": HELD_OUT})
    asked = ASKED * len(scores)
    rlvr = {
        "questions_per_step": 2 * len(scores),
        "samples": 8,
        "learning_rate": 3e-4,
        "kl": 0.0,
        "tuning_every": 20,
        "checkpoint_every": 20,
    }
    recipe = parse_recipe(
        {
            "name": f"study-{seed}-{name}",
            "seed": seed,
            "data": {split: {"cases": [str(path)]} for split, path in files.items()},
            "model": {"name": str(folder / "base")},
            "prompts": {"max_tokens": 400},
            "decoding": {"temperature": 1.0, "max_new_tokens": 64},
            "pilot": {"questions": asked, "samples": SAMPLES, "interventions": asked if interventions else 0},
            "evaluate": {"decodings": ["sampled"]},
            **changes,
            "rlvr": {**rlvr, **changes.get("rlvr", {})},
        }
    )
    return run_pipeline(recipe, folder / name, resume=(folder / name).exists())


def base_and_rlvr(out: Path, seed: int, reading_steps: int, rlvr_steps: int, *, causes: bool = True) -> Any:
    """The pilot, RLVR from the base, and both models' answers; with `causes` the pilot's
    interventions and the tool's answers too."""
    arms = ["base", "rlvr", *(["base_tool"] if causes else [])]
    return run_of(
        out,
        seed,
        reading_steps,
        "run" if causes else "gains",
        arms=arms,
        rlvr={"steps": rlvr_steps},
        interventions=causes,
    )
