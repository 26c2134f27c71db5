"""All plots of a run's page, by their name in the template."""

from __future__ import annotations

from ehrmind.report.plots import forgetting, labels, learning, pilot, results, samples
from ehrmind.report.plots.drawing import drawn
from ehrmind.report.reading import Figures

PLOTS = {
    "arms": results.arms,
    "places": results.transfer,
    "risks": labels.risks,
    "confusion": labels.confusion,
    "seeds": results.seeds,
    "samples": samples.samples,
    "agreement": samples.agreement,
    "seen": results.seen,
    "subgroups": results.subgroups,
    "forgetting": forgetting.forgetting,
    "pilot": pilot.pilot,
    "gains": pilot.gains,
    "curves": learning.curves,
    "asked": learning.questions,
    "warmup": learning.warmup,
    "categories": results.categories,
    "strata": results.strata,
}


def run_plots(figures: Figures) -> dict[str, str]:
    """SVG by name, without the plots that this run has no figures for."""
    return drawn(figures, PLOTS)
