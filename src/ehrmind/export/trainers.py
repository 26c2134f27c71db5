"""Export for users of verl or TRL: data, a launch script and a README in one folder, readable by
its owner alone.

    data/train.parquet  data/val.parquet  launch.sh  README.md  ehrmind.json

The trainer imports the reward, `ehrmind.verify.trainer_rewards`. No code of the verifier is copied.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ehrmind import __version__
from ehrmind.config import recipe_digest
from ehrmind.export.model import refuse_used
from ehrmind.export.questions import Asked, Material, gather
from ehrmind.export.readme import readme
from ehrmind.export.trainer_options import Carried, not_carried, refuse_our_own, trl_options, verl_options
from ehrmind.files import parquet_bytes, write_json, write_private, write_text, written_whole
from ehrmind.runs.records.exported import TrainerExport
from ehrmind.stages.models import ABOUT
from ehrmind.types import InputError

TRAINED_WITH = {"verl": "0.9.1", "trl": "1.16.0"}  # versions whose option names are written
PLAIN = re.compile(r"(?!(?:true|false|null|none|nan|inf)$)[a-z][a-z0-9_-]*", re.IGNORECASE)
SPLIT_NAMES = {"train": "train", "val": "tuning"}  # a file's name, and ours


def export_for(trainer: str, where: Path, out: Path, **chosen: Any) -> list[str]:
    """Writes the folder for `trainer` (verl or trl), whole or not at all, and returns lines for the
    user. Raises InputError."""
    refuse_used(out)
    material, fewer = _fitting(gather(where, **chosen))
    if trainer == "verl" and not material.tuning:
        raise InputError(
            f"Every prompt of tuning is longer than {material.longest_prompt} tokens, and verl must have some to"
            " validate on."
        )
    carried = _carried(trainer, material)
    missing = [*fewer, *not_carried(material.recipe, trainer), *material.not_carried]
    write_rows = {"verl": verl_rows, "trl": trl_rows}[trainer]
    with written_whole(out, private=True) as folder:
        (folder / "data").mkdir()
        for name, split in SPLIT_NAMES.items():
            if asked := getattr(material, split):
                _write_parquet(folder / "data" / f"{name}.parquet", write_rows(asked))
        write_text(folder / "launch.sh", launch_script(trainer, material, carried))
        (folder / "launch.sh").chmod(0o700)
        write_text(folder / "README.md", readme(trainer, TRAINED_WITH[trainer], material, carried, missing))
        write_json(folder / ABOUT, _about(trainer, material).to_dict())
    return [
        (
            f"wrote {out}: {len(material.train):,} cases to train on, {len(material.tuning):,} to validate; it holds"
            " record text"
        ),
        f"left out: {material.held_out:,} of held_out, which are never exported"
        + "".join(
            f"; {n:,} of {split} longer than {material.longest_prompt} tokens"
            for split, n in material.too_long.items()
            if n
        ),
        *(["no model was named, so no prompt was measured: --model DIR does"] if material.model is None else []),
        *(f"not carried over: {sentence}" for sentence in missing),
        f"start it by {out / 'launch.sh'}; README.md says what it needs",
    ]


def _fitting(material: Material) -> tuple[Material, list[str]]:
    """Lowers the questions per step to the number of cases, because neither trainer asks one twice
    in a step. Also returns what to say."""
    rlvr, there = material.recipe.rlvr, len(material.train)
    if rlvr.questions_per_step <= there:
        return material, []
    fewer = material.recipe.model_copy(update={"rlvr": rlvr.model_copy(update={"questions_per_step": there})})
    return dataclasses.replace(material, recipe=fewer), [
        f"rlvr.questions_per_step={rlvr.questions_per_step}: train has {there} cases"
    ]


def verl_rows(asked: Sequence[Asked]) -> list[dict[str, object]]:
    """Rows for verl's `RLHFDataset`; `ground_truth` is a Question as JSON."""
    return [
        {
            "data_source": f"ehrmind/{one.question.case.family}",
            "prompt": _turns(one),
            "ability": one.question.case.stratum,
            "reward_model": {"style": "rule", "ground_truth": one.question.to_json()},
            "extra_info": {"index": index, "split": one.question.case.split, "id": one.question.case.id},
        }
        for index, one in enumerate(asked)
    ]


def trl_rows(asked: Sequence[Asked]) -> list[dict[str, object]]:
    """Rows for TRL: a conversational prompt, and a Question as JSON in the column that the reward
    function reads."""
    return [{"prompt": _turns(one), "ehrmind": one.question.to_json(), "id": one.question.case.id} for one in asked]


def _turns(one: Asked) -> list[dict[str, str]]:
    return [dataclasses.asdict(message) for message in one.messages]


def _write_parquet(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    import polars as pl

    write_private(path, parquet_bytes(pl.DataFrame(rows, infer_schema_length=None)))


def _carried(trainer: str, material: Material) -> Carried:
    refuse_our_own(material.recipe, trainer)
    if trainer == "verl":
        return verl_options(material.recipe, material.longest_prompt, len(material.train))
    return trl_options(material.recipe, bool(material.tuning))


def launch_script(trainer: str, material: Material, carried: Carried) -> str:
    """A shell script that starts the trainer on its own folder. Options given to the script
    override those inside."""
    named = f"-{shlex.quote(str(material.model))}" if material.model else "?name the model, a directory or a hub id"
    head = HEAD.format(version=__version__, trainer=trainer, written=TRAINED_WITH[trainer], model=f"${{MODEL:{named}}}")
    if trainer == "verl":
        start = VERL
        own = [shlex.quote(f"{option}={_hydra(value)}") for _, option, value in carried]
    else:
        answers = material.recipe.rlvr.questions_per_step * material.recipe.rlvr.samples
        start = TRL.format(answers=answers, at_once=max(size for size in range(1, 9) if answers % size == 0))
        own = [
            f"--{option} {shlex.join(map(str, value if isinstance(value, list) else [value]))}"
            for _, option, value in carried
        ]
    return head + " \\\n  ".join([start, *own, '"$@"']) + "\n"


def _hydra(value: Any) -> str:
    """Writes a value in the grammar of Hydra's overrides. A backslash escapes only before a
    quote."""
    if isinstance(value, list):
        return f"[{','.join(map(_hydra, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_hydra(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        return "'" + re.sub(r"(\\*)('|\Z)", lambda end: 2 * end[1] + ("\\'" if end[2] else ""), value) + "'"
    return "null" if value is None else str(value)


def _about(trainer: str, material: Material) -> TrainerExport:
    carried = {"name", "seed", "prompts", "decoding", "reward", "rlvr"}
    return TrainerExport(
        ehrmind=__version__,
        trainer={trainer: TRAINED_WITH[trainer]},
        restricted=bool(material.restricted_because),
        restricted_because=tuple(material.restricted_because),
        cases={"train": len(material.train), "tuning": len(material.tuning), "held_out": 0},
        left_out={"held_out": material.held_out, "too_long": dict(material.too_long)},
        longest_prompt=material.longest_prompt,
        measured=material.model is not None,
        recipe_digest=recipe_digest(material.recipe),
        data_digest=material.data_digest,
        recipe=json.loads(material.recipe.model_dump_json(include=carried)),
    )


HEAD = """#!/usr/bin/env bash
# Written by ehrmind {version} for {trainer} {written}. Options behind it are added, and count in place of those below.
# Data, caches and checkpoints hold what records say; they stay in this folder.
set -euo pipefail
umask 077
HERE=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
MODEL={model}
OUT=${{OUT:-$HERE/checkpoints}}
export HF_DATASETS_CACHE="$HERE/cache" HF_HUB_OFFLINE=${{HF_HUB_OFFLINE:-1}} HF_HUB_DISABLE_TELEMETRY=1
export DO_NOT_TRACK=1 RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1
"""

VERL = """# NODES × GPUS devices (RAY_ADDRESS joins a running cluster); ENGINE (vllm or sglang) answers, each on TENSOR_PARALLEL devices.
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
quoted() { printf "'%s'" "${1//\\'/\\\\\\'}"; }
exec "${PYTHON:-python3}" -m verl.trainer.main_ppo \\
  "data.train_files=$(quoted "$HERE/data/train.parquet")" \\
  "data.val_files=$(quoted "$HERE/data/val.parquet")" \\
  data.filter_overlong_prompts=True \\
  reward.custom_reward_function.path=pkg://ehrmind.verify.trainer_rewards \\
  reward.custom_reward_function.name=compute_score \\
  "actor_rollout_ref.model.path=$(quoted "$MODEL")" \\
  "actor_rollout_ref.rollout.name=${ENGINE:-vllm}" \\
  "actor_rollout_ref.rollout.tensor_model_parallel_size=${TENSOR_PARALLEL:-1}" \\
  "trainer.nnodes=${NODES:-1}" \\
  "trainer.n_gpus_per_node=${GPUS:-8}" \\
  "trainer.default_local_dir=$(quoted "$OUT")" \\
  trainer.project_name=ehrmind \\
  'trainer.logger=[console]' \\
  "+ray_kwargs.ray_init.runtime_env.env_vars.HF_DATASETS_CACHE=$(quoted "$HERE/cache")\""""

TRL = """# PROCESSES in all, PER_DEVICE answers at once on each; LAUNCH starts them, such as "accelerate launch --config_file MINE.yaml".
PROCESSES=${{PROCESSES:-1}}
PER_DEVICE=${{PER_DEVICE:-{at_once}}}
ACCUMULATION=$(({answers} / (PROCESSES * PER_DEVICE)))
if [ $((ACCUMULATION * PROCESSES * PER_DEVICE)) -ne {answers} ]; then
  echo "A step has {answers} answers, which PROCESSES=$PROCESSES times PER_DEVICE=$PER_DEVICE does not divide; choose others." >&2
  exit 2
fi
exec ${{LAUNCH:-accelerate launch --num_processes "$PROCESSES"}} -m trl.scripts.grpo \\
  --dataset_name "$HERE/data" \\
  --dataset_test_split validation \\
  --reward_funcs ehrmind.verify.trainer_rewards.ehrmind_reward \\
  --model_name_or_path "$MODEL" \\
  --output_dir "$OUT" \\
  --per_device_train_batch_size "$PER_DEVICE" \\
  --per_device_eval_batch_size "$PER_DEVICE" \\
  --gradient_accumulation_steps "$ACCUMULATION" \\
  --steps_per_generation "$ACCUMULATION" \\
  --logging_steps 1 \\
  --report_to none"""
