"""Makes Cases of patient-trial matching from TREC Clinical Trials: topics, judgments, records."""

from ehrmind.data.trec.pairs import LABELS, read_trials

__all__ = ["LABELS", "read_trials"]
