"""Cost of a policy step against prompt length, group size and model size, on one device.

    python benchmarks/scaling.py

The update's seconds are fitted, by least squares without a constant, to tokens and to pairs of
query and key: those of a prompt computed once for its group, prompt + G × completion, and for
comparison those of a prompt computed again for every answer, G × (prompt + completion). R² says
which of the two they follow. Memory is what the update adds to the process's level before;
micro-batches of 4,096 tokens bound it. Each case is a process of its own. The share of the device's
rate counts what an update must compute, each prompt once (`_models.operations`).
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

import numpy as np

NEW_TOKENS = 128
# prompts, tokens of each, members, layers, width
CASES = [(4, length, 8, 6, 256) for length in (128, 512, 1024, 2048, 3072)]
CASES += [(4, 1024, members, 6, 256) for members in (2, 4, 16)]
CASES += [(4, 1024, 8, 4, 128), (4, 1024, 8, 8, 512)]


def one(prompts: int, length: int, members: int, layers: int, width: int, dtype: str) -> dict[str, float]:
    import psutil
    from _models import Case, groups_of, matrix_rate, open_side, operations, shape_of, write_model

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_model(folder, shape_of(layers, width))
        case = Case(prompts, length, members, NEW_TOKENS)
        engine, learner, asked, decoding = open_side(folder, case, dtype)
        process, parameters = psutil.Process(), sum(parameter.numel() for parameter in engine.network.parameters())
        rollouts, updates, peaks = [], [], []
        for step in range(3):
            started = time.perf_counter()
            answers = engine.sample(asked, [step * 100 + number for number in range(prompts)], members, decoding)
            sampled = time.perf_counter()
            before, highest, over = process.memory_info().rss, [0], threading.Event()

            def watch(before: int = before, highest: list[int] = highest, over: threading.Event = over) -> None:
                while not over.wait(0.01):
                    highest[0] = max(highest[0], process.memory_info().rss - before)

            watcher = threading.Thread(target=watch)
            watcher.start()
            begun = time.perf_counter()
            learner.learn_from_groups(groups_of(asked, answers, members))
            updates.append(time.perf_counter() - begun)
            over.set()
            watcher.join()
            rollouts.append(sampled - started)
            peaks.append(highest[0] / 2**20)
        rate = matrix_rate(dtype, "cpu")
    update = float(np.median(updates[1:]))
    return {
        "rollout": float(np.median(rollouts[1:])),
        "update": update,
        "mib": peaks[0],
        "parameters": parameters,
        "share": operations(case, engine.network.config) / update / rate,
    }


def fitted(of_tokens: list[float], of_pairs: list[float], seconds: list[float]) -> float:
    """R² of seconds as so much a token and so much a pair of query and key, by least squares
    without a constant."""
    design, y = np.array([of_tokens, of_pairs], dtype=float).T, np.array(seconds)
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        found = one(*json.loads(given.one), given.dtype)
        print(json.dumps(found), flush=True)
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {given.dtype}, {versions}\n")
    print(
        "| parameters | prompts × tokens | G | rollout | update | µs a packed token | update's memory | share of the"
        " matrix rate |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for case in CASES:
        done = subprocess.run(
            [sys.executable, __file__, "--dtype", given.dtype, "--one", json.dumps(case)],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        prompts, length, members = case[:3]
        packed = prompts * (length + members * NEW_TOKENS)
        rows.append((case, found))
        cells = [f"{found['parameters'] / 1e6:.1f} M", f"{prompts} × {length:,}", f"{members}"]
        cells += [f"{found['rollout']:.2f} s", f"{found['update']:.2f} s", f"{found['update'] / packed * 1e6:.0f}"]
        cells += [f"{found['mib']:,.0f} MiB", f"{found['share']:.0%}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    same = [(case, found["update"]) for case, found in rows if case[3:] == (6, 256)]
    once = [
        (n * (p + g * NEW_TOKENS), n * (p * p / 2 + g * NEW_TOKENS * (p + NEW_TOKENS / 2))) for (n, p, g, *_), _ in same
    ]
    again = [(n * g * (p + NEW_TOKENS), n * g * (p + NEW_TOKENS) ** 2 / 2) for (n, p, g, *_), _ in same]
    print()
    for name, counts in (
        ("the prompt once, prompt + G × completion", once),
        ("the prompt again, G × (prompt + completion)", again),
    ):
        tokens, pairs = ([float(count) for count in side] for side in zip(*counts, strict=True))
        print(f"R² of the update's time against {name}: {fitted(tokens, pairs, [update for _, update in same]):.3f}")


if __name__ == "__main__":
    main()
