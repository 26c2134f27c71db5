"""A reward of your own: shorter answers earn more. A few steps of RLVR with it, on a tiny model.

    python examples/add_a_reward.py

A reward is a plain function in a module that can be imported where the run is trained. The recipe
names it, and nothing in the package changes. It is added in RLVR's steps only: evaluation, the
checks on tuning and the pilot never see it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from ehrmind.config import parse_recipe
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import Case, Completion, Verdict


def brevity(case: Case, completion: Completion, verdict: Verdict) -> float:
    """1 for an empty answer, 0 for one of 60 characters or more. `verdict` says whether the answer
    is right and well-formed.
    """
    return max(0.0, 1 - len(completion.text) / 60)


RECIPE = """
data:
  train: {synthetic: {n: 40, seed: 1}}
  tuning: {synthetic: {n: 4, seed: 2}}
  held_out: {synthetic: {n: 4, seed: 3}}
model: {tiny: {hidden: 32, layers: 1, heads: 2, vocabulary: 400}}
decoding: {max_new_tokens: 24}
reward:
  extra:
    brevity: {function: "add_a_reward:brevity", weight: 0.2}
rlvr: {steps: 12, questions_per_step: 4, samples: 8, learning_rate: 0.01}
arms: [base, rlvr]
"""


def main() -> None:
    recipe = parse_recipe(yaml.safe_load(RECIPE))
    with tempfile.TemporaryDirectory() as folder:
        run = run_pipeline(recipe, Path(folder) / "run", stages=("rlvr",))
        for row in run.metrics():
            reward, brevity_part = row.values["reward"], row.values["reward_brevity"]
            print(f"{row.stage}, step {row.step}: reward {reward:.3f}, of it brevity {brevity_part:.3f}")


if __name__ == "__main__":
    main()
