"""Templates -> one HTML file: autoescaped, with a policy that allows nothing outside itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any


def render(template: str, shown: Mapping[str, Any], browser: Mapping[str, Any] | None = None) -> str:
    """The template escapes everything but our own style, script and plots, and JSON that `as_json` made safe."""
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
        **{**shown, "plots": {name: Markup(svg) for name, svg in shown["plots"].items()}},
        style=Markup(_asset("page.css")),
        script=Markup(script),
        script_source=f"'sha256-{digest}'" if browser else "'none'",
        browser={**browser, "json": Markup(browser["json"])} if browser else None,
    )


def _asset(name: str) -> str:
    return (resources.files("ehrmind.report") / "templates" / name).read_text(encoding="utf-8")
