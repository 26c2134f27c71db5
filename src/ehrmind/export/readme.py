"""The README of a folder exported for another trainer: its files, its needs, and which settings are
carried over."""

from __future__ import annotations

from collections.abc import Sequence

from ehrmind import __version__
from ehrmind.export.questions import Material
from ehrmind.export.trainer_options import Carried

COLUMNS = {
    "verl": (
        "`data_source`, `prompt` (chat messages), `ability` (the stratum), `reward_model` (its `ground_truth` is the"
        " whole case and\nhow it is judged, as JSON), `extra_info`"
    ),
    "trl": "`prompt` (chat messages), `ehrmind` (the whole case and how it is judged, as JSON), `id`",
}
OWN_SCRIPT = {
    "verl": (
        """```
reward.custom_reward_function.path=pkg://ehrmind.verify.trainer_rewards
reward.custom_reward_function.name=compute_score
```"""
    ),
    "trl": (
        """```python
from datasets import load_dataset
from trl import GRPOTrainer

from ehrmind.verify.trainer_rewards import ehrmind_reward

data = load_dataset("data")  # splits: train, validation
GRPOTrainer(model=MODEL, reward_funcs=ehrmind_reward, train_dataset=data["train"], args=ARGUMENTS)
```"""
    ),
}
AFTERWARDS = {
    "verl": (
        "verl's checkpoints are shards; one becomes a model directory by\n`python -m verl.model_merger merge --backend"
        " fsdp --local_dir checkpoints/global_step_N/actor --target_dir MODEL`."
    ),
    "trl": (
        "A checkpoint is a model directory, and ehrmind opens none with pickles in it: remove its `.bin`, `.pt` and"
        " `.pth` files (they\nresume TRL). With `use_peft` it is an adapter, which `ehrmind export model"
        " checkpoints/checkpoint-N --merge --out MODEL` merges."
    ),
}
PAGE = """# {name}: for {trainer}

Made by ehrmind {version} for {trainer} {written}. **These files hold record text.** The folder is readable by its owner alone;
`launch.sh` keeps caches and checkpoints inside it and reports to nobody.
{restricted}
| file | cases | what for |
| --- | --- | --- |
| `data/train.parquet` | {train:,} | the split `train`: learned from |
| `data/val.parquet` | {tuning:,} | the split `tuning`: validation, and choosing a checkpoint |
| not here | {held_out:,} | the split `held_out`: never exported; `ehrmind evaluate` scores it when training is over |

Columns: {columns}.

{measured}

## Needs

{trainer} {written}, and ehrmind {version} without extras in every environment and on every node where answers are scored. Then
`./launch.sh`: its top says which variables name the machines, and options behind it count in place of its own. In a script of your own:

{own_script}

## How an answer is judged

By ehrmind's verifier: right {right:g}, wrong {reward.wrong:g}, malformed {reward.malformed:g}, cut and malformed
{reward.truncated:g}; thinking is {thinking}. {opening}

## Carried over

| recipe | {trainer} | value |
| --- | --- | --- |
{rows}
Not carried over:

{missing}
## Afterwards

{afterwards}
Any model directory is scored on the held-out cases that stayed behind: `ehrmind evaluate RECIPE --out RUN model.name=MODEL`.
"""


def readme(trainer: str, written: str, material: Material, carried: Carried, missing: Sequence[str]) -> str:
    """Markdown, without record text."""
    recipe, reward = material.recipe, material.recipe.reward
    return PAGE.format(
        name=recipe.name,
        trainer=trainer,
        version=__version__,
        written=written,
        restricted=_restricted(material),
        train=len(material.train),
        tuning=len(material.tuning),
        held_out=material.held_out,
        columns=COLUMNS[trainer],
        measured=_measured(material),
        own_script=OWN_SCRIPT[trainer],
        right=reward.correct + reward.correct_format,
        reward=reward,
        thinking="asked for" if recipe.prompts.think else "not asked for",
        opening=_opening(material),
        rows="".join(f"| `{key}` | `{option}` | `{_cell(value)}` |\n" for key, option, value in carried),
        missing="".join(f"- {sentence}\n" for sentence in missing),
        afterwards=AFTERWARDS[trainer],
    )


def _restricted(material: Material) -> str:
    if not material.restricted_because:
        return ""
    where = ", ".join(material.restricted_because)
    return (
        f"\n**Restricted data** ({where}): this folder, and any model trained on it, never leave the machines where the"
        " records may be.\n"
    )


def _measured(material: Material) -> str:
    if material.model is None:
        return (
            "No model was named, so no prompt was measured: too long ones are the trainer's to leave out. `--model DIR`"
            " measures them."
        )
    left_out = f"{material.too_long['train']:,} of train and {material.too_long['tuning']:,} of tuning"
    return (
        f"Left out, as longer than {material.longest_prompt:,} tokens through the model's own chat template:"
        f" {left_out}."
    )


def _opening(material: Material) -> str:
    if material.model is None:
        return (
            "Where the model's chat template opens `<think>` itself, export with `--model DIR`: else every thought"
            " lacks its opening."
        )
    opening = next((one.question.opening.strip() for one in material.train if one.question.opening), "")
    if not opening:
        return "The chat template opens no thought, so nothing is put in front of an answer."
    return f"The chat template opens every answer by `{opening}`; the rows say so, and the judge reads it in front."


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("`", "'")
