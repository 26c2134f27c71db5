"""`ehrmind predict`: which model is asked about which cases, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import JsonValue

from ehrmind.config import EndpointArm, parse_section
from ehrmind.config.predict import Predict
from ehrmind.config.recipe import apply_override
from ehrmind.predict.kinds import refuse_other_kinds
from ehrmind.predict.models import endpoint_of, local_model, served_model
from ehrmind.predict.predict import predict
from ehrmind.runs.predictions import Format, Predictions
from ehrmind.stages.models import Chosen, choose
from ehrmind.types import InputError
from ehrmind.world import current

SAMPLED = 0.6  # temperature of several samples if the run itself was greedy


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The command's arguments. `model` is a run folder, a model directory, or the name of a model
    behind `endpoint`; with an endpoint, `served` is its name there, and `model` may only say how to
    ask."""

    model: str
    data: Path
    out: Path
    arm: str | None = None
    endpoint: str | None = None
    served: str | None = None
    samples: int | None = None
    abstain_below: float | None = None
    overrides: Sequence[str] = ()
    form: Format = "parquet"
    any_task: bool = False
    resume: bool = False


def ask(request: PredictRequest) -> Predictions:
    """Runs the command. Refuses cases of a kind that the model's run had none of, unless
    `any_task`. Raises InputError."""
    from ehrmind.data import load_cases

    if request.served is not None and request.endpoint is None:
        raise InputError("--model names a model behind an endpoint; give --endpoint URL with it, or leave it out.")
    is_here = request.endpoint is None or Path(request.model).exists()
    named = choose(Path(request.model), request.arm) if is_here else None
    asks = named.asks if named is not None else {}
    settings = settings_of(asks, request.overrides, samples=request.samples, abstain_below=request.abstain_below)
    cases = load_cases(request.data)
    if named is not None and not request.any_task:
        refuse_other_kinds(named, cases, request.data)
    data, form, resume = request.data.name, request.form, request.resume
    if request.endpoint is None:
        assert named is not None
        settings = _pinned(settings, named, request.out)
        return predict(cases, request.out, settings, local_model(named, settings), data=data, form=form, resume=resume)
    endpoint = _asked_as_here(endpoint_of(request.endpoint, request.served or request.model), settings, named)
    model = served_model(endpoint, cases, request.data, None if named is None else named.folder)

    def asked_by_one() -> None:
        predict(cases, request.out, settings, model, data=data, form=form, resume=resume)

    current().from_first(asked_by_one)  # workers cannot share the work of a served model
    return Predictions(request.out)


def settings_of(
    asks: Mapping[str, JsonValue],
    overrides: Sequence[str] = (),
    *,
    samples: int | None = None,
    abstain_below: float | None = None,
) -> Predict:
    """How to ask: as `asks` says, changed by `overrides`. Greedy and once unless there are several
    samples. Raises InputError."""
    given = {"samples": samples, "abstain_below": abstain_below}
    tree = json.loads(json.dumps({**asks, **{key: value for key, value in given.items() if value is not None}}))
    tree["model"] = {"name": "model", **tree.get("model", {})}
    decoding = tree.setdefault("decoding", {})
    decoding["temperature"] = (decoding.get("temperature") or SAMPLED) if tree.get("samples", 1) > 1 else 0.0
    for override in overrides:
        apply_override(tree, override)
    return parse_section(Predict, tree, "how to ask")


def _pinned(settings: Predict, named: Chosen, out: Path) -> Predict:
    """Sets the day on which this prediction began, if the chat template writes today's date and the
    run set none."""
    from ehrmind.engines.local.saving.hf_export import writes_today

    if settings.model.date is not None or not writes_today(named.folder):
        return settings
    asked = Predictions(out).asked_before()
    before = asked["settings"]["model"].get("date") if asked is not None else None
    day = date.fromisoformat(before) if before else date.today()
    return settings.model_copy(update={"model": settings.model.model_copy(update={"date": day})})


def _asked_as_here(endpoint: EndpointArm, settings: Predict, named: Chosen | None) -> EndpointArm:
    """Adds to the endpoint what the local engine takes from the same settings: the chat template's
    arguments, top-k, and words that end a turn. The endpoint's own body counts first."""
    ours: dict[str, JsonValue] = {"chat_template_kwargs": settings.model.template} if settings.model.template else {}
    ours |= {"top_k": settings.decoding.top_k} if settings.decoding.top_k and settings.decoding.temperature else {}
    ours |= {"stop": [named.stop]} if named is not None and named.stop else {}
    return endpoint.model_copy(update={"body": {**ours, **endpoint.body}})
