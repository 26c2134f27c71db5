"""A policy loss of your own: CISPO. A few steps of RLVR with it, on a tiny model.

    python examples/add_a_loss.py

A loss is one function of a `MicroBatch` and one entry of `LOSSES` in ehrmind/rl/losses.py; the
recipe names it in `rlvr.loss`. An advantage is an entry of `ADVANTAGES` in
ehrmind/rl/advantages.py, and a ratio one of `IMPORTANCE`. Here the script adds the entry itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ehrmind.config import parse_recipe
from ehrmind.rl.losses import LOSSES, MicroBatch, with_penalty
from ehrmind.stages.pipeline import run_pipeline

if TYPE_CHECKING:
    from torch import Tensor


def cispo(batch: MicroBatch) -> Tensor:
    """−sg(clip(ratio)) · A · log π, averaged over the batch's tokens (MiniMax-M1, arXiv 2506.13585,
    eq. 4 and 5).

    The clip bounds a token's weight. The token still learns, which it does not under PPO's clip.
    """
    weight_NT = batch.ratio_NT.clamp(1 - batch.clip_low, 1 + batch.clip_high).detach()
    loss_NT = with_penalty(-weight_NT * batch.advantages_N1 * batch.logprobs_NT, batch)
    return loss_NT.sum() / max(batch.whole.tokens, 1)


RECIPE = """
data:
  train: {synthetic: {n: 40, seed: 1}}
  tuning: {synthetic: {n: 4, seed: 2}}
  held_out: {synthetic: {n: 4, seed: 3}}
model: {tiny: {hidden: 32, layers: 1, heads: 2, vocabulary: 400}}
decoding: {max_new_tokens: 24}
reward: {extra: {brevity: "add_a_reward:brevity"}}  # this model is never right, and something has to differ
rlvr: {loss: cispo, epochs_per_batch: 2, steps: 2, questions_per_step: 2, samples: 4, learning_rate: 0.01}
arms: [base, rlvr]
"""


def main() -> None:
    LOSSES["cispo"] = cispo
    recipe = parse_recipe(yaml.safe_load(RECIPE))
    with tempfile.TemporaryDirectory() as folder:
        run = run_pipeline(recipe, Path(folder) / "run", stages=("rlvr",))
        for row in run.metrics():
            print(f"step {row.step}: {recipe.rlvr.loss} {row.values['loss']:.4f}")


if __name__ == "__main__":
    main()
