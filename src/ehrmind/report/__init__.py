"""Writes one page per finished run, and a comparison of several.

Reads files only; knows no stage and no engine.
"""

from ehrmind.report.comparison_page import write_comparison
from ehrmind.report.page import write_report

__all__ = ["write_comparison", "write_report"]
