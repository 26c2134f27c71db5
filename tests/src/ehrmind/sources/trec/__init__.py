"""TREC Clinical Trials: topics, judgments and registry records become Cases of patient-trial matching."""

from ehrmind.sources.trec.pairs import LABELS, read_trials

__all__ = ["LABELS", "read_trials"]
