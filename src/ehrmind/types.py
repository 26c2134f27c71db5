"""The vocabulary every room speaks: Case, Message, Prompt, Completion, Verdict, Group.

All types are frozen. Those that are stored (Case, Verdict) make a JSON round trip through
`to_json` and `from_json`; the others live for one step and hold token ids.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Split = Literal["train", "tuning", "held_out"]
FinishReason = Literal["stop", "length", "error"]


class InputError(ValueError):
    """Something a person gave us is wrong. The message is one sentence that names it and says what
    to do; the command line prints it without a traceback and exits with 2.
    """


@dataclass(frozen=True, slots=True)
class Case:
    """One question with a checkable answer.

    `stratum` is `family/category/task` in canonical spelling and never derived from the truth.
    `group` is the patient, note or topic: it never crosses splits. `fields` fill the prompt,
    `truth` feeds the task's check (its shape is the task's own), `rationale` is the source's worked
    answer. A case that is only to be predicted has a truth marked `"unanswered": true`, which says
    the form of the answer (kind, labels, unit, calculator) and no more.
    """

    id: str
    family: str
    task: str
    stratum: str
    split: Split
    group: str
    fields: Mapping[str, str]
    truth: Mapping[str, Any]
    rationale: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_answered(self) -> bool:
        """Whether the gold answer is known. Where it is not, the case can be asked, and neither
        learned from nor scored.
        """
        return not self.truth.get("unanswered", False)

    @property
    def place(self) -> str:
        """Place of the case, for messages: file and row. An id is shown where no file
        is known, and only if it is a short word: it may be what a file calls a patient.
        """
        cell = self.provenance.get("cell")
        known = cell if isinstance(cell, Mapping) else self.provenance
        file, row = known.get("file"), known.get("row")
        if isinstance(file, str) and isinstance(row, int):
            return f"row {row} of {file}"
        return self.id if re.fullmatch(r"[A-Za-z0-9_.:-]{1,120}", self.id) else f"a case of {self.stratum}"

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn; the tokenizer's own template turns messages into tokens."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt. `opening` is the part of the answer that the chat template itself wrote at
    the prompt's end (some templates open `<think>`); the judge reads it in front of the completion.
    `thinks` says whether a thought was asked for.
    """

    token_ids: tuple[int, ...]
    opening: str = ""
    thinks: bool = True


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens by one speaker. Tool output is a segment that is not trainable.

    `logprobs` are the sampler's: temperature-scaled, untruncated log-softmax in fp32, one per
    token.
    """

    role: Literal["assistant", "tool"]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Completion:
    """Text that a model wrote after a prompt. `text` is the last assistant segment with the opening
    restored; `earlier` what was said in turns before it, calls of a tool and their replies.
    """

    segments: tuple[Segment, ...]
    finish_reason: FinishReason
    text: str
    earlier: str = ""

    @property
    def n_tokens(self) -> int:
        """All turns, replies of tools included."""
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def n_written(self) -> int:
        """Tokens that the model wrote."""
        return sum(len(segment.token_ids) for segment in self.segments if segment.trainable)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one text. `correct` means well-formed and right; `reward` is the sum of
    `parts`; `answer` is what was parsed; `reason` names the failure and is None when the text is
    correct.
    """

    correct: bool
    reward: float
    parts: Mapping[str, float]
    answer: Any = None
    reason: str | None = None
    well_formed: bool = True

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Group:
    """The G sampled answers to one question, judged. `advantages` has one number per completion."""

    case: Case
    prompt: Prompt
    completions: Sequence[Completion]
    verdicts: Sequence[Verdict]
    advantages: Sequence[float] = ()

    @property
    def all_equal(self) -> bool:
        """No outcome differs, so the group teaches nothing about being right."""
        return len({verdict.correct for verdict in self.verdicts}) == 1
