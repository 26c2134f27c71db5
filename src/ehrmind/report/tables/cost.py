"""Tables of cost: time, answers, tokens and money by arm, and time by stage."""

from __future__ import annotations

from collections.abc import Sequence

from ehrmind.config import split_arm
from ehrmind.report.formatting import ABSENT, Rows, Table, arm_name, duration, number
from ehrmind.report.reading import Figures, expected_stages
from ehrmind.runs.records import ArmResult, StageKey

TRAINING_STAGES: dict[str, tuple[str, ...]] = {
    "base": (),
    "rlvr": ("rlvr-rlvr",),
    "sft": ("warmup",),
    "sft_rlvr": ("warmup", "rlvr-sft_rlvr"),
}


def by_arm(figures: Figures) -> Table:
    """Time, answers and tokens of every arm; money only where an endpoint's prices are known."""
    seconds = figures.results.seconds
    rows: Rows = []
    money: list[float | None] = []
    for arm, row in figures.results.arms.items():
        stages = () if arm in figures.recipe.endpoints else TRAINING_STAGES[split_arm(arm)[0]]
        scored = row.cost.seconds
        if scored is None:
            scored = seconds.get(str(StageKey.scoring(arm, figures.results.decoding)))
        money.append(_money(figures, row, stages))
        rows.append(
            [
                arm_name(arm),
                duration(sum(seconds.get(stage, 0.0) for stage in stages)) if stages else ABSENT,
                number(_sampled(figures, stages)),
                duration(scored) if scored is not None else ABSENT,
                number(row.cost.prompt_tokens),
                number(row.cost.tokens),
            ]
        )
    caption = (
        "The cost of each arm: training (a warm-up counts for every arm that starts from it), and scoring the held-out "
        f"cases once, {figures.results.decoding} decoding."
    )
    titles = ["Arm", "Learning", "Answers sampled to learn", "Scoring", "Tokens read", "Tokens written"]
    if not any(money):
        return Table(caption, titles, rows)
    with_money = [[*row, number(paid)] for row, paid in zip(rows, money, strict=True)]
    caption += " Money is what endpoints cost by the recipe's prices, the teacher included."
    return Table(caption, [*titles, "Money"], with_money)


def _sampled(figures: Figures, stages: Sequence[str]) -> int | None:
    """Answers sampled in RLVR, with those of dynamic sampling; None where there are none."""
    arms = [StageKey.parse(stage).arm for stage in stages if StageKey.parse(stage).kind == "rlvr"]
    marks = [figures.rlvr[arm] for arm in arms if arm in figures.rlvr]
    if not marks:
        return None
    return sum(sum(mark.asked_by_stratum.values()) for mark in marks) * figures.recipe.rlvr.samples


def _money(figures: Figures, row: ArmResult, stages: Sequence[str]) -> float | None:
    if row.endpoint is not None:
        return row.endpoint.cost
    if "warmup" not in stages or figures.warmup is None or figures.warmup.teacher is None:
        return None
    return figures.warmup.teacher.cost


def by_stage(figures: Figures) -> Table:
    spent = figures.results.seconds
    order = list(map(str, expected_stages(figures.recipe)))
    stages = sorted(spent, key=lambda stage: order.index(stage) if stage in order else -1)
    rows = [*([stage, duration(spent[stage])] for stage in stages), ["all", duration(sum(spent.values()))]]
    return Table("Time by stage (of its last attempt, where it was resumed).", ["Stage", "Time"], rows)
