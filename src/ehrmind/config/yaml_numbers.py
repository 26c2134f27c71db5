"""Numbers that YAML reads differently from people: `010` is 8 to it, and `1:30` is 90."""

from __future__ import annotations

import re

import yaml

from ehrmind.types import InputError

_PLAIN_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:_[0-9]{3})+)")


def refuse_odd_numbers(text: str, name: str) -> None:
    """Raises InputError for a number in base 2, 8, 16 or 60, or with underscores that are no
    thousands. The message names the line.
    """
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            event = loader.get_event()
            if (
                not isinstance(event, yaml.ScalarEvent)
                or event.style
                or event.tag
                or not any(map(str.isdigit, event.value))
            ):
                continue
            tag = loader.resolve(yaml.ScalarNode, event.value, (True, False))
            if (tag.endswith(":int") and not _PLAIN_WHOLE.fullmatch(event.value)) or (
                tag.endswith(":float") and set(event.value) & set("_:")
            ):
                line = event.start_mark.line + 1 if event.start_mark is not None else 0
                problem = "YAML does not read a number there as it stands (010 is 8 to it, 1:30 is 90)"
                raise InputError(
                    f"{name}, line {line}: {problem}; write a plain number, or put quotes around it if it is a text."
                )
    except yaml.YAMLError:
        return  # which the reader says
    finally:
        loader.dispose()
