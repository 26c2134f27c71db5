"""TREC Clinical Trials: topics, judgments and registry records become Cases of patient-trial matching."""

from ehrmind.data.trec.pairs import LABELS, read_trials

__all__ = ["LABELS", "read_trials"]
