"""The look of plots: matplotlib settings, the page's colours, and figures as inline SVG."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Placeholder colours; to_svg replaces them by the variables of the page.
INK, MUTED, RULE, PAPER, WARN = "#000001", "#000002", "#000003", "#000004", "#000005"
ARMS = ("#00000a", "#00000b", "#00000c", "#00000d", "#00000e", "#00000f")
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper", WARN: "--warn"}
VARIABLES |= {colour: f"--arm-{place}" for place, colour in enumerate(ARMS)}
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "text.color": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def to_svg(figure: Figure, name: str) -> str:
    """SVG in the page's colours and type, without prologue, style rules or ids that could clash."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.id": None}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<style type="text/css">.*?</style>', "", svg, count=1, flags=re.DOTALL)
    wanted = set(re.findall(r"[#]([A-Za-z]\w+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in wanted else "", svg)
    svg = re.sub(r"(?<=[ ;\"])font: (?:\S+ )*?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(
        r"#00000[1-9a-f]", lambda match: f"var({VARIABLES[match[0]]})" if match[0] in VARIABLES else match[0], svg
    )
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
