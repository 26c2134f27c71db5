"""TRL 1.16's GRPOTrainer on what `ehrmind export trl` writes: a step with our reward, in a script
of one's own and by launch.sh.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ehrmind.verify import judge
from ehrmind.verify.trainer_rewards import Question, ehrmind_reward
from tests.exported import prepared_run
from tests.new_rows import ehrmind

trl = pytest.importorskip("trl", reason="TRL is not installed; `make setup` installs it")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning:transformers")]
REWARD = {"malformed": -2.0, "truncated": -1.5, "wrong": 0.0, "correct": 1.0, "correct_format": 0.1}


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported for a model whose template opens no thought, and for one whose template does."""
    place = tmp_path_factory.mktemp("trl")
    run = prepared_run(
        place / "run", request.param, reward=REWARD, rlvr={"samples": 4, "questions_per_step": 2, "steps": 1}
    )
    assert ehrmind("export", "trl", run.path, "--out", place / "out") == 0
    return place / "out"


def test_a_step_of_a_script_of_ones_own_pays_what_our_judge_says(folder: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoTokenizer

    model = str(folder.parent / "run" / "protected" / "models" / "base")
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    seen: list[tuple[Question, str, bool, float]] = []

    def watched(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        paid = ehrmind_reward(prompts, completions, completion_ids=completion_ids, **columns)
        for text, ids, row, reward in zip(completions, completion_ids, columns["ehrmind"], paid, strict=True):
            assert text[-1]["content"] == tokenizer.decode(ids, skip_special_tokens=True)
            seen.append((Question.from_json(row), text[-1]["content"], len(ids) >= 16, reward))
        return paid

    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=16,
        max_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    data = load_dataset(str(folder / "data"), cache_dir=str(tmp_path / "cache"))
    trainer = trl.GRPOTrainer(model=model, reward_funcs=watched, args=arguments, train_dataset=data["train"])
    trainer.train()
    assert trainer.state.global_step == 1 and len(seen) == 8
    for question, text, cut, reward in seen:
        verdict = judge(
            question.case,
            question.opening + text,
            finish_reason="length" if cut else "stop",
            reward=question.reward,
            think=True,
        )
        assert reward == verdict.reward and question.opening == (
            "<think>\n" if "qwen3" in str(trainer.model.config.model_type) else ""
        )
    assert {cut for _, _, cut, _ in seen} and {reward for *_, cut, reward in seen if cut} <= {-1.5, 0.0, 1.1}


def test_the_launch_script_trains_validates_and_leaves_everything_in_its_folder(folder: Path, tmp_path: Path) -> None:
    environment = os.environ | {"LAUNCH": sys.executable, "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hub")}
    more = ["--use_cpu", "True", "--eval_steps", "1", "--save_steps", "1"]
    done = subprocess.run(
        [folder / "launch.sh", *more], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = done.stdout + done.stderr
    for figure in ("rewards/ehrmind_reward/mean", "eval_rewards/ehrmind_reward/mean"):
        assert -2.0 <= float(re.findall(rf"'{figure}': '(\S+)'", told)[-1]) <= 1.1
    assert (folder / "checkpoints" / "checkpoint-1" / "model.safetensors").is_file() and (folder / "cache").is_dir()
    assert not list(tmp_path.rglob("*.arrow"))
