"""Reads users' files and makes Cases of them. This room knows no prompt and no engine."""

from ehrmind.data.cases import Counts, FileRead, load_cases, save_cases

__all__ = ["Counts", "FileRead", "load_cases", "save_cases"]
