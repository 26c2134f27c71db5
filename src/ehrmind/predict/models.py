"""Models that predict: one opened here, or one behind an endpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ehrmind.config import DataSource, EndpointArm, parse_section
from ehrmind.config.endpoint import why_not_sent
from ehrmind.config.predict import Predict
from ehrmind.documents import read_yaml
from ehrmind.engines import Sampler
from ehrmind.runs.records import PredictingModel
from ehrmind.stages.digests import digests
from ehrmind.stages.models import Chosen, is_marked
from ehrmind.types import Case, InputError

ENDPOINT = "the endpoint"


@dataclass(frozen=True)
class PredictionModel:
    """A model to predict with. `about` is recorded. `open_engine` gets the file that keeps an
    endpoint's answers."""

    about: PredictingModel
    open_engine: Callable[[Path], Sampler]

    @property
    def gives_probabilities(self) -> bool:
        """Whether the probabilities of labels can be read. An endpoint hides them."""
        return self.about.served is None


def local_model(chosen: Chosen, settings: Predict) -> PredictionModel:
    """A model directory, opened by the local engine."""

    def opened(_: Path) -> Sampler:
        from ehrmind.engines.local.engine import open_engine

        return open_engine(
            settings.model,
            chosen.folder,
            rows=settings.sampler_rows,
            tokens=settings.sampler_tokens,
            seed=settings.seed,
            shards=settings.shards,
        )

    about = PredictingModel(name=chosen.name, arm=chosen.arm, sha256=digests(chosen.folder))
    return PredictionModel(about, opened)


def served_model(
    endpoint: EndpointArm, cases: Sequence[Case], data: Path, folder: Path | None = None
) -> PredictionModel:
    """A model behind an endpoint; `folder` holds the same model here, if there is one. Raises
    InputError.

    Records go to another machine only if the endpoint's section allows it, by the rules of a
    recipe's endpoints. Restricted records never do.
    """
    from ehrmind.engines.endpoint import EndpointClient, key_of
    from ehrmind.engines.served import EndpointEngine, harmless_of

    restricted = any(map(is_marked, cases))
    if refusal := why_not_sent(ENDPOINT, endpoint, {data.name: DataSource(cases=[data], restricted=restricted)}):
        raise InputError(f"{refusal}.")
    key_of(endpoint, ENDPOINT)

    def opened(answers: Path) -> Sampler:
        client = EndpointClient(endpoint, ENDPOINT, answers)
        return EndpointEngine(client, refuses_gaps=endpoint.unanswered == "refuse", harmless=harmless_of(folder))

    return PredictionModel(PredictingModel(name=endpoint.model, served=endpoint.url, body=endpoint.body), opened)


def endpoint_of(given: str, model: str) -> EndpointArm:
    """A URL, or a YAML file with the section that a recipe has under `endpoints.NAME`. Raises
    InputError."""
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
