"""A page as a reader of HTML sees it: tables by caption, ids, addresses, and text. Standard library
only.
"""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "input", "img"}


class Page(HTMLParser):
    """`tables` maps a caption to rows of cell texts, header row first."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.headers_without_scope = 0
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self._rows: list[list[str]] | None = None
        self._caption = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.attributes.append((tag, given))
        self.ids += [given["id"]] if given.get("id") else []
        self.addresses += [
            value for name, value in attrs if name in ("href", "xlink:href", "src", "action", "data") and value
        ]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("th", "td") and self._rows is not None:
            self._rows[-1].append("")
            self.headers_without_scope += tag == "th" and "scope" not in given

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass
        if tag == "table" and self._rows is not None:
            self.tables[self._caption], self._rows = self._rows, None

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            return
        self.text += data
        if "caption" in self._open:
            self._caption += data
        elif self._rows and ("th" in self._open or "td" in self._open):
            self._rows[-1][-1] += data

    def table(self, begins: str) -> list[list[str]]:
        (found,) = [rows for caption, rows in self.tables.items() if caption.startswith(begins)]
        return found
