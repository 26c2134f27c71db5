"""The live view in Chromium: quiet, alone, filterable, alive, and indifferent to hostile text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opened_page import Opened
from run_folder import CANARY, HOSTILE, finished_run
from view_server import viewed

from ehrmind.runs import Run
from ehrmind.runs.purge import purge

pytestmark = pytest.mark.browser
HIDDEN = {"\u202e": "⟨U+202E⟩", "\u202c": "⟨U+202C⟩", "\u2028": "⟨U+2028⟩", "\u2029": "⟨U+2029⟩", "\u200b": "⟨U+200B⟩"}
NAME = "a <b>run</b> {{ 7 * 7 }} \u202enur a"
LONG = f"{HOSTILE} {'word ' * 300_000}the end of it"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run = finished_run(folder / "whole", name=NAME, arms=("base", "rlvr"), cases=70)
    row = run.rollout_rows("pilot")[0]
    run.write_rollouts("resample-1", 0, [replace(row, stage="resample-1", text=LONG, reason="far too long")])
    finished_run(folder / "purged", arms=("base",), cases=28)
    purge(folder / "purged")
    return folder


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with viewed(root) as found:
        yield found


class Visit(Opened):
    """A view that was opened."""

    def __init__(self, chromium: Any, address: str, run: str = "whole", **settings: Any) -> None:
        self.home = address.partition("?")[0]
        super().__init__(chromium, address, **settings)
        self.tab.get_by_role("button", name=run, exact=True).click()
        self.tab.locator("#count", has_text="rollouts").wait_for()
        self.tab.locator("#about", has_text="last stage").wait_for()
        self.settled()

    def choose(self, name: str, value: str) -> None:
        super().choose(name, value)
        self.settled()

    def search(self, text: str) -> None:
        self.tab.fill("#filters [name=text]", text)
        self.settled()

    def settled(self) -> None:
        self.tab.locator("#list[aria-busy=false]").wait_for(state="attached")

    def open_first(self) -> Any:
        self.tab.locator(".rollouts summary").first.click()
        body = self.tab.locator(".rollouts .body").first
        body.locator("h4").first.wait_for()
        return body


@pytest.fixture
def visit(chromium: Any, address: str) -> Iterator[Visit]:
    opened = Visit(chromium, address)
    yield opened
    assert opened.complaints == [] and opened.tab.evaluate("window.pwned") is None
    assert all(request.startswith(opened.home) for request in opened.requests), (
        "nothing but the view itself was asked for"
    )
    opened.tab.context.close()


def shown(text: str) -> str:
    return "".join(HIDDEN.get(character, character) for character in text)


def test_the_view_opens_quietly_and_alone_in_light_dark_and_narrow(chromium: Any, address: str) -> None:
    for settings in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 400, "height": 800}}):
        visit = Visit(chromium, address, **settings)
        visit.open_first()
        assert visit.complaints == [] and all(request.startswith(visit.home) for request in visit.requests)
        width = visit.tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "the page itself does not scroll sideways"
        ink, paper = (
            visit.tab.evaluate(f"getComputedStyle(document.documentElement).{name}")
            for name in ("color", "backgroundColor")
        )
        assert ink != paper
        visit.tab.context.close()


def test_the_token_leaves_the_address_and_a_reload_keeps_what_was_looked_at(visit: Visit) -> None:
    assert "token" not in visit.tab.url
    visit.choose("stage", "rlvr-rlvr")
    visit.choose("step", "4")
    assert visit.count() == 16
    visit.tab.reload()
    visit.tab.locator("#count", has_text="16 of").wait_for()
    assert visit.tab.input_value("#filters [name=step]") == "4" and visit.tab.title().startswith("a <b>run</b>")


def test_without_the_token_there_is_a_sentence_and_nothing_else(chromium: Any, address: str) -> None:
    tab = chromium.new_context().new_page()
    answer = tab.goto(address.partition("?")[0])
    assert answer.status == 403 and "needs its token" in tab.inner_text("body")
    tab.context.close()


def test_every_control_has_a_name(visit: Visit) -> None:
    unnamed = (
        "[...document.querySelectorAll('select, input, button')].filter(one => !one.labels?.length && !one.textContent"
        " && !one.hidden)"
    )
    assert visit.tab.evaluate(f"{unnamed}.map(one => one.outerHTML)") == []
    pictures = visit.tab.locator(".charts svg")
    assert pictures.count() >= 6 and all(pictures.nth(n).get_attribute("aria-label") for n in range(pictures.count()))
    visit.tab.locator("#curve-tables summary").first.click()
    assert visit.tab.locator("#curve-tables table").first.locator("tbody tr").count() == 30


def test_filters_leave_what_was_asked_for(visit: Visit) -> None:
    everything = visit.count()
    visit.choose("arm", "rlvr")
    assert visit.column(2) == {"RLVR only"} and 0 < visit.count() < everything
    visit.choose("verdict", "right")
    assert visit.column(1) == {"✓ right"} and visit.column(4) == {""}
    visit.choose("verdict", "malformed")
    assert visit.column(1) == {"✗ malformed"}
    visit.choose("reason", "no answer block")
    assert visit.column(4) == {"no answer block"}
    visit.choose("stratum", "medcalc/diagnosis/sirs")
    assert visit.column(3) <= {"medcalc/diagnosis/sirs"}
    visit.tab.click("#filters button[type=reset]")
    visit.settled()
    visit.tab.locator("#count", has_text=f"{everything:,} of").wait_for()


def test_pages_turn_from_the_first_to_the_last(visit: Visit) -> None:
    visit.choose("stage", "evaluate-base-greedy")
    assert (
        visit.count() == 70 and visit.tab.inner_text("#place") == "page 1 of 3" and visit.tab.is_disabled("#previous")
    )
    visit.tab.click("#next")
    visit.tab.locator("#place", has_text="page 2 of 3").wait_for()
    visit.tab.click("#next")
    visit.tab.locator("#place", has_text="page 3 of 3").wait_for()
    assert visit.tab.locator(".rollouts > li").count() == 20 and visit.tab.is_disabled("#next")


def test_a_rollout_opens_by_the_keyboard_with_grounded_values_marked(visit: Visit) -> None:
    visit.choose("stage", "evaluate-rlvr-greedy")
    visit.choose("verdict", "right")
    visit.tab.locator(".rollouts summary").first.focus()
    visit.tab.keyboard.press("Enter")
    body = visit.tab.locator(".rollouts .body").first
    body.locator("h4").first.wait_for()
    titles = body.locator("h4").all_text_contents()
    assert titles == ["Record", "Question", "Thinking", "Answer", "Expected", "Verdict", "The process audit"]
    for place in (0, 2):
        assert body.locator(".text").nth(place).locator("mark.grounded").count() > 0


def test_a_group_stands_side_by_side_and_the_keyboard_closes_it(visit: Visit) -> None:
    visit.choose("stage", "rlvr-rlvr")
    visit.open_first().get_by_role("button", name="The group side by side").click()
    answers = visit.tab.locator("#panel article")
    answers.first.wait_for()
    assert answers.count() == 4
    assert all("reward" in told and "advantage" in told for told in answers.locator(".facts").all_inner_texts())
    tops = {answers.nth(n).bounding_box()["y"] for n in range(4)}
    assert len(tops) == 1, "side by side where there is room"
    visit.tab.keyboard.press("Escape")
    assert not visit.tab.locator("#panel").is_visible()


def test_two_stages_answers_to_one_question_are_compared(visit: Visit) -> None:
    visit.choose("stage", "evaluate-base-greedy")
    visit.choose("reason", "no answer block")
    visit.open_first().get_by_role("button", name="Compare with another answer").click()
    panel = visit.tab.locator("#panel")
    panel.locator(".words").wait_for()
    panel.locator("select").nth(1).select_option(
        label=panel.locator("option", has_text="evaluate-rlvr-greedy").first.inner_text()
    )
    panel.locator(".facts", has_text="evaluate-rlvr-greedy").wait_for()
    gone, new = ("".join(panel.locator(f".words {tag}").all_inner_texts()) for tag in ("del", "ins"))
    assert "that can be parsed" in gone and "<think>" in new


def test_hostile_text_is_shown_as_it_is_written(visit: Visit) -> None:
    assert visit.tab.inner_text("#title") == "a <b>run</b> {{ 7 * 7 }} ⟨U+202E⟩nur a"
    visit.choose("stage", "evaluate-base-greedy")
    visit.search("window.pwned = 1")
    assert visit.count() == 1
    body = visit.open_first()
    assert body.locator(".text").first.text_content() == shown(HOSTILE)
    body.get_by_role("button", name="The group side by side").click()
    visit.tab.locator("#panel article").first.wait_for()
    assert visit.tab.locator(".rollouts script, .rollouts img, .rollouts b, #panel script, #panel img").count() == 0


def test_megabytes_are_shown_in_stretches_to_the_last_word(visit: Visit) -> None:
    visit.choose("stage", "resample-1")
    body = visit.open_first()
    assert shown(HOSTILE) in str(body.locator(".text").nth(2).text_content())
    more = body.get_by_role("button", name="Show more of it")
    for _ in range(len(LONG) // 200_000):
        before = more.inner_text()
        more.click()
        visit.tab.wait_for_function(
            "told => ![...document.querySelectorAll('.body button')].some(one => one.textContent === told)", arg=before
        )
    assert more.count() == 0 and str(body.inner_text()).count("the end of it") == 1


def test_a_run_in_progress_grows_on_the_page_without_a_reload(chromium: Any, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "whole", tmp_path / "runs" / "going")
    run = Run(tmp_path / "runs" / "going")
    (run.path / "results.json").unlink()
    rows = [row for row in run.rollout_rows("rlvr-rlvr") if row.step == 29]
    with viewed(tmp_path / "runs") as address:
        visit = Visit(chromium, address, "going")
        before, loads = visit.count(), len([request for request in visit.requests if request.endswith("/view.js")])
        run.write_rollouts("rlvr-rlvr", 30, [replace(row, step=30) for row in rows])
        run.log("rlvr-rlvr", "rlvr", 30, {"reward": 0.75, "accuracy": 0.5})
        run.raise_alarm("rlvr-rlvr", "rlvr", 30, "length", "answers grow")
        visit.tab.locator("#count", has_text=f"{before + 16:,} of").wait_for(timeout=8000)
        visit.tab.locator("#alarms li", has_text="answers grow").wait_for(timeout=8000)
        assert visit.tab.locator(".rollouts summary").first.inner_text().count("step 31") == 1
        assert "RLVR only 0.75 at step 31" in str(visit.tab.locator(".charts svg").first.get_attribute("aria-label"))
        body = visit.open_first()
        run.write_rollouts("rlvr-rlvr", 31, [replace(row, step=31) for row in rows])
        visit.tab.locator("#renew", has_text="There is more").wait_for(timeout=8000)
        assert body.is_visible(), "what is read stays where it is"
        visit.tab.click("#renew")
        assert visit.count() == before + 32 and "step 32" in visit.tab.locator(".rollouts summary").first.inner_text()
        assert visit.complaints == []
        assert len([request for request in visit.requests if request.endswith("/view.js")]) == loads == 1
        visit.tab.context.close()


def test_a_purged_run_keeps_its_figures_and_says_what_is_gone(chromium: Any, address: str) -> None:
    visit = Visit(chromium, address, "purged")
    assert "was purged" in visit.tab.inner_text("#no-rollouts") and not visit.tab.locator("#filters").is_visible()
    assert visit.tab.locator("#results-tables table").count() == 1 and CANARY not in visit.tab.inner_text("body")
    assert visit.complaints == []
    visit.tab.context.close()
