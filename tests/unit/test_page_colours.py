"""report: text and marks stand out from what is behind them, in light and in dark (WCAG 2.2, 1.4.3
and 1.4.11).
"""

from __future__ import annotations

import re
from importlib import resources

import pytest

from ehrmind.report.plots.heat import DEEPEST

STYLE = (resources.files("ehrmind.report") / "templates" / "page.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
)
Colour = tuple[float, ...]


def colour(text: str) -> Colour:
    return tuple(int(text[place : place + 2], 16) / 255 for place in (1, 3, 5))


def luminance(of: Colour) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in of)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Colour, other: Colour) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def over(front: Colour, back: Colour, opacity: float) -> Colour:
    return tuple(opacity * a + (1 - opacity) * b for a, b in zip(front, back, strict=True))


@pytest.mark.parametrize("dress", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_the_paper(dress: dict[str, str]) -> None:
    for name in ("ink", "muted", "link", "good", "warn"):
        for back in ("paper", "raised"):
            assert contrast(colour(dress[name]), colour(dress[back])) >= 4.5, f"{name} on {back}"
    for place in range(6):
        assert contrast(colour(dress[f"arm-{place}"]), colour(dress["paper"])) >= 3, f"arm {place}"


@pytest.mark.parametrize("dress", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("shade", ["arm-2", "warn"])
def test_figures_can_be_read_on_the_deepest_shade_of_a_heat_map(dress: dict[str, str], shade: str) -> None:
    field = over(colour(dress[shade]), colour(dress["paper"]), DEEPEST)
    assert contrast(colour(dress["ink"]), field) >= 4.5
