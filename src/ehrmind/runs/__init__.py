"""Folders on the disk that a command leaves: a run's and a prediction's. Only this room knows their paths.

`folder` is the run folder, `start` its state before it holds work, `listing` many of them side by side and the removal of what they
protect, `predictions` the folder of `ehrmind predict`.
"""

from ehrmind.runs.folder import SPLITS, Run
from ehrmind.runs.opening import open_run

__all__ = ["SPLITS", "Run", "open_run"]
