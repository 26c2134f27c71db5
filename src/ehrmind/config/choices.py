"""Choices that a recipe takes from a dict in the code: losses, advantages, hints. A new entry there
is a new choice here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


class OneOf:
    """Annotates a `str` that must be one of `names()`. Names are looked up at each validation, so
    entries may be added at run time.
    """

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names())}

    def _checked(self, name: str) -> str:
        *first, last = (f"'{known}'" for known in self.names())
        if name not in self.names():
            raise ValueError(f"Input should be {', '.join(first)} or {last}" if first else f"Input should be {last}")
        return name
