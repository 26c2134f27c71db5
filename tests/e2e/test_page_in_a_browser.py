"""The page with text in Chromium: quiet, alone, filterable, and indifferent to hostile text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_page import Opened
from run_folder import HOSTILE, finished_run

from ehrmind.report import write_comparison, write_report

pytestmark = pytest.mark.browser
HIDDEN = {"\u202e": "⟨U+202E⟩", "\u202c": "⟨U+202C⟩", "\u2028": "⟨U+2028⟩", "\u2029": "⟨U+2029⟩", "\u200b": "⟨U+200B⟩"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_report(finished_run(tmp_path_factory.mktemp("runs") / "run", cases=70).path, with_text=True)


class Visit(Opened):
    def __init__(self, chromium: Any, page: Path, **settings: Any) -> None:
        super().__init__(chromium, page.as_uri(), **settings)


@pytest.fixture
def visit(chromium: Any, pages: list[Path]) -> Iterator[Visit]:
    opened = Visit(chromium, pages[1])
    yield opened
    assert opened.complaints == [] and opened.tab.evaluate("window.pwned") is None
    assert opened.requests == [pages[1].as_uri()], "nothing but the file itself was asked for"
    opened.tab.context.close()


def test_the_page_without_text_opens_quietly_and_alone_in_light_dark_and_narrow(
    chromium: Any, pages: list[Path]
) -> None:
    for settings in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 380, "height": 800}}):
        visit = Visit(chromium, pages[0], **settings)
        assert visit.complaints == [] and visit.requests == [pages[0].as_uri()]
        width = visit.tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "the page itself does not scroll sideways"
        ink, paper = (
            visit.tab.evaluate(f"getComputedStyle(document.documentElement).{name}")
            for name in ("color", "backgroundColor")
        )
        label = visit.tab.evaluate("getComputedStyle(document.querySelector('.plot svg text')).fill")
        assert ink != paper and label in (
            ink,
            visit.tab.evaluate("getComputedStyle(document.querySelector('caption')).color"),
        )
        visit.tab.context.close()


@pytest.fixture(scope="module")
def comparison(pages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    other = finished_run(folder / "other", name="another run", cases=70, kl=0.0)
    return write_comparison([pages[0].parent, other.path], folder / "comparison.html")


def test_the_comparison_opens_quietly_and_alone_in_light_dark_and_narrow(chromium: Any, comparison: Path) -> None:
    for settings in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 380, "height": 800}}):
        visit = Visit(chromium, comparison, **settings)
        assert visit.complaints == [] and visit.requests == [comparison.as_uri()]
        width = visit.tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "the page itself does not scroll sideways"
        assert (
            visit.tab.evaluate("getComputedStyle(document.querySelector('.plot svg path[style*=opacity]')).fill")
            != "none"
        )
        visit.tab.context.close()


def test_a_page_can_be_used_by_keyboard_and_by_ear(chromium: Any, pages: list[Path], comparison: Path) -> None:
    for page in (pages[0], comparison):
        visit = Visit(chromium, page)
        visit.tab.keyboard.press("Tab")
        assert visit.tab.evaluate("document.activeElement.className") == "skip"
        visit.tab.keyboard.press("Enter")
        assert visit.tab.evaluate("document.activeElement.id") == "main"
        visit.tab.keyboard.press("Tab")
        assert visit.tab.evaluate("document.activeElement.getAttribute('role')") == "region", (
            "a table that scrolls is reached"
        )
        folded = visit.tab.locator("details > summary").first
        folded.focus()
        visit.tab.keyboard.press("Enter")
        assert folded.locator("..").get_attribute("open") is not None
        heard = visit.tab.locator("body").aria_snapshot()
        assert "- banner:" in heard and '- navigation "On this page":' in heard and "- main:" in heard
        plots, tables = (len(re.findall(f"- '?{role} \"", heard)) for role in ("img", "table"))
        assert 0 < plots <= tables, "every plot has a name, and a table"
        visit.tab.context.close()


def test_filters_leave_what_was_asked_for(visit: Visit) -> None:
    everything = visit.count()
    visit.choose("arm", "SFT only")
    assert visit.column(2) == {"SFT only"} and 0 < visit.count() < everything
    visit.choose("verdict", "right")
    assert visit.column(1) == {"✓ right"} and visit.column(4) == {""}
    right = visit.count()
    visit.choose("verdict", "wrong")
    wrong = visit.count()
    assert visit.column(1) == {"✗ wrong"}
    visit.choose("reason", "no answer block")
    assert visit.column(4) == {"no answer block"} and visit.count() < wrong
    visit.choose("reason", "")
    visit.choose("verdict", "")
    assert visit.count() == right + wrong
    visit.choose("stratum", "medcalc/diagnosis/sirs")
    assert visit.column(3) == {"medcalc/diagnosis/sirs"}
    visit.tab.click("#filters button[type=reset]")
    visit.tab.locator("#count", has_text=f"{everything:,} rollouts").wait_for()


def test_pages_of_the_list_turn_from_the_first_to_the_last(visit: Visit) -> None:
    visit.choose("stage", "evaluate-base-greedy")
    assert visit.count() == 70 and visit.tab.inner_text("#place") == "page 1 of 3"
    assert visit.tab.is_disabled("#previous")
    visit.tab.click("#next")
    visit.tab.click("#next")
    assert visit.tab.locator(".rollouts > li").count() == 20 and visit.tab.is_disabled("#next")


def test_a_rollout_opens_by_the_keyboard_and_shows_what_it_is_about(visit: Visit) -> None:
    visit.choose("verdict", "right")
    visit.tab.locator(".rollouts summary").first.focus()
    visit.tab.keyboard.press("Enter")
    visit.tab.locator(".rollouts .body h4").first.wait_for()
    titles = visit.tab.locator(".rollouts .body").first.locator("h4").all_text_contents()
    assert titles == ["Record", "Question", "Thinking", "Answer", "Expected", "Verdict"]


def test_hostile_text_is_shown_as_it_is_written(visit: Visit) -> None:
    visit.tab.fill("#filters [name=text]", "window.pwned = 1")
    assert visit.count() > 0
    visit.tab.locator(".rollouts summary").first.click()
    visit.tab.locator(".rollouts .body .text").first.wait_for()
    shown = visit.tab.locator(".rollouts .body .text").first.text_content()
    assert shown == "".join(HIDDEN.get(character, character) for character in HOSTILE)
    assert visit.tab.locator(".rollouts script, .rollouts img, .rollouts b").count() == 0


def test_a_script_that_is_not_the_pages_own_does_not_run(chromium: Any, pages: list[Path], tmp_path: Path) -> None:
    forged = tmp_path / "forged.html"
    forged.write_text(
        pages[1].read_text(encoding="utf-8").replace("</main>", "</main><script>window.pwned = 4</script>", 1),
        encoding="utf-8",
    )
    visit = Visit(chromium, forged)
    assert visit.tab.evaluate("window.pwned") is None and any(
        "Content Security Policy" in said for said in visit.complaints
    )
    visit.tab.context.close()
