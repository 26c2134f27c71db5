"""Renders a template into one autoescaped HTML file that may load nothing from outside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Protocol


class Shown(Protocol):
    """The contents of a page, which its template reads by attribute; `plots` are SVG by name."""

    @property
    def plots(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Browser:
    """The browser of rollouts: the number shown, the total, and JSON by `as_json`."""

    shown: int
    total: int
    json: str


def render(template: str, shown: Shown, browser: Browser | None = None) -> str:
    """Escapes everything except our style, script, plots, and the browser's JSON."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("ehrmind.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("browser.js") if browser else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        page=shown,
        plots={name: Markup(svg) for name, svg in shown.plots.items()},
        style=Markup(_asset("page.css")),
        script=Markup(script),
        script_source=f"'sha256-{digest}'" if browser else "'none'",
        browser=browser,
        browser_json=Markup(browser.json) if browser else "",
    )


def _asset(name: str) -> str:
    return (resources.files("ehrmind.report") / "templates" / name).read_text(encoding="utf-8")
