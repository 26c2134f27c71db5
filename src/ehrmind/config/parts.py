"""The recipe's other parts: model, prompts, decoding, and a part for every stage. Defaults are the paper's where it states them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from ehrmind import tasks
from ehrmind.config.choices import OneOf
from ehrmind.config.data import DataSource, History
from ehrmind.config.section import Section
from ehrmind.rl.advantages import ADVANTAGES
from ehrmind.rl.losses import IMPORTANCE, LOSSES


class TinyModel(Section):
    """A small model built here: random weights, a BPE tokenizer trained on made-up text only."""

    family: Literal["llama", "qwen3", "gemma3"] = Field(default="llama", description="the architecture")
    hidden: PositiveInt = Field(default=128, description="width of a layer")
    layers: PositiveInt = Field(default=4, description="how many")
    heads: PositiveInt = Field(default=4, description="attention heads a layer")
    vocabulary: PositiveInt = Field(default=1024, description="tokens of the tokenizer")
    context: PositiveInt = Field(default=4096, description="the longest sequence")
    sliding_window: PositiveInt | None = Field(
        default=None, description="of families that have such layers: how far they look back"
    )


class Lora(Section):
    """Train an adapter in place of all weights."""

    rank: PositiveInt = Field(default=16, description="of the adapter's matrices")
    alpha: PositiveInt = Field(default=32, description="the adapter counts alpha / rank times")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="on the adapter's input, in training")
    targets: list[str] | Literal["all-linear"] = Field(
        default="all-linear", description="names of the modules that get an adapter"
    )


class Model(Section):
    """`name` takes any causal LM `transformers` loads from a directory or the hub's cache; `tiny` builds one."""

    name: str | None = Field(default=None, description="a directory as `save_pretrained` writes it, or a hub id")
    tiny: TinyModel | None = Field(default=None, description="in place of name: a small model built here")
    revision: str | None = Field(default=None, description="a hub model's commit, tag or branch")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the weights; bfloat16 ones that are trained have fp32 masters"
    )
    autocast: bool = Field(default=False, description="computes in bf16, in sampling and in training")
    lora: Lora | None = Field(default=None, description="train an adapter in place of all weights")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes CUDA where there is one")
    template: dict[str, Any] = Field(
        default={}, description="extra arguments of the chat template, such as enable_thinking"
    )
    date: datetime.date | None = Field(
        default=None,
        description="the day that a chat template gets which writes today's; by default that on which the run began",
    )

    @model_validator(mode="after")
    def one_model(self) -> Model:
        if (self.name is None) == (self.tiny is None):
            raise ValueError("give exactly one of name and tiny")
        return self


class Prompts(Section):
    """Of every family; `history` is for coded records."""

    think: bool = Field(default=True, description="ask for a <think> block before the answer")
    tool: bool = Field(
        default=False, description="let the model call the calculators and arithmetic, in training and in evaluation"
    )
    hints: list[Annotated[str, OneOf(tasks.hint_causes)]] = Field(
        default=[], description="laid beside every question, in training and in evaluation: an open book"
    )
    max_tokens: PositiveInt = Field(default=2048, description="of a prompt, the chat template's included")
    history: History = History()
    too_long: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="a prompt that is left out of training is counted; in evaluation it scores as wrong",
    )


class Decoding(Section):
    """Sampling; temperature 0 is greedy. Top-p (the paper: 0.95) and top-k are off: a filter biases the log-probabilities."""

    temperature: NonNegativeFloat = Field(default=0.6, description="0 is greedy")
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="only the likeliest tokens that make up this share; 1: off"
    )
    top_k: int = Field(default=0, ge=0, description="only so many of the likeliest tokens; 0: off")
    max_new_tokens: PositiveInt = Field(default=512, description="an answer is cut there")


class Optimiser(Section):
    learning_rate: PositiveFloat = Field(default=1e-6, description="the highest; AdamW")
    warmup_share: float = Field(
        default=0.1, ge=0.0, lt=1.0, description="of the steps, in which the learning rate rises to it"
    )
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="of the learning rate after that")
    final_share: float = Field(
        default=0.1, ge=0.0, le=1.0, description="cosine ends at this share of the learning rate"
    )
    weight_decay: NonNegativeFloat = Field(default=0.0, description="AdamW's, on all weights that are trained")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW's, of the mean and of the square")
    max_gradient_norm: PositiveFloat = Field(default=1.0, description="a longer gradient is scaled down to it")
    tokens_per_microbatch: PositiveInt = Field(
        default=16384, description="packed tokens computed at once; never by free memory"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="less memory, more time: activations are computed twice"
    )


class Pilot(Section):
    """Samples k answers to questions of `train` to see what the base model can and cannot do."""

    questions: PositiveInt = Field(default=240, description="spread evenly over the strata")
    samples: PositiveInt = Field(default=8, description="answers to each: the k of pass@k")
    interventions: NonNegativeInt = Field(
        default=120,
        description="questions of strata that are not solid, asked again with help to find where they fail; 0: none",
    )


class Warmup(Optimiser):
    """Supervised warm-up on gold responses. Defaults are the paper's."""

    learning_rate: PositiveFloat = Field(default=2e-5, description="the highest; AdamW")
    strata: Literal["missing", "all"] | list[str] = Field(
        default="all", description="`missing`: where the pilot saw no right answer"
    )
    traces: Literal["source", "calculators", "pilot", "teacher"] = Field(
        default="source",
        description="worked answers: the data's own; written from the calculators' steps in several styles; the model's own right "
        "answers in the pilot (rejection sampling), for data without explanations; or those of `teacher`, a model that is told the answers",
    )
    rounds: int = Field(
        default=0, ge=0, description="of traces=pilot: times its questions without a right answer are sampled again"
    )
    traces_per_stratum: PositiveInt | None = Field(
        default=None, description="at most so many worked answers each; all by default"
    )
    rehearsal: NonNegativeFloat = Field(
        default=0.0, description="answers in the other strata to learn as well, per trace"
    )
    rehearse: Literal["own", "worked"] = Field(
        default="own",
        description="of rehearsal: the base's own answers in the pilot, right or wrong, or worked answers",
    )
    epochs: PositiveInt = Field(default=2, description="times that every worked answer is learnt from")
    batch: PositiveInt = Field(default=16, description="worked answers a step")
    checkpoint_every: PositiveInt = Field(default=50, description="steps from one checkpoint to the next")

    @model_validator(mode="after")
    def something_to_rehearse(self) -> Warmup:
        if self.rehearsal and self.strata == "all":
            raise ValueError(
                "rehearsal keeps the strata that are not warmed up, and strata=all leaves none; name them, or use missing"
            )
        if self.rehearse == "worked" and self.traces in ("pilot", "teacher"):
            raise ValueError(
                f"rehearse=worked takes worked answers that are there, and traces={self.traces} makes its own; use rehearse=own"
            )
        return self


class Rlvr(Optimiser):
    """GRPO and its relatives. Defaults are the paper's (arXiv 2505.24105) where it states them."""

    steps: PositiveInt = Field(default=100, description="batches of questions, each answered, judged and learnt from")
    questions_per_step: PositiveInt = Field(default=32, description="all families together")
    samples: PositiveInt = Field(default=12, ge=2, description="answers to a question: the group")
    advantage: Annotated[str, OneOf(lambda: ADVANTAGES)] = Field(
        default="grpo",
        description="reward less the group's mean, over its spread; without the division; less the mean of the others",
    )
    loss: Annotated[str, OneOf(lambda: LOSSES)] = Field(
        default="dapo", description="divided by: answer, batch's tokens, a constant"
    )
    importance: Annotated[str, OneOf(lambda: IMPORTANCE)] = Field(
        default="token",
        description="sequence is GSPO's: one ratio an answer; its paper has loss=grpo, kl=0 and clips of 0.0003 and 0.0004",
    )
    clip_low: NonNegativeFloat = Field(
        default=0.2, description="a ratio further below 1 than this counts as that far, in answers that sink"
    )
    clip_high: NonNegativeFloat = Field(
        default=0.2, description="0.28 is DAPO's clip-higher; clips bind from a batch's second epoch on"
    )
    kl: NonNegativeFloat = Field(
        default=0.001, description="k3 against the frozen starting model; 0 keeps no reference"
    )
    epochs_per_batch: PositiveInt = Field(default=1, description="updates on the same answers")
    mask_truncated: bool = Field(default=False, description="answers cut at the token limit leave the loss")
    dynamic_sampling: int = Field(
        default=0, ge=0, description="rounds of fresh questions in place of all-equal groups (DAPO's dynamic sampling)"
    )
    curriculum: Literal["uniform", "pass_rate"] = Field(
        default="uniform",
        description="each once an epoch; or those whose answers still differ, by the weight p(1 − p) of pass rate p",
    )
    pass_rate_floor: NonNegativeFloat = Field(
        default=0.05, description="added to p(1 − p), which is 0.25 at most: none is lost for good"
    )
    pass_rate_memory: float = Field(
        default=0.9, gt=0.0, le=1.0, description="what an answer still counts for, a step later"
    )
    mix: dict[str, PositiveFloat] = Field(
        default={}, description="each family's part of every step's questions; empty: as train has them"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: a right label earns N / (K · N_label) times as much; advantage=grpo would undo it",
    )
    tuning_every: PositiveInt = Field(
        default=20, description="steps between checks on tuning, which choose the weights that are kept"
    )
    patience: PositiveInt | None = Field(
        default=None, description="stop after so many checks on tuning without a better mean of as many"
    )
    on_alarm: Literal["warn", "stop"] = Field(default="warn", description="what an alarm does; docs/rlvr.md lists them")
    checkpoint_every: PositiveInt = Field(default=10, description="steps from one checkpoint to the next")

    @model_validator(mode="after")
    def families_are_known(self) -> Rlvr:
        for family in self.mix:
            if family not in tasks.TASKS:
                nearest = get_close_matches(family, tasks.TASKS, n=1)
                hint = f"did you mean '{nearest[0]}'?" if nearest else f"families are {', '.join(tasks.TASKS)}"
                raise ValueError(f"mix names the family '{family}', which does not exist; {hint}")
        return self

    @model_validator(mode="after")
    def weights_are_felt(self) -> Rlvr:
        if self.class_weights != "none" and self.advantage == "grpo":
            raise ValueError(
                "class_weights with advantage=grpo would be undone, as it divides a group by its spread; use dr_grpo or rloo"
            )
        return self


class General(Section):
    """General questions that every arm answers as `transfer.general`: sums and short readings made up here, or another source's."""

    n: PositiveInt = Field(default=200, description="how many, where they are made up")
    seed: int = Field(default=0, description="of the made-up ones")
    source: DataSource | None = Field(default=None, description="in place of made-up questions, such as a table")
    margin: float = Field(
        default=0.05, gt=0.0, lt=1.0, description="of accuracy that a trained arm may lose against base"
    )
    gate: bool = Field(
        default=False, description="the command fails (exit code 1) where an arm is not shown to keep within the margin"
    )


class Evaluate(Section):
    """How every arm is scored on the held-out cases."""

    decodings: list[Literal["greedy", "sampled"]] = Field(
        default=["greedy", "sampled"],
        min_length=1,
        description="the first is the headline; sampled is at decoding.temperature",
    )
    probabilities: Literal["answer_tokens", "samples"] = Field(
        default="answer_tokens",
        description="of labels: those of the answer's place, or each label's share among further answers",
    )
    samples: PositiveInt = Field(
        default=8, description="further answers to every held-out case, where probabilities are samples'"
    )
    shots: PositiveInt = Field(default=3, description="worked examples before a question of the arms _few_shot")
    votes: PositiveInt = Field(default=8, description="samples that the arms _majority and _best choose from")
    repeats: int = Field(
        default=0,
        ge=0,
        description="samples of every held-out case, for pass@k, majority@k and what their agreement says; 0: none",
    )
    general: General | None = Field(
        default=None, description="ask general questions too, to see what training makes a model forget"
    )
    baseline: bool = Field(
        default=True, description="for coded histories: gradient boosting on counts of codes beside the arms"
    )
    trec_runs: bool = Field(
        default=False, description="also write a TREC run file per arm and decoding, of patient-trial matching"
    )
    scorer: Literal["ehrmind", "benchmark"] = Field(
        default="ehrmind", description="the headline scorer; both are always shown"
    )


class Tracking(Section):
    """Curves for other programs; nothing is sent anywhere."""

    tensorboard: bool = Field(default=False, description="also write the curves for TensorBoard, from metrics.jsonl")


def workers_said(cluster: Any) -> int | None:
    """How many workers a recipe's `cluster` names, itself or by its address."""
    if not isinstance(cluster, Mapping):
        return None
    if "workers" in cluster:
        return cluster["workers"] if isinstance(cluster["workers"], int) and cluster["workers"] > 0 else None
    nodes = str(cluster.get("address")).removeprefix("local:")
    return int(nodes) if nodes.isdecimal() and int(nodes) > 0 else None


class Cluster(Section):
    """Who runs the recipe. Nothing here is part of the result: a run may be resumed by other workers."""

    address: str | None = Field(
        default=None, description="of a Ray cluster: HOST:PORT, or local:N for N nodes on this machine"
    )
    workers: PositiveInt = Field(default=1, description="processes, a device each; they divide `shards`")
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="fsdp: gradients and optimiser are cut among the workers, for models that one device cannot train",
    )
    restarts: NonNegativeInt = Field(
        default=3, description="how often a Ray cluster starts the workers again after one of them or a node was lost"
    )

    @model_validator(mode="before")
    @classmethod
    def local_nodes_have_a_worker_each(cls, tree: Any) -> Any:
        """`local:N` says how many there are, unless `workers` does."""
        said = workers_said(tree)
        return {**tree, "workers": said} if said is not None else tree
