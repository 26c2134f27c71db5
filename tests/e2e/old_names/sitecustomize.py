"""Old inner names for the scripts of EHRMIND_CASES, which are older than today's rooms.

`test_cases.py` puts this folder on PYTHONPATH, so that Python imports this file when it starts. The
product has no old names.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Old module: (today's module, {old name: today's name}).
MOVED: dict[str, tuple[str, dict[str, str]]] = {
    "ehrmind.sources.made_up": ("ehrmind.data.synthetic", {"made_up_cases": "synthetic_cases"}),
    "ehrmind.sources.table": ("ehrmind.data.table", {"read_table_cases": "read_table_cases"}),
}


class OldNames(MetaPathFinder, Loader):
    """Finds the modules of MOVED."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        today, names = MOVED[module.__name__]
        there = importlib.import_module(today)
        for old, new in names.items():
            setattr(module, old, getattr(there, new))


sys.meta_path.append(OldNames())
