"""The stage of the baselines: what needs no language model answers the same cases as the arms.

The answers are stored, judged as a model's are, and compared with the arms in results.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ehrmind.config import Recipe
from ehrmind.prompts.protocol import wrap
from ehrmind.runs import Run
from ehrmind.runs.records import HELD_OUT, Guess, Guesses, LabelMeasures
from ehrmind.stages.context import StageContext
from ehrmind.stages.evaluation.bag_of_words import bag_of_words
from ehrmind.stages.evaluation.boosting import boosted_counts
from ehrmind.stages.evaluation.comparison import Outcome, measures_by_task, right_by_benchmark
from ehrmind.stages.evaluation.guesses import commonest_label, commonest_label_oracle, majority_label
from ehrmind.types import Case
from ehrmind.verify import judge

STAGE, FILE = "baselines", "protected/baselines.json"
BASELINES: Mapping[str, Callable[[Sequence[Case], Sequence[Case]], Mapping[str, Guess]]] = {
    "commonest_label": commonest_label,
    "commonest_label_oracle": commonest_label_oracle,
    "majority_label": majority_label,
    "bag_of_words": bag_of_words,
}  # each takes the cases of train and the cases that are asked


def run_baselines(context: StageContext) -> None:
    """Writes the answers of all baselines to the held-out cases and the transfer sets. A baseline
    answers the cases that it is made for; gradient boosting only held-out ones."""
    run, recipe, splits = context.run, context.recipe, context.splits
    with run.stage(STAGE) as facts:
        answers: dict[str, dict[str, Mapping[str, Guess]]] = {}
        for name, asked in {HELD_OUT: splits[HELD_OUT], **context.transfer}.items():
            found = {baseline: answer(splits["train"], asked) for baseline, answer in BASELINES.items()}
            if name == HELD_OUT:
                before = recipe.prompts.history.strictly_before
                found["gradient_boosting"] = boosted_counts(
                    splits["train"], asked, seed=recipe.seed, strictly_before=before
                )
            answers[name] = {baseline: guesses for baseline, guesses in found.items() if guesses}
        run.write_record(FILE, Guesses(answers=answers))
        facts["cases"] = {
            name: {baseline: len(guesses) for baseline, guesses in found.items()} for name, found in answers.items()
        }


def baseline_outcomes(run: Run, recipe: Recipe, cases: Sequence[Case], where: str) -> dict[str, list[Outcome]]:
    """Reads and judges the baselines' answers to one set of cases; empty if there are none."""
    stored = run.read_record(FILE, Guesses)
    found = {} if stored is None else stored.answers.get(where, {})
    return {
        baseline: [_outcome(recipe, case, guesses[case.id]) for case in cases if case.id in guesses]
        for baseline, guesses in found.items()
    }


def baseline_measures(found: Mapping[str, Sequence[Outcome]]) -> dict[str, Mapping[str, LabelMeasures]]:
    """Returns the measures of the baselines that answer with labels, by baseline and
    family/task."""
    return {name: measures for name, rows in found.items() if (measures := measures_by_task(rows))}


def _outcome(recipe: Recipe, case: Case, guess: Guess) -> Outcome:
    text = "" if guess.answer is None else wrap(None, guess.answer)
    verdict = judge(case, text, think=False)
    return Outcome(
        case=case,
        stratum=case.stratum,
        well_formed=verdict.well_formed,
        ehrmind=verdict.correct,
        benchmark=right_by_benchmark(recipe, case, text, verdict.correct),
        answer=verdict.answer if verdict.well_formed else None,
        probabilities=guess.probabilities,
        tokens=0,
        prompt_tokens=0,
    )
