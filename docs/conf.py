"""Settings with which Sphinx builds the documentation's site (`make docs`)."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = [
    "README",
    "SECURITY",
    "CONTRIBUTING",
    "CHANGELOG",
    "benchmarks/README",
    "benchmarks/real_model/plan",
    "recipes/README",
]

project = html_title = "EHRMIND"
extensions = ["myst_parser"]
html_theme = "furo"  # its scripts come with it, its fonts are the system's
html_show_sphinx = html_show_copyright = html_copy_source = False
root_doc = "docs/README"
include_patterns = ["docs/*.md", *(f"{name}.md" for name in OUTSIDE)]
myst_heading_anchors = 6
nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]  # `…` stands in examples


def prepare(app: object, name: str, source: list[str]) -> None:
    """Adapts a page written for GitHub to Sphinx: adds the list of pages to the index,
    in its order, writes anchors in MyST's form, and points links to a folder at its README."""
    here, text = (ROOT / name).parent, source[0]
    if name == root_doc:
        pages = [page for page in re.findall(r"\]\(([\w-]+)\.md\)", text) if page != "README"]
        listed = [*dict.fromkeys(pages), *(f"../{page}" for page in OUTSIDE)]
        text += "\n".join(["", "```{toctree}", ":hidden:", *listed, "```", ""])
    text = re.sub(r'^<a id="([\w-]+)"></a>$', r"(\1)=", text, flags=re.MULTILINE)

    def folder(link: re.Match[str]) -> str:
        if (here / link[2] / "README.md").is_file():
            return f"[{link[1]}]({link[2]}README.md)"
        return link[1] if (here / link[2]).is_dir() else link[0]

    source[0] = re.sub(r"\[([^]]*)\]\(((?:[\w.-]+/)+)\)", folder, text)


def setup(app: object) -> None:
    app.connect("source-read", prepare)  # type: ignore[attr-defined]
