"""An engine that writes planned answers, so that stages are tested in seconds and without torch's
weights.

`plan(prompt text, key, member, skill)` returns the text of an answer. `skill` counts learning
steps: a plan that improves with it stands for a model that learns. A token is a character.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehrmind.config import Decoding, Optimiser, Rlvr
from ehrmind.engines import Proof
from ehrmind.files import write_text, written_whole
from ehrmind.types import Completion, Group, Message, Prompt, Segment

Plan = Callable[[str, int, int, int], str]


@dataclass
class ScriptedEngine:
    """Answers by a plan.

    `skill` is its whole state, saved, loaded and resumed like a model's weights.
    """

    plan: Plan
    skill: int = 0
    context: int = 1 << 20

    @classmethod
    def load(cls, folder: Path, plan: Plan) -> ScriptedEngine:
        config = folder / "config.json"
        return cls(plan, json.loads(config.read_text(encoding="utf-8"))["skill"] if config.is_file() else 0)

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        return Prompt(tuple(ord(character) for message in messages for character in message.content))

    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        del own
        return tuple(ord(character) for character in text)

    def tool_turn(self, reply: str, *, thinks: bool = True) -> Prompt:
        return Prompt(tuple(ord(character) for character in f"[{reply}]"))

    def sample(
        self, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, decoding: Decoding
    ) -> list[list[Completion]]:
        return [
            [
                _completion(self.plan("".join(map(chr, prompt.token_ids)), key, member, self.skill))
                for member in range(group_size)
            ]
            for prompt, key in zip(prompts, keys, strict=True)
        ]

    def label_logprobs(self, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]:
        """Makes the label that the plan writes for member 0 a hundred times as likely as any
        other.
        """
        planned = [self.plan("".join(map(chr, prompt.token_ids)), 0, 0, self.skill) for prompt, _, _ in asked]
        return [
            [0.0 if label in text else math.log(0.01) for label in labels]
            for text, (_, _, labels) in zip(planned, asked, strict=True)
        ]

    def learner(
        self, optimiser: Optimiser, total_steps: int, *, rlvr: Rlvr | None = None, decoding: Decoding | None = None
    ) -> ScriptedLearner:
        return ScriptedLearner(self)

    def save(self, folder: Path) -> Proof:
        with written_whole(folder, private=True) as partial:
            write_text(partial / "config.json", json.dumps({"skill": self.skill}))
        return {}


@dataclass
class ScriptedLearner:
    """Counts steps."""

    engine: ScriptedEngine

    def learn_from_groups(self, groups: Sequence[Group]) -> dict[str, float]:
        self.engine.skill += 1
        return {"loss": 0.0}

    def learn_from_responses(self, pairs: Sequence[tuple[Prompt, tuple[int, ...]]]) -> dict[str, float]:
        self.engine.skill += 1
        return {"loss": 0.0}

    def save(self, folder: Path, progress: Mapping[str, Any]) -> None:
        with written_whole(folder, private=True) as partial:
            write_text(partial / "progress.json", json.dumps({**progress, "skill": self.engine.skill}))

    def resume(self, folder: Path) -> dict[str, Any]:
        progress: dict[str, Any] = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        self.engine.skill = progress["skill"]
        return progress


def _completion(text: str) -> Completion:
    tokens = tuple(ord(character) for character in text)
    return Completion((Segment("assistant", tokens, (0.0,) * len(tokens)),), "stop", text)
