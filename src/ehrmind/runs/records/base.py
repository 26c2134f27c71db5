"""The base of everything that a run folder stores as JSON: frozen, closed to unknown keys, written
as it was read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, ValidationError

from ehrmind.types import InputError

SCHEMA_VERSION = 1  # of results.json; a change of its shape counts it up


def _as_json(value: object) -> object:
    return json.loads(json.dumps(value))


# A JSON object of any shape. Tuples become lists, as they do on the disk.
JsonObject = Annotated[Mapping[str, JsonValue], BeforeValidator(_as_json)]
Interval95 = tuple[float, float]  # the lower and the upper end of a 95 % confidence interval


class Record(BaseModel):
    """A frozen JSON object with fixed keys.

    An optional key that was never set is left out of the JSON, so absent stays absent and null
    stays null. The keys are written in the order of the fields, those of base classes first."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON object."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    @classmethod
    def from_dict(cls, tree: object, place: str) -> Self:
        """Reads the JSON object. Raises InputError naming `place` and the first key that does not
        fit; it shows no value."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            key = ".".join(str(part)[:80] for part in first["loc"]) or "the whole"
            raise InputError(
                f"{place} is not as this version of ehrmind writes it ({key}: {first['msg'][:120].lower()}); "
                "use the version that made it, or run the recipe again into a new folder."
            ) from None
