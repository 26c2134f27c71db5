"""Cost of a policy step against prompt length, group size and model size, on one device.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --shape smollm2-135m [--case 1x600x8 --new 32 --decode]

The update's seconds are fitted, by least squares without a constant, to tokens and to pairs of
query and key: those of a prompt computed once for its group, prompt + G × completion, and for
comparison those of a prompt computed again for every answer, G × (prompt + completion). R² says
which of the two they follow. Memory is what the update adds to the process's level before;
micro-batches of 4,096 tokens bound it. Each case is a process of its own.

The share counts what an update must compute, each prompt once (`_models.operations`), against the
rate of its products of weights, measured before and after each update (`_limits.py`). With
`--decode` a second table holds decoding steps against their limits. A shape or a model's directory
has cases of its own and no fit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from _limits import DECODING_TABLE, decoding_rows, update_rate
from _limits import decoding as decoding_against_limits
from _models import OUR_MICROBATCH, Case, add_shape, groups_of, model_in, open_side, operations

# prompts, tokens of each, members, layers, width
CASES = [(4, length, 8, 6, 256) for length in (128, 512, 1024, 2048, 3072)]
CASES += [(4, 1024, members, 6, 256) for members in (2, 4, 16)]
CASES += [(4, 1024, 8, 4, 128), (4, 1024, 8, 8, 512)]
OF_A_SHAPE = ["2x600x8", "2x600x12", "1x2048x8", "1x2048x12"]


def one(folder: Path, case: Case, dtype: str, *, steps: int, decode: bool) -> dict[str, Any]:
    """Medians over the steps after the first; of a single step, its own."""
    import psutil

    engine, learner, asked, decoding = open_side(folder, case, dtype)
    config = engine.network.config
    process, parameters = psutil.Process(), sum(parameter.numel() for parameter in engine.network.parameters())
    rollouts, updates, peaks, shares = [], [], [], []
    before_it = update_rate(config, case, OUR_MICROBATCH["cpu"], dtype)
    for step in range(steps):
        started = time.perf_counter()
        answers = engine.sample(asked, [step * 100 + number for number in range(case.prompts)], case.members, decoding)
        sampled = time.perf_counter()
        before, highest, over = process.memory_info().rss, [0], threading.Event()

        def watch(before: int = before, highest: list[int] = highest, over: threading.Event = over) -> None:
            while not over.wait(0.01):
                highest[0] = max(highest[0], process.memory_info().rss - before)

        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.perf_counter()
        learner.learn_from_groups(groups_of(asked, answers, case.members))
        updates.append(time.perf_counter() - begun)
        over.set()
        watcher.join()
        rollouts.append(sampled - started)
        peaks.append(highest[0] / 2**20)
        after_it = update_rate(config, case, OUR_MICROBATCH["cpu"], dtype)
        shares.append(operations(case, config) / updates[-1] / ((before_it + after_it) / 2))
        before_it = after_it
    medians = (float(np.median(found[1:] or found)) for found in (rollouts, updates, shares))
    return {
        **dict(zip(("rollout", "update", "share"), medians, strict=True)),
        "gflops": before_it / 1e9,
        "mib": peaks[0],
        "parameters": parameters,
        "decode": decoding_against_limits(engine, case, dtype) if decode else {},
    }


def fitted(of_tokens: list[float], of_pairs: list[float], seconds: list[float]) -> float:
    """R² of seconds as so much a token and so much a pair of query and key, by least squares
    without a constant."""
    design, y = np.array([of_tokens, of_pairs], dtype=float).T, np.array(seconds)
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum())


def case_from(text: str, new: int) -> Case:
    """Reads `2x600x8`: prompts, tokens of each, answers."""
    prompts, length, members = (int(number) for number in text.split("x"))
    return Case(prompts, length, members, new)


def apart(given: argparse.Namespace, case: Case, layers: int, width: int) -> dict[str, Any]:
    """`one` in a process of its own."""
    arguments = ["--dtype", given.dtype, "--steps", str(given.steps), "--one", json.dumps([*case, layers, width])]
    arguments += ["--shape", given.shape] * bool(given.shape) + ["--model", str(given.model)] * bool(given.model)
    arguments += ["--decode"] * given.decode
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    add_shape(parser)
    parser.add_argument("--case", action="append", metavar="2x600x8", help="prompts, tokens of each, answers")
    parser.add_argument("--new", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--steps", type=int, default=3, help="steps; the first warms up, unless it is the only one")
    parser.add_argument("--decode", action="store_true", help="decoding steps too, against their limits")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each case instead of the table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.one:
        *numbers, given.layers, given.hidden = json.loads(given.one)
        with tempfile.TemporaryDirectory() as scratch:
            folder = model_in(Path(scratch), given)
            found = one(folder, Case(*numbers), given.dtype, steps=given.steps, decode=given.decode)
        print(json.dumps(found), flush=True)
        return
    named = given.case or (OF_A_SHAPE if given.shape or given.model else [])
    cases = [(case_from(text, given.new), given.layers, given.hidden) for text in named]
    cases = cases or [(Case(*sizes, given.new), layers, width) for *sizes, layers, width in CASES]
    if not given.json:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
        print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {given.dtype}, {versions}\n")
        print(
            "| parameters | prompts × tokens | G | rollout | update | µs a packed token | update's memory | share of"
            " the matrix rate |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows, decoded = [], []
    for case, layers, width in cases:
        found = apart(given, case, layers, width)
        rows.append((case, found))
        decoded += decoding_rows(case, given.dtype, found["decode"])
        print(json.dumps(case._asdict() | found) if given.json else row_of(case, found), flush=True)
    if given.json:
        return
    if decoded:
        print("\n" + "\n".join([*DECODING_TABLE, *decoded]))
    if not named:
        print_fit(
            [(case, found["update"]) for (case, found), (_, *size) in zip(rows, cases, strict=True) if size == [6, 256]]
        )


def row_of(case: Case, found: dict[str, Any]) -> str:
    packed = case.prompts * (case.length + case.members * case.new)
    cells = [f"{found['parameters'] / 1e6:.1f} M", f"{case.prompts} × {case.length:,}", f"{case.members}"]
    cells += [f"{found['rollout']:.2f} s", f"{found['update']:.2f} s", f"{found['update'] / packed * 1e6:.0f}"]
    cells += [f"{found['mib']:,.0f} MiB", f"{found['share']:.0%} of {found['gflops']:,.0f} GFLOP/s"]
    return f"| {' | '.join(cells)} |"


def print_fit(same: list[tuple[Case, float]]) -> None:
    """Prints R² of the update's time for cases of one model."""
    sizes = [(case.prompts, case.length, case.members, case.new) for case, _ in same]
    once = [(n * (p + g * t), n * (p * p / 2 + g * t * (p + t / 2))) for n, p, g, t in sizes]
    again = [(n * g * (p + t), n * g * (p + t) ** 2 / 2) for n, p, g, t in sizes]
    print()
    for name, counts in (
        ("the prompt once, prompt + G × completion", once),
        ("the prompt again, G × (prompt + completion)", again),
    ):
        tokens, pairs = ([float(count) for count in side] for side in zip(*counts, strict=True))
        print(f"R² of the update's time against {name}: {fitted(tokens, pairs, [update for _, update in same]):.3f}")


if __name__ == "__main__":
    main()
