"""Workers that torchrun starts: whoever holds the shards, the run is the same; what goes wrong ends
all of them with one sentence.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.recipes import DEMO, SMOKE
from tests.torchrun import begun, torchrun

pytestmark = [pytest.mark.slow, pytest.mark.alone]

# Ragged refills, questions by pass rate, more micro-batches with one worker than with the other, a
# warm-up and twenty steps of RLVR
SETTINGS = [
    *SMOKE,
    "data.tuning.synthetic.n=7",
    "rlvr.steps=20",
    "rlvr.dynamic_sampling=2",
    "rlvr.curriculum=pass_rate",
    "rlvr.tokens_per_microbatch=512",
    "rlvr.checkpoint_every=4",
    "rlvr.tuning_every=10",
    "arms=[sft,sft_rlvr]",
    "evaluate.decodings=[greedy]",
]
COMMAND = ["-m", "ehrmind", "run", str(DEMO)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Weights of both arms."""
    models = run / "protected" / "models"
    return {
        f"{arm}/{key}": value
        for arm in ("sft", "sft_rlvr")
        for key, value in load_file(models / arm / "model.safetensors").items()
    }


def furthest(run: Path, other: Path) -> float:
    """The largest difference of any weight, relative to the largest of its tensor."""
    there = weights(other)
    return max(float((value - there[name]).abs().max() / value.abs().max()) for name, value in weights(run).items())


def rollouts(run: Path) -> pl.DataFrame:
    files = sorted((run / "protected" / "rollouts").glob("*.parquet"))
    return pl.concat(
        [
            pl.read_parquet(file).select("stage", "step", "case", "member", "text", "reward", "advantage")
            for file in files
        ]
    )


def same(run: Path, other: Path) -> None:
    """The same groups and rewards, every rollout once; weights and metrics as near as 1e-5."""
    assert rollouts(run).equals(rollouts(other)), "the same groups, rewards and advantages, and every rollout once"
    assert furthest(run, other) <= 1e-5
    for here, there in zip(metrics(run), metrics(other), strict=True):
        assert here.keys() == there.keys()
        for name in here.keys() - {"time", "tokens_per_second", "stage", "arm", "digest"}:
            assert here[name] == pytest.approx(there[name], rel=1e-4, abs=1e-6), name


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One worker that holds both shards."""
    run = tmp_path_factory.mktemp("alone") / "run"
    subprocess.run(
        [sys.executable, *COMMAND, "--out", str(run), *SETTINGS, "shards=2"],
        check=True,
        capture_output=True,
        timeout=280,
    )
    return run


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_workers_end_where_one_does(alone: Path, tmp_path: Path, strategy: str) -> None:
    run = tmp_path / "run"
    done = torchrun(2, [*COMMAND, "--out", str(run), *SETTINGS, "shards=2", f"cluster.strategy={strategy}"])
    assert done.returncode == 0, done.stderr
    same(run, alone)
    assert done.stdout.count("page:") == done.stderr.count("memory (estimate, every one of 2 workers)") == 1, (
        "one worker speaks"
    )


@pytest.mark.long
def test_predictions_are_the_same_files(alone: Path, tmp_path: Path) -> None:
    cases = alone / "protected" / "cases" / "held_out.parquet"
    for workers in (1, 2):
        told = [
            "-m",
            "ehrmind",
            "predict",
            str(alone),
            str(cases),
            "--out",
            str(tmp_path / str(workers)),
            "--page",
            "part=8",
        ]
        done = torchrun(workers, told)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("answered ") == 1
    for name in ("predictions.parquet", "predictions.html"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.long
def test_a_killed_run_goes_on_with_other_workers_to_the_same_end(alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [*COMMAND, "--out", str(run), *SETTINGS, "shards=2"]
    stopped = begun(2, [*arguments, "cluster.strategy=fsdp"])
    kill_one_after(stopped, run, lines=13)
    _, said = stopped.communicate(timeout=60)  # the others, and torchrun, end by themselves
    assert stopped.returncode != 0 and said.count("ehrmind: ") <= 1, said
    restarted = begun(1, [*arguments, "--resume"], restarts=1)
    kill_one_after(restarted, run, lines=18)
    _, said = restarted.communicate(timeout=280)
    assert restarted.returncode == 0, said
    same(run, alone)


def kill_one_after(process: subprocess.Popen[str], run: Path, lines: int) -> None:
    """SIGKILL for a worker once so many steps are in the metrics."""
    until = time.monotonic() + 200
    while (not (run / "metrics.jsonl").is_file() or len(metrics_lines(run)) < lines) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(workers_of(process)[-1], signal.SIGKILL)


def metrics_lines(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_shards_that_workers_do_not_divide_are_refused_once(tmp_path: Path) -> None:
    done = torchrun(2, [*COMMAND, "--out", str(tmp_path / "run"), *SETTINGS, "shards=3"])
    assert done.returncode != 0
    assert done.stderr.count("ehrmind: ") == 1
    assert "shards=3 cannot be dealt evenly to cluster.workers=2" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_the_first_worker_refuses_ends_all_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("not a run")
    done = torchrun(2, [*COMMAND, "--out", str(tmp_path / "run"), *SETTINGS, "shards=2"])
    assert done.returncode != 0
    assert done.stderr.count("ehrmind: ") == 1 and "is no run folder; choose another --out" in done.stderr


def test_an_extra_reward_is_the_same_for_two_workers_as_for_one(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("""
data: {train: {synthetic: {n: 40, seed: 1}}, tuning: {synthetic: {n: 4, seed: 2}}, held_out: {synthetic: {n: 4, seed: 3}}}
model: {tiny: {hidden: 32, layers: 1, heads: 2, vocabulary: 400}}
decoding: {max_new_tokens: 24}
pilot: {questions: 4, samples: 2, interventions: 0}
rlvr: {steps: 2, questions_per_step: 4, samples: 4}
reward: {extra: {brevity: "examples.add_a_reward:brevity"}}
arms: [base, rlvr]
shards: 2
""")
    one, two = (tmp_path / f"by-{workers}" for workers in (1, 2))
    for workers, out in ((1, one), (2, two)):
        done = torchrun(workers, ["-m", "ehrmind", "run", str(recipe), "--out", str(out)])
        assert done.returncode == 0, done.stderr
    assert rollouts(one).equals(rollouts(two))
    earned = [[row["reward_brevity"] for row in metrics(run) if row["stage"] == "rlvr-rlvr"] for run in (one, two)]
    assert earned[0] == earned[1] and len(earned[0]) == 2 and all(0 < value < 1 for value in earned[0])
