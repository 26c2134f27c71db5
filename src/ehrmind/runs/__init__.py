"""Folders that commands leave on the disk: a run's and a prediction's. Only this room knows their
paths.

records      types of everything that is stored, and the names of stages
folder       the run folder: its paths, and reading and writing it
opening      making a run folder, or opening it to resume
recovery     proving it before a run resumes
manifest     digests of every stored file; lines has those of files that grow by lines
lock         one writer at a time
protected    the folder for record text
index        all run folders in a folder; purge removes what one protects
predictions  the folder of `ehrmind predict`
"""

from ehrmind.runs.folder import SPLITS, Run
from ehrmind.runs.opening import open_run

__all__ = ["SPLITS", "Run", "open_run"]
