"""Sources: the files people hold become Cases. No prompt and no engine is known here."""

from ehrmind.data.cases import Counts, FileRead, load_cases, save_cases

__all__ = ["Counts", "FileRead", "load_cases", "save_cases"]
