"""Prediction: a model answers cases without a known answer, part by part, so that a killed
prediction can be resumed.

    Cases -> prompts -> completions -> rows, a file per part -> all rows, ranked if they are trials

The judge is never called. A case is asked as in the run that trained the model (`models.choose`),
by the local engine or an endpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ehrmind import tasks
from ehrmind.config.predict import Predict
from ehrmind.engines import Sampler
from ehrmind.engines.tools import sample_with_tool
from ehrmind.engines.uniforms import question_key
from ehrmind.predict.models import PredictionModel
from ehrmind.predict.rows import ranked, row_of, unasked
from ehrmind.prompts import messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.records import with_histories
from ehrmind.runs.lock import writes_into
from ehrmind.runs.predictions import Format, Predictions, frame_of, open_predictions
from ehrmind.runs.records import Asked, PredictedData, PredictionCounts, PredictionProvenance
from ehrmind.runs.records.prediction_row import PredictionRow
from ehrmind.stages.evaluation.label_predictions import prediction_frames
from ehrmind.stages.models import share_machine
from ehrmind.stages.progress import progress
from ehrmind.stages.prompt_limit import prompt_limit
from ehrmind.stages.provenance import versions
from ehrmind.stages.rollout import answer_probabilities
from ehrmind.stages.tool import calculator_tool
from ehrmind.types import Case, Group, InputError, Prompt
from ehrmind.world import current

PURPOSE = "predict"  # keeps its random numbers apart from those of training and evaluation


@writes_into("out")
def predict(
    cases: Sequence[Case],
    out: Path,
    settings: Predict,
    model: PredictionModel,
    *,
    data: str,
    form: Format = "parquet",
    resume: bool = False,
) -> Predictions:
    """Answers every case once. `data` is the name of the cases' file. Raises InputError."""
    if not cases:
        raise InputError(f"{data} holds no case, so there is nothing to predict.")
    probable = model.gives_probabilities
    _refuse_without_confidence(cases, settings, probable=probable)
    about = PredictedData(name=data, cases=len(cases), sha256=digest_of(cases))
    asked = Asked(model=model.about, data=about, settings=settings.model_dump(mode="json"))
    folder = open_predictions(out, asked.to_dict(), resume=resume)
    if folder.final() is not None:
        folder.tidy()
        return folder
    share_machine(settings.shards, settings.threads)
    written = folder.written_parts()
    starts = {
        number: start for number, start in enumerate(range(0, len(cases), settings.part)) if number not in written
    }
    places = {number: range(start, min(start + settings.part, len(cases))) for number, start in starts.items()}
    waiting = [cases[place] for part in places.values() for place in part]
    by_id = {case.id: case for case in with_histories(waiting, settings.prompts.history)[0]}
    engine = model.open_engine(folder.answers) if waiting else None
    with progress(PURPOSE, len(cases), len(cases) - len(waiting)) as ticker:
        for number, part in places.items():
            assert engine is not None
            batch = [by_id[cases[place].id] for place in part]
            folder.write_part(number, _rows(engine, settings, batch, probable=probable))
            ticker.advance(len(batch))
    current().from_first(lambda: _finish(folder, cases, form))
    return folder


def _rows(engine: Sampler, settings: Predict, cases: Sequence[Case], *, probable: bool) -> list[PredictionRow]:
    variant = PromptVariant(settings.prompts.think, tuple(settings.prompts.hints), settings.prompts.tool and probable)
    limit = prompt_limit(settings.prompts, settings.decoding, engine.context)
    prompts = {case.id: engine.prompt(messages(case, variant=variant)) for case in cases}
    asked = [case for case in cases if len(prompts[case.id].token_ids) <= limit]
    groups = _answered(engine, settings, asked, prompts, variant)
    greedy = settings.samples == 1 and probable
    shares = answer_probabilities(engine, groups) if greedy else [None] * len(groups)
    least = settings.abstain_below
    found = {
        group.case.id: row_of(group.case, group.completions, labels, think=variant.think, abstain_below=least)
        for group, labels in zip(groups, shares, strict=True)
    }
    return [found.get(case.id) or unasked(case, abstain_below=least) for case in cases]


def _answered(
    engine: Sampler, settings: Predict, cases: Sequence[Case], prompts: Mapping[str, Prompt], variant: PromptVariant
) -> list[Group]:
    """Samples answers, without verdicts. Each case has its own random numbers, so the size of a
    part changes nothing."""
    if not cases:
        return []
    given = [prompts[case.id] for case in cases]
    keys = [question_key(settings.seed, PURPOSE, 0, case.id) for case in cases]
    if variant.tool:
        answers = sample_with_tool(engine, given, keys, settings.samples, settings.decoding, calculator_tool)
    else:
        answers = engine.sample(given, keys, settings.samples, settings.decoding)
    return [
        Group(case, prompt, completions, ()) for case, prompt, completions in zip(cases, given, answers, strict=True)
    ]


def _refuse_without_confidence(cases: Sequence[Case], settings: Predict, *, probable: bool) -> None:
    """Refuses a threshold if nothing can be compared with it."""
    if settings.abstain_below is None or settings.samples > 1:
        return
    unsure = next((case for case in cases if not (probable and tasks.of(case).options(case))), None)
    if unsure is not None:
        whose = (
            "an endpoint hands out no probabilities"
            if not probable
            else f"answers such as that of {unsure.id} are no labels"
        )
        raise InputError(
            f"--abstain-below needs a measure of confidence, and {whose}; ask for several answers, such as --samples 8."
        )


def _finish(folder: Predictions, cases: Sequence[Case], form: Format) -> None:
    """Joins the parts into one file, and writes the files for meds-evaluation and the provenance.
    Removes the parts once all is on the disk."""
    rows = ranked([PredictionRow.from_dict(row) for row in folder.parts().to_dicts()])
    if [row.id for row in rows] != [case.id for case in cases]:
        raise InputError(
            f"The parts under {folder.path} are not those of these cases; predict them again into a new folder."
        )
    answers = [None if row.value is None else int(row.value) for row in rows]
    for task, frame in prediction_frames(cases, answers, [row.probabilities for row in rows]):
        folder.write_meds(task, frame)
    counts = PredictionCounts(
        cases=len(rows),
        answered=sum(row.answer is not None for row in rows),
        abstained=sum(row.abstained for row in rows),
        reasons=dict(Counter(row.reason for row in rows if row.reason)),
        tokens=sum(row.tokens for row in rows),
    )
    folder.write_provenance(PredictionProvenance(**folder.asked(), counts=counts, versions=versions()))
    folder.write_final(frame_of(rows), form)
    folder.tidy()


def digest_of(cases: Sequence[Case]) -> str:
    """Hashes everything that the cases say, but not where their data set lies. The order counts,
    because the rows keep it."""
    digest = hashlib.sha256()
    for case in cases:
        about = {key: value for key, value in case.provenance.items() if key != "folder"}
        said = [case.id, case.family, case.task, case.group, dict(case.fields), dict(case.truth), about]
        digest.update(json.dumps(said, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
