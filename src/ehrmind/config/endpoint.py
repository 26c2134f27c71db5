"""The recipe's OpenAI-compatible endpoints: the teacher of the warm-up, and models that are scored
with the arms.

An endpoint on this machine works as it is. Any other one is refused until the recipe names the data
that go there and says that they may (`send`); data marked `restricted` never go. All of it is
decided from the recipe alone, before anything is read or asked.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal

from pydantic import (
    AnyHttpUrl,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from ehrmind.config.data import DataSource
from ehrmind.config.sampling import Decoding
from ehrmind.config.section import Section

_URL: TypeAdapter[AnyHttpUrl] = TypeAdapter(AnyHttpUrl)
_OURS = {"model", "messages", "temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "n", "stream"}


class Price(Section):
    """Prices per million tokens, in any currency."""

    input: NonNegativeFloat = Field(default=0.0, description="price of a million tokens read")
    output: NonNegativeFloat = Field(default=0.0, description="price of a million tokens written")


class Send(Section):
    """Data that may leave this machine for this endpoint."""

    data: list[str] = Field(default=[], description="the data sets by name, as the refusal spells them")
    acknowledged: bool = Field(
        default=False, description="acknowledges that their text goes to the endpoint, and that this is allowed"
    )
    in_clear: bool = Field(default=False, description="allows http, where everyone on the way can read it")


class Endpoint(Section):
    """A chat-completions endpoint. Every question ends in an answer, or in a named reason after
    bounded tries and time.
    """

    url: str = Field(description="up to /chat/completions, such as http://localhost:8000/v1")
    model: str = Field(description="name of the model, as the endpoint knows it")
    api_key_env: str | None = Field(
        default=None, description="the environment variable that holds the key; the key is written nowhere"
    )
    send: Send = Send()
    price: Price = Price()
    concurrency: PositiveInt = Field(default=8, description="questions sent at once")
    requests_per_minute: PositiveFloat | None = Field(
        default=None, description="no more than so many; without a limit by default"
    )
    attempts: PositiveInt = Field(default=5, description="attempts at a question before it counts as unanswered")
    backoff: NonNegativeFloat = Field(
        default=1.0, description="seconds before the second attempt; doubled before each further one"
    )
    longest_wait: PositiveFloat = Field(
        default=120.0, description="seconds; what the endpoint asks for in Retry-After included"
    )
    connect_seconds: PositiveFloat = Field(default=10.0, description="seconds to reach the endpoint")
    answer_seconds: PositiveFloat = Field(default=300.0, description="seconds for a whole answer")
    answer_kilobytes: PositiveInt = Field(
        default=1024, description="a longer reply is cut off and counts as unanswered"
    )
    give_up_after: PositiveInt = Field(default=20, description="questions in a row that stay unanswered")
    seed: bool = Field(default=True, description="send a seed with sampled questions; some endpoints refuse one")
    limit_key: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="some endpoints take only the other"
    )
    body: dict[str, Any] = Field(default={}, description="further fields of every request, such as reasoning_effort")

    @field_validator("url")
    @classmethod
    def plain_url(cls, text: str) -> str:
        """Allows one reading only: what is checked here is what the client connects to."""
        try:
            url = _URL.validate_python(text)
        except ValidationError:
            raise ValueError("this is no URL; write it like http://localhost:8000/v1") from None
        if url.username or url.password or url.query or url.fragment or "\\" in text or "@" in text:
            raise ValueError(
                "write http(s)://host:port/path and nothing else; a key goes into the variable that api_key_env names"
            )
        return str(url).rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def a_variable_and_no_key(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise ValueError(
                "name the environment variable that holds the key, in capitals, and never write the key itself here"
            )
        return name

    @model_validator(mode="after")
    def body_leaves_ours_alone(self) -> Endpoint:
        if both := sorted(_OURS & self.body.keys()):
            raise ValueError(f"body.{both[0]} is set by the recipe's own keys; leave it out")
        return self

    @property
    def host(self) -> str:
        return (_URL.validate_python(self.url).host or "").strip("[]").lower()

    @property
    def is_loopback(self) -> bool:
        """Tells whether the endpoint is this machine: localhost, 127.0.0.0/8 or ::1."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Teacher(Endpoint):
    """A teacher that writes the warm-up's worked answers and knows the gold labels. Defaults are
    the paper's where it states them.
    """

    pairs: PositiveInt = Field(default=3000, description="worked answers wanted, spread over strata and labels")
    tries: PositiveInt = Field(default=3, description="attempts at a case while its answers are refused")
    balance: float | None = Field(
        default=1.5, ge=1.0, description="in a stratum, no label more often than this many times the rarest"
    )
    min_confidence: float = Field(default=0.7, ge=0.0, le=1.0, description="the teacher's own; 0 does not ask for it")
    audited: list[Literal["grounding", "arithmetic", "conclusion"]] = Field(
        default=["arithmetic", "conclusion"],
        description="parts of the process audit in which a worked answer must have no flaw",
    )
    decoding: Decoding = Decoding(temperature=0.7, max_new_tokens=1024)


class EndpointArm(Endpoint):
    """A model behind an endpoint that answers the held-out cases as the arms do."""

    unanswered: Literal["refuse", "wrong"] = Field(
        default="refuse",
        description=(
            "questions that get no answer: stop there, so that --resume asks them again, or score them as wrong"
        ),
    )


def names_of(source: DataSource) -> list[str]:
    """Returns the names of a source's data: its files or folder, a hub data set without its owner,
    or `synthetic`.
    """
    if source.trials is not None:
        return [source.trials.name or source.trials.topics.name]
    if source.ehr is not None:
        folder = source.ehr.meds or source.ehr.ehrshot
        return [folder.name] if folder is not None else []
    if source.table is not None:
        return [source.table.path.name]
    if source.synthetic is not None:
        return ["synthetic"]
    return [*(path.name for path in source.cases), *(PurePath(text).name for text in source.medcalc)]


def why_not_sent(where: str, endpoint: Endpoint, sources: Mapping[str, DataSource]) -> str | None:
    """Says why these sources, by their place in the recipe, may not go to the endpoint at `where`
    in the recipe; None if they may.
    """
    if endpoint.is_loopback:
        return None
    for place, source in sources.items():
        if source.is_restricted:
            return (
                f"{where} is at {endpoint.host}, and {place} is restricted, so it never leaves this machine; use an"
                " endpoint on localhost"
            )
    names = sorted({name for source in sources.values() for name in names_of(source)})
    in_clear = endpoint.url.startswith("http://")
    if (
        endpoint.send.acknowledged
        and set(names) <= set(endpoint.send.data)
        and (endpoint.send.in_clear or not in_clear)
    ):
        return None
    written = f"data: [{', '.join(map(_quoted, names))}], acknowledged: true{', in_clear: true' * in_clear}"
    return (
        f"{where} would send the text of {_listed(names)} to {endpoint.host}, which is not this"
        f" machine{', unencrypted' * in_clear}; if that is allowed, write under {where}: `send: {{{written}}}`"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def _quoted(name: str) -> str:
    """Quotes a name as YAML reads it in a list."""
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name) else json.dumps(name, ensure_ascii=False)
