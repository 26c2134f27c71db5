"""`ehrmind.sources.load_cases`, the name that scripts rely on. The room is `ehrmind.data`."""

from ehrmind.data import load_cases

__all__ = ["load_cases"]
