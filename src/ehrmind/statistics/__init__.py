"""Statistics of answers: intervals over patients, paired tests, curves over samples, calibration.
docs/evaluation.md defines them."""

from ehrmind.statistics.calibration import brier, calibration_bins, calibration_error, r_squared, risk_coverage
from ehrmind.statistics.intervals import Interval, mean_interval, wilson
from ehrmind.statistics.multiple import benjamini_hochberg, holm
from ehrmind.statistics.paired import clustered_difference, paired_difference, sign_flip
from ehrmind.statistics.sampling import curve_ks, majority_at, pass_curve
from ehrmind.statistics.seeds import over_seeds

__all__ = [
    "Interval",
    "benjamini_hochberg",
    "brier",
    "calibration_bins",
    "calibration_error",
    "clustered_difference",
    "curve_ks",
    "holm",
    "majority_at",
    "mean_interval",
    "over_seeds",
    "paired_difference",
    "pass_curve",
    "r_squared",
    "risk_coverage",
    "sign_flip",
    "wilson",
]
