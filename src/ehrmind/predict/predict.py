"""Prediction: a model answers cases whose answers nobody need know, part by part, so that a killed one goes on where it was.

    Cases -> prompts -> completions -> rows, a file a part -> all rows together, ranked where they are trials

The judge is never called. A case is asked as the run asked that trained the model (`models.choose`), by the local engine or an endpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from ehrmind import tasks
from ehrmind.config import DataSource, EndpointArm, parse_section
from ehrmind.config.endpoint import why_not_sent
from ehrmind.config.predict import Predict
from ehrmind.config.recipe import apply_override
from ehrmind.documents import read_yaml
from ehrmind.engines import Engine
from ehrmind.engines.tools import sample_with_tool
from ehrmind.engines.uniforms import question_key
from ehrmind.predict.kinds import refuse_other_kinds
from ehrmind.predict.rows import ranked, row_of, unasked
from ehrmind.prompts import messages
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.records import with_histories
from ehrmind.runs.lock import writes_into
from ehrmind.runs.predictions import Format, Predictions, frame_of, open_predictions
from ehrmind.stages.evaluation.label_predictions import prediction_frames
from ehrmind.stages.models import Chosen, choose, digests, is_marked
from ehrmind.stages.pipeline import VERSIONS
from ehrmind.stages.progress import progress
from ehrmind.stages.prompt_limit import prompt_limit
from ehrmind.stages.rollout import answer_probabilities
from ehrmind.stages.tool import calculator_tool
from ehrmind.types import Case, Group, InputError, Prompt
from ehrmind.world import current, threads_of_each

PURPOSE = "predict"  # keeps its random numbers apart from those of training and evaluation
SAMPLED = 0.6  # temperature of several samples, where the run itself was greedy
ENDPOINT = "the endpoint"


def settings_of(asks: Mapping[str, Any], chosen: Mapping[str, Any], overrides: Sequence[str] = ()) -> Predict:
    """How to ask: as the run did, greedily and once unless `chosen` has more samples, changed by `overrides`. Raises InputError."""
    tree = json.loads(json.dumps({**asks, **{key: value for key, value in chosen.items() if value is not None}}))
    tree["model"] = {"name": "model", **tree.get("model", {})}
    decoding = tree.setdefault("decoding", {})
    decoding["temperature"] = (decoding.get("temperature") or SAMPLED) if tree.get("samples", 1) > 1 else 0.0
    for override in overrides:
        apply_override(tree, override)
    return parse_section(Predict, tree, "how to ask")


def ask(
    model: str,
    data: Path,
    out: Path,
    *,
    arm: str | None = None,
    endpoint: str | None = None,
    served: str | None = None,
    chosen: Mapping[str, Any],
    overrides: Sequence[str] = (),
    form: Format = "parquet",
    resume: bool = False,
    any_task: bool = False,
) -> Predictions:
    """Runs `ehrmind predict`: the model by its place (for an endpoint, only how to ask is read
    there), the cases by their file. Cases of a kind that the model's run had none of are refused,
    unless `any_task`. Raises InputError."""
    from ehrmind.data import load_cases

    if served is not None and endpoint is None:
        raise InputError("--model names a model behind an endpoint; give --endpoint URL with it, or leave it out.")
    named = choose(Path(model), arm) if endpoint is None or Path(model).exists() else None
    settings = settings_of(named.asks if named is not None else {}, chosen, overrides)
    cases = load_cases(data)
    if named is not None and not any_task:
        refuse_other_kinds(named, cases, data)
    if endpoint is None:
        assert named is not None
        settings = _pinned(settings, named, out)
        about, opened = local_model(named, settings)
    else:
        asked = _asked_as_here(endpoint_of(endpoint, served or model), settings, named)
        about, opened = served_model(asked, cases, data, None if named is None else named.folder)
    options: dict[str, Any] = {"model": about, "data": data.name, "open_engine": opened, "form": form, "resume": resume}
    if endpoint is None:
        return predict(cases, out, settings, **options)

    def asked_by_one() -> None:
        predict(cases, out, settings, **options)

    current().from_first(asked_by_one)  # a served model is no work that workers could share
    return Predictions(out)


def _pinned(settings: Predict, named: Chosen, out: Path) -> Predict:
    """Sets the day on which this prediction began, for a chat template that writes today's and has
    none from its run."""
    from ehrmind.engines.local.ordinary import writes_today

    if settings.model.date is not None or not writes_today(named.folder):
        return settings
    asked = Predictions(out).asked_before()
    before = asked["settings"]["model"].get("date") if asked is not None else None
    day = date.fromisoformat(before) if before else date.today()
    return settings.model_copy(update={"model": settings.model.model_copy(update={"date": day})})


def _asked_as_here(endpoint: EndpointArm, settings: Predict, named: Chosen | None) -> EndpointArm:
    """Adds to the endpoint what the local engine takes from the same settings: the chat template's
    arguments, top-k, and words that end a turn. The endpoint's own body counts first."""
    ours: dict[str, Any] = {"chat_template_kwargs": settings.model.template} if settings.model.template else {}
    ours |= {"top_k": settings.decoding.top_k} if settings.decoding.top_k and settings.decoding.temperature else {}
    ours |= {"stop": [named.stop]} if named is not None and named.stop else {}
    return endpoint.model_copy(update={"body": {**ours, **endpoint.body}})


@writes_into("out")
def predict(
    cases: Sequence[Case],
    out: Path,
    settings: Predict,
    *,
    model: Mapping[str, Any],
    data: str,
    open_engine: Callable[[Path], Engine],
    resume: bool = False,
    form: Format = "parquet",
) -> Predictions:
    """Answer every case once. `model` says which one, in its digests; `data` is what the cases' file is called; `open_engine` gets the file
    that keeps an endpoint's answers. Raises InputError."""
    if not cases:
        raise InputError(f"{data} holds no case, so there is nothing to predict.")
    _refuse_without_confidence(cases, settings, probable=model.get("served") is None)
    about = {"name": data, "cases": len(cases), "sha256": digest_of(cases)}
    folder = open_predictions(
        out, {"model": model, "data": about, "settings": settings.model_dump(mode="json")}, resume=resume
    )
    if folder.final() is not None:
        folder.tidy()
        return folder
    current().block(settings.shards)
    if (threads := settings.threads or threads_of_each()) is not None:
        import torch

        torch.set_num_threads(threads)
    written = folder.written_parts()
    starts = {
        number: start for number, start in enumerate(range(0, len(cases), settings.part)) if number not in written
    }
    places = {number: range(start, min(start + settings.part, len(cases))) for number, start in starts.items()}
    waiting = [cases[place] for part in places.values() for place in part]
    told = {case.id: case for case in with_histories(waiting, settings.prompts.history)[0]}
    engine = open_engine(folder.answers) if waiting else None
    with progress(PURPOSE, len(cases), len(cases) - len(waiting)) as ticker:
        for number, part in places.items():
            batch = [told[cases[place].id] for place in part]
            folder.write_part(
                number, _rows(cast(Engine, engine), settings, batch, probable=model.get("served") is None)
            )
            ticker.advance(len(batch))
    current().from_first(lambda: _finish(folder, cases, form))
    return folder


def _rows(engine: Engine, settings: Predict, cases: Sequence[Case], *, probable: bool) -> list[dict[str, Any]]:
    variant = PromptVariant(settings.prompts.think, tuple(settings.prompts.hints), settings.prompts.tool and probable)
    limit = prompt_limit(settings.prompts, settings.decoding, engine.context)
    prompts = {case.id: engine.prompt(messages(case, variant=variant)) for case in cases}
    asked = [case for case in cases if len(prompts[case.id].token_ids) <= limit]
    groups = _answered(engine, settings, asked, prompts, variant)
    greedy = settings.samples == 1 and probable
    shares = answer_probabilities(engine, groups) if greedy else [None] * len(groups)
    options: dict[str, Any] = {"abstain_below": settings.abstain_below}
    found = {
        group.case.id: row_of(group.case, group.completions, labels, think=variant.think, **options)
        for group, labels in zip(groups, shares, strict=True)
    }
    return [found.get(case.id) or unasked(case, **options) for case in cases]


def _answered(
    engine: Engine, settings: Predict, cases: Sequence[Case], prompts: Mapping[str, Prompt], variant: PromptVariant
) -> list[Group]:
    """Without verdicts: nobody judges. The random numbers are the case's own, so that a part's size decides nothing."""
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
    """A threshold needs something to hold against it."""
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
    """All parts as one file, what meds-evaluation reads, and where it comes from; the parts go when the whole is on the disk."""
    rows = ranked(folder.parts().to_dicts())
    if [row["id"] for row in rows] != [case.id for case in cases]:
        raise InputError(
            f"The parts under {folder.path} are not those of these cases; predict them again into a new folder."
        )
    answers = [None if row["value"] is None else int(row["value"]) for row in rows]
    for task, frame in prediction_frames(cases, answers, [row["probabilities"] for row in rows]):
        folder.write_meds(task, frame)
    counts = {
        "cases": len(rows),
        "answered": sum(row["answer"] is not None for row in rows),
        "abstained": sum(row["abstained"] for row in rows),
        "reasons": dict(Counter(row["reason"] for row in rows if row["reason"])),
        "tokens": sum(row["tokens"] for row in rows),
    }
    folder.write_about("provenance", {**folder.about("asked"), "counts": counts, "versions": _versions()})
    folder.write_final(frame_of(rows), form)
    folder.tidy()


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def digest_of(cases: Sequence[Case]) -> str:
    """Of all that a case says, wherever its data set lies; the order counts, because the rows keep it."""
    digest = hashlib.sha256()
    for case in cases:
        about = {key: value for key, value in case.provenance.items() if key != "folder"}
        said = [case.id, case.family, case.task, case.group, dict(case.fields), dict(case.truth), about]
        digest.update(json.dumps(said, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def local_model(chosen: Chosen, settings: Predict) -> tuple[dict[str, Any], Callable[[Path], Engine]]:
    """(what it is, how to open it)"""

    def opened(_: Path) -> Engine:
        from ehrmind.engines.local.engine import open_engine

        limits: dict[str, Any] = {"rows": settings.sampler_rows, "tokens": settings.sampler_tokens}
        return open_engine(settings.model, chosen.folder, **limits, seed=settings.seed, shards=settings.shards)

    return {"name": chosen.name, "arm": chosen.arm, "sha256": digests(chosen.folder)}, opened


def served_model(
    endpoint: EndpointArm, cases: Sequence[Case], data: Path, folder: Path | None = None
) -> tuple[dict[str, Any], Callable[[Path], Engine]]:
    """The same of a model behind an endpoint; `folder` is where it lies here, if it does. Records go to another machine only where the
    endpoint's section says so, by the rules of a recipe's endpoints; those marked restricted never do. Raises InputError."""
    from ehrmind.engines.endpoint import EndpointClient, key_of
    from ehrmind.engines.served import EndpointEngine, harmless_of

    restricted = any(map(is_marked, cases))
    if refusal := why_not_sent(ENDPOINT, endpoint, {data.name: DataSource(cases=[data], restricted=restricted)}):
        raise InputError(f"{refusal}.")
    key_of(endpoint, ENDPOINT)

    def opened(answers: Path) -> Engine:
        client = EndpointClient(endpoint, ENDPOINT, answers)
        return cast(
            Engine, EndpointEngine(client, refuses_gaps=endpoint.unanswered == "refuse", harmless=harmless_of(folder))
        )

    return {"name": endpoint.model, "served": endpoint.url, "body": endpoint.body}, opened


def endpoint_of(given: str, model: str) -> EndpointArm:
    """A URL, or a YAML file with the section that a recipe has under `endpoints.NAME`. Raises InputError."""
    if "://" in given:
        return parse_section(EndpointArm, {"url": given, "model": model}, "--endpoint")
    file = Path(given)
    if not file.is_file():
        shown = given if re.fullmatch(r"[\w./~-]{1,200}", given) else "as it is given"
        raise InputError(
            f"--endpoint {shown} is neither a URL such as http://localhost:8000/v1 nor a file; write one of the two."
        )
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        raise InputError(f"{file} is not a section of YAML with url and model, as a recipe has under endpoints.NAME.")
    return parse_section(EndpointArm, {"model": model, **tree}, str(file))
