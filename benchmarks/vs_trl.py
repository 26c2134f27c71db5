"""One GRPO step of ours against TRL's, on the same model, prompts, group size, lengths and dtype,
interleaved in one run.

    python benchmarks/vs_trl.py [--dtype float32] [--steps 3]        # the three cases, a table
    python benchmarks/vs_trl.py --prompt 1024 --group 8 --new 128 --prompts 8 [--device cuda] --json

The second line measures a case of your own.

Every side is a process of its own that makes one step on request; the sides take turns. TRL is
its GRPOTrainer with `transformers` generation under the fastest settings of those `--search`
measures; without it, those that it found for the three cases. With bf16, TRL trains under
autocast and samples with bf16 weights where that is faster: its whole step is then that rollout
and the rest of the autocast step. No answer may end early on our side, so that both sides make
`group × new` tokens for each prompt. With `--json`, a line for each dtype.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from _models import SHAPES, Case, groups_of, matrix_rate, now, open_side, operations, prompt_ids, shape_of, write_model

PARTS = ("rollout", "update", "step")
BF16_WEIGHTS = "trl bf16 weights"
Settings = tuple[int, str | None]  # of TRL: answers in a micro-batch, cache of its generation


FLOORS = {Case(8, 200, 8): 3, Case(8, 1024, 8): 5, Case(4, 2048, 12): 7}
SEARCHED: list[Settings] = [
    (64, None),
    (16, None),
    (8, None),
    (4, None),
    (2, None),
    (8, "static"),
    (4, "static"),
    (2, "static"),
]


def found_before(case: Case) -> Settings:
    """The fastest that `--search` found for the three cases. The static cache fails under autocast;
    on CUDA it was no faster on a small model and was not tried on the large one."""
    return (4, None) if case.device == "cuda" else (4 if case.length <= 512 else 2, "static")


def wait_for_turn() -> None:
    if not sys.stdin.readline():
        sys.exit()


def answer(rollout: float, step: float, device: str, **more: float) -> None:
    import torch

    on_gpu = device == "cuda"
    peak = (
        torch.cuda.max_memory_allocated() / 2**30
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )
    said = {"rollout": rollout, "update": step - rollout, "step": step, "peak_gb": peak, **more}
    print(json.dumps(said), file=sys.__stdout__, flush=True)


def our_side(folder: Path, case: Case, dtype: str, settings: Settings) -> None:
    engine, learner, asked, decoding = open_side(folder, case, dtype)
    at_most = matrix_rate(dtype, case.device)
    step = 0
    while True:
        wait_for_turn()
        started = now(case.device)
        answers = engine.sample(asked, [step * 100 + number for number in range(case.prompts)], case.members, decoding)
        sampled = now(case.device)
        assert all(completion.n_tokens == case.new for own in answers for completion in own)
        learner.learn_from_groups(groups_of(asked, answers, case.members))
        ended = now(case.device)
        share = operations(case, engine.network.config) / (ended - sampled) / at_most
        answer(sampled - started, ended - started, case.device, share_of_rate=share)
        step += 1


def trl_side(folder: Path, case: Case, dtype: str, settings: Settings) -> None:
    """`dtype` is float32, autocast (bf16 over fp32 weights) or bfloat16 (weights, for its
    rollout)."""
    import trl
    from datasets import Dataset

    at_once, cache = settings
    words = [" ".join(f"w{token - 2}" for token in prompt_ids(number, case.length)) for number in range(case.prompts)]
    rollouts: list[float] = []

    class InTurns(trl.GRPOTrainer):  # type: ignore[misc]
        """Makes its next step on request, and says how long the last one took."""

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            started = now(case.device)
            out = super()._generate(*args, **kwargs)
            rollouts.append(now(case.device) - started)
            return out

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step:
                answer(rollouts.pop(), now(case.device) - self.started, case.device)
            wait_for_turn()
            self.started = now(case.device)
            return super().get_batch_samples(*args, **kwargs)

    total = case.prompts * case.members
    arguments = trl.GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=total // at_once,
        num_generations=case.members,
        max_completion_length=case.new,
        temperature=1.0,
        beta=0.0,
        learning_rate=1e-6,
        max_steps=1000,
        shuffle_dataset=False,
        use_cpu=case.device == "cpu",
        bf16=dtype == "autocast",
        tf32=True
        if case.device == "cuda" and dtype != "float32"
        else None,  # or its rollout, which autocast does not reach, takes fp32
        gradient_checkpointing=False,
        cache_implementation=cache,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        dataloader_num_workers=0,
        model_init_kwargs={"dtype": "bfloat16" if dtype == "bfloat16" else "float32"},
    )
    InTurns(
        model=str(folder),
        reward_funcs=lambda completions, **_: [float(place % 2) for place in range(len(completions))],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": text} for text in words]),
    ).train()


class Side:
    def __init__(self, name: str, folder: Path, case: Case, dtype: str, settings: Settings) -> None:
        self.name = name
        asked = {"name": name, "folder": str(folder), "case": case, "dtype": dtype, "settings": settings}
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        command = [sys.executable, __file__, "--side", json.dumps(asked)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def step(self) -> dict[str, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The side {self.name} ended early; what it said is above.")
        found: dict[str, float] = json.loads(line)
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def sides_of(case: Case, dtype: str, settings: Settings) -> dict[str, tuple[str, str, Settings]]:
    """By name: whose, in which type, TRL's settings."""
    if dtype != "bfloat16":
        return {"ours": ("ours", dtype, settings), "trl": ("trl", dtype, settings)}
    plain = (settings[0], None)  # the static cache fails under autocast
    return {
        "ours": ("ours", dtype, settings),
        "trl": ("trl", "autocast", plain),
        BF16_WEIGHTS: ("trl", dtype, settings),
    }


def take_turns(
    folder: Path, case: Case, sides: dict[str, tuple[str, str, Settings]], steps: int
) -> dict[str, list[dict[str, float]]]:
    """On CPU every side stays and they make a step in turn, the first for warming up. A GPU does
    not hold all of them: there a side is a process for its own steps, the first for warming up, and
    half of ours come before TRL's, half after."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    if case.device == "cuda":
        for name in (*sides, "ours"):
            side = Side(sides[name][0], folder, case, *sides[name][1:])
            measured[name] += [side.step() for _ in range(1 + steps * (1 if name == "ours" else 2))][1:]
            side.close()
            print(f"{case} {name}: {measured[name][-1]}", file=sys.stderr, flush=True)
        return measured
    opened = {name: Side(whose, folder, case, dtype, settings) for name, (whose, dtype, settings) in sides.items()}
    for turn in range(steps + 1):
        for name, side in opened.items():
            found = side.step()
            if turn:
                measured[name].append(found)
            time.sleep(0.5)
    for side in opened.values():
        side.close()
    return measured


def measure(folder: Path, case: Case, dtype: str, steps: int, settings: Settings) -> dict[str, Any]:
    """Both sides' figures and the ratios, each turn by itself."""
    measured = take_turns(folder, case, sides_of(case, dtype, settings), steps)
    rounds = []
    for ours, trl, *others in zip(*measured.values(), strict=True):
        rollout = min([trl["rollout"], *(side["rollout"] for side in others)])
        theirs = {"rollout": rollout, "update": trl["update"], "step": rollout + trl["update"]}
        rounds.append({part: theirs[part] / ours[part] for part in PARTS})
    tokens = case.prompts * case.members * case.new
    result: dict[str, Any] = {**case._asdict(), "dtype": dtype, "steps": steps, "trl_settings": settings}
    for name, rows in measured.items():
        seconds = {f"{part}_s": statistics.median(row[part] for row in rows) for part in PARTS}
        rest = {
            "tokens": tokens,
            "tokens_per_s": tokens / seconds["step_s"],
            "peak_gb": max(row["peak_gb"] for row in rows),
        }
        result[name] = {**seconds, **rest}
    result["ours"]["share_of_rate"] = statistics.median(row["share_of_rate"] for row in measured["ours"])
    ratios = {part: [one[part] for one in rounds] for part in PARTS}
    result["ratio"] = {part: statistics.median(found) for part, found in ratios.items()}
    return result | {"ratio_range": {part: [min(found), max(found)] for part, found in ratios.items()}}


def rows_of(case: Case, result: dict[str, Any]) -> list[str]:
    named = f"| {case} | {result['dtype']} |"
    rows = []
    for name in ("ours", "trl", BF16_WEIGHTS):
        if side := result.get(name):
            seconds = " | ".join(f"{side[f'{part}_s']:.2f} s" for part in PARTS)
            rows.append(f"{named} {name} | {seconds} | {side['tokens_per_s']:,.0f} | {side['peak_gb']:.2f} GB |")
    ranges = {part: "{:.1f}–{:.1f}".format(*result["ratio_range"][part]) for part in PARTS}
    cells = " | ".join(f"**{result['ratio'][part]:.1f}×** ({ranges[part]})" for part in PARTS)
    share = f"the update at {result['ours']['share_of_rate']:.0%} of the matrix rate"
    floor = f", floor {FLOORS[case]}" if case in FLOORS else ""
    return [*rows, f"{named} ratio{floor} | {cells} | {share} | |"]


def search(folder: Path, case: Case, dtype: str) -> Settings:
    """The fastest of TRL's candidates by one warm step; what each took goes to standard error."""
    took: dict[Settings, float] = {}
    for settings in SEARCHED:
        if (case.prompts * case.members) % settings[0] or (settings[1] and dtype == "bfloat16"):
            continue
        side = Side("trl", folder, case, "autocast" if dtype == "bfloat16" else dtype, settings)
        side.step()
        took[settings] = side.step()["step"]
        side.close()
        print(f"{case} {dtype} trl {settings}: {took[settings]:.2f} s", file=sys.stderr, flush=True)
    return min(took, key=lambda settings: took[settings])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", type=int, help="tokens of a prompt; without it, the three cases")
    parser.add_argument("--group", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--new", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--prompts", type=int, default=8, help="prompts in a step")
    parser.add_argument("--hidden", type=int, default=256, help="width of the model")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--shape", choices=sorted(SHAPES), help="a well-known one instead")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], action="append", help="both, unless named")
    parser.add_argument("--steps", type=int, default=3, help="turns that count, after one to warm up")
    parser.add_argument("--search", action="store_true", help="look for TRL's fastest settings first")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each comparison instead of the table")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.side:
        side = json.loads(given.side)
        sys.stdout = sys.stderr
        run = our_side if side["name"] == "ours" else trl_side
        run(Path(side["folder"]), Case(*side["case"]), side["dtype"], (side["settings"][0], side["settings"][1]))
        return
    own = [Case(given.prompts, given.prompt, given.group, given.new, given.device)] if given.prompt else []
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "trl"))
    if not given.json:
        print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPU cores, {versions}")
        print(f"Medians of {given.steps} steps; ratios of each turn, median and range\n")
        print("| case | dtype | side | rollout | update | whole step | new tokens/s | peak memory |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_model(
            folder, SHAPES[given.shape] if given.shape else shape_of(given.layers, given.hidden), device=given.device
        )
        for case in own or FLOORS:
            for dtype in given.dtype or ["float32", "bfloat16"]:
                settings = search(folder, case, dtype) if given.search else found_before(case)
                result = measure(folder, case, dtype, given.steps, settings)
                print(json.dumps(result) if given.json else "\n".join(rows_of(case, result)), flush=True)


if __name__ == "__main__":
    main()
