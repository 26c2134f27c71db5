"""A page in a browser, and everything it said or asked for."""

from __future__ import annotations

from typing import Any


class Opened:
    """A tab of its own at an address; with a list of rollouts, what stands in it."""

    def __init__(self, chromium: Any, address: str, **settings: Any) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab = chromium.new_context(**settings).new_page()
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.goto(address)

    def count(self) -> int:
        return int(self.tab.inner_text("#count").split()[0].replace(",", ""))

    def choose(self, name: str, value: str) -> None:
        self.tab.select_option(f"#filters [name={name}]", value)

    def column(self, place: int) -> set[str]:
        return set(self.tab.locator(f".rollouts summary span:nth-child({place})").all_inner_texts())
