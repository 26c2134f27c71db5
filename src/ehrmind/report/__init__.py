"""A finished run folder becomes one page. Reads files only; knows no stage and no engine."""

from ehrmind.report.page import write_report

__all__ = ["write_report"]
