"""Two workers of one thread each against two processes that know nothing of each other, on the same
two cores.

    python benchmarks/workers.py
    python benchmarks/workers.py --strategy fsdp --layers 6 --width 256
    python benchmarks/workers.py --shares 1 2 4 8 16 32

A step samples answers to `--questions` a worker, judges them and learns from all of them. Work is
counted in tokens that were written and learned. Two processes take turns, step by step: as workers
that sample and learn the two shards of one batch twice as large, and each for itself, both at the
same time, since two busy cores slow each other. What workers wait for each other, and what they
send, is counted apart. `--shares` takes one process with so many questions: how a worker's time
shrinks with its share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

DEMO_BASE = Path(__file__).resolve().parents[1] / "recipes" / "demo_base"
MEMBERS, NEW_TOKENS = 8, 96
TASKS = ["curb-65", "sirs", "feverpain", "morphine-equivalents", "maintenance-fluids"]


def worker(arguments: argparse.Namespace) -> None:
    """One of the two processes: every turn of both sides, what it wrote, how long it took, what
    went over the wire."""
    import torch

    from ehrmind import world as worlds

    torch.set_num_threads(1)
    with worlds.joined("cpu") as world:
        together = opened(arguments, arguments.strategy, world.size, seed=5)
        apart = opened(arguments, "ddp", 1, seed=6 + world.rank)
        sent = watched(worlds)
        turns: list[dict[str, Any]] = []
        for step in range(arguments.steps + 1):
            world.gather(None)
            sent.clear()
            turns.append({"together": one_step(*together, step), "sent": dict(sent)})
            world.gather(None)
            token = worlds._acting_alone.set(True)
            turns[-1]["apart"] = one_step(*apart, step)
            worlds._acting_alone.reset(token)
        size = sum(parameter.numel() for parameter in apart[0].network.parameters())
        found = {"turns": turns[1:], "parameters": size, "all-reduce alone": all_reduce_alone(size)}
        (arguments.worker / f"{world.rank}.json").write_text(json.dumps(found))


def opened(arguments: argparse.Namespace, strategy: str, shards: int, seed: int) -> tuple[Any, Any, Any]:
    """(engine, learner, cases with their prompts: of three steps)"""
    from ehrmind.config import Decoding, Model, Rlvr
    from ehrmind.data.synthetic import synthetic_cases
    from ehrmind.engines.local.engine import open_engine
    from ehrmind.prompts import messages

    looks: dict[str, Any] = {"difficulty": "easy", "manners": ["telegraphic"], "styles": ["jotted"]}
    cases = synthetic_cases(arguments.questions * shards * 3, seed, "train", TASKS, **looks)
    engine = open_engine(Model(name=str(arguments.model)), arguments.model, rows=512, shards=shards, strategy=strategy)
    rlvr = Rlvr(learning_rate=1e-6, kl=0.0, tokens_per_microbatch=4096)
    how = Decoding(temperature=1.0, max_new_tokens=NEW_TOKENS)
    return (
        engine,
        engine.learner(rlvr, 1000, rlvr=rlvr, decoding=how),
        [(case, engine.prompt(messages(case))) for case in cases],
    )


def one_step(
    engine: Any, learner: Any, chosen: Any, step: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    from ehrmind.types import Group
    from ehrmind.verify.judge import judge

    size = len(chosen) // 3
    batch = [chosen[(step * size + place) % len(chosen)] for place in range(size)]
    begun = clock()
    answers = engine.sample(
        [prompt for _, prompt in batch], list(range(step * size, (step + 1) * size)), MEMBERS, learner.decoding
    )
    sampled = clock()
    advantages = tuple(1.0 if member % 2 else -1.0 for member in range(MEMBERS))
    groups = [
        Group(
            case,
            prompt,
            written,
            [judge(case, answer.text, finish_reason=answer.finish_reason) for answer in written],
            advantages,
        )
        for (case, prompt), written in zip(batch, answers, strict=True)
    ]
    judged = clock()
    learner.learn_from_groups(groups)
    over = clock()
    tokens = sum(answer.n_written for written in answers for answer in written)
    return {
        "sampling": sampled - begun,
        "judging": judged - sampled,
        "update": over - judged,
        "seconds": over - begun,
        "tokens": tokens,
    }


def watched(worlds: Any) -> Counter[str]:
    """Counts seconds and bytes of every talk between workers, from now on."""
    from torch import distributed

    spent: Counter[str] = Counter()

    def timed(name: str, call: Any, size: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            found = call(*args, **options)
            spent[name] += time.perf_counter() - begun
            spent[f"{name}, bytes"] += size(*args)
            return found

        return run

    worlds._all_messages = timed("gather", worlds._all_messages, lambda mine, _: len(mine))
    distributed.all_reduce = timed("all-reduce", distributed.all_reduce, lambda tensor: tensor.nbytes)
    return spent


def all_reduce_alone(size: int) -> float:
    """Seconds of summing as many numbers as the model has, with nobody late."""
    import torch
    from torch import distributed

    found = []
    for _ in range(7):
        distributed.barrier()
        begun = time.perf_counter()
        distributed.all_reduce(torch.zeros(size))
        found.append(time.perf_counter() - begun)
    return median(found)


def shares(arguments: argparse.Namespace) -> None:
    """One process, one thread, in seconds of the processor, which others' work does not lengthen by
    much."""
    import torch

    torch.set_num_threads(1)
    for count in arguments.shares:
        arguments.questions = count
        parts = opened(arguments, "ddp", 1, seed=5)
        steps = [one_step(*parts, step, time.process_time) for step in range(4)][1:]
        found = {name: median(step[name] for step in steps) for name in ("sampling", "update", "tokens")}
        seconds = ", ".join(
            f"{name} {found[name]:.3f} s ({found[name] / count:.4f} a question)" for name in ("sampling", "update")
        )
        print(f"{count:3} questions: {seconds}; {found['tokens']:,.0f} tokens")


def random_model(folder: Path, layers: int, width: int) -> Path:
    from ehrmind.config import TinyModel
    from ehrmind.data.synthetic import synthetic_cases
    from ehrmind.engines.local.tiny import build_tiny
    from ehrmind.prompts import gold_response, messages

    text = [messages(case)[0].content + gold_response(case) for case in synthetic_cases(500, 0, "train")]
    build_tiny(TinyModel(hidden=width, layers=layers, heads=max(1, width // 64), vocabulary=4096), text, folder, seed=0)
    return folder


def show(strategy: str, workers: list[dict[str, Any]]) -> None:
    """`workers`: what both wrote, by rank."""
    turns = list(zip(*(process["turns"] for process in workers), strict=True))
    alone = [sum(each["apart"]["tokens"] / each["apart"]["seconds"] for each in turn) for turn in turns]
    rates = [turn[0]["together"]["tokens"] / max(each["together"]["seconds"] for each in turn) for turn in turns]
    whole = sum(turn[0]["together"]["tokens"] for turn in turns) / sum(
        max(e["together"]["seconds"] for e in turn) for turn in turns
    )
    print(f"{workers[0]['parameters'] / 1e6:.1f} million parameters, {len(turns)} turns of each side")
    print(f"two processes apart: {mean(alone):,.0f} tokens/s; two workers, {strategy}: {whole:,.0f} tokens/s")
    shares = sorted(rate / apart for rate, apart in zip(rates, alone, strict=True))
    middle = shares[len(shares) // 4], shares[-1 - len(shares) // 4]
    print(
        f"workers do {median(shares):.0%} of the processes' work per second (median; half of the turns {middle[0]:.0%}"
        f" to {middle[1]:.0%})"
    )
    for side in ("apart", "together"):
        parts = {
            name: median(each[side][name] for turn in turns for each in turn)
            for name in ("sampling", "judging", "update")
        }
        print(f"  {side}, seconds: " + ", ".join(f"{name} {seconds:.3f}" for name, seconds in parts.items()))
    for name in ("gather", "all-reduce"):
        seconds = median(each["sent"].get(name, 0.0) for turn in turns for each in turn)
        size = median(each["sent"].get(f"{name}, bytes", 0.0) for turn in turns for each in turn)
        print(f"  {name}: {size:,.0f} bytes from each, {seconds:.3f} s with the wait for the other")
    print(
        "  one all-reduce of as many numbers as the model has, nobody late:"
        f" {workers[0]['all-reduce alone'] * 1000:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=16, help="of a worker and step")
    parser.add_argument("--steps", type=int, default=12, help="turns of each side")
    parser.add_argument("--strategy", default="ddp", choices=["ddp", "fsdp"])
    parser.add_argument("--layers", type=int, help="of a random model in place of the demo's base")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--shares", type=int, nargs="+", help="questions of one process, in place of the comparison")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, default=DEMO_BASE, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    with tempfile.TemporaryDirectory() as scratch:
        model = (
            arguments.model
            if arguments.layers is None
            else random_model(Path(scratch) / "model", arguments.layers, arguments.width)
        )
        if arguments.shares:
            arguments.model = model
            shares(arguments)
            return
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
        told = [
            "--worker",
            scratch,
            "--model",
            str(model),
            "--questions",
            str(arguments.questions),
            "--steps",
            str(arguments.steps),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*start, *told, "--strategy", arguments.strategy], env=environment, check=True)
        show(arguments.strategy, [json.loads((Path(scratch) / f"{rank}.json").read_text()) for rank in range(2)])


if __name__ == "__main__":
    main()
