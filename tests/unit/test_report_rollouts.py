"""report/rollouts: what is drawn, and that no text can leave its place in the page."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Page
from run_folder import CANARY, HOSTILE, finished_run

from ehrmind.report import write_report
from ehrmind.report.rollouts import as_json, sampled_rollouts, split_blocks, spread
from ehrmind.runs import Run
from tests.stored import drop


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.mktemp("runs") / "run", cases=28)


def identity(row: dict[str, object]) -> tuple[object, ...]:
    return row["stage"], row["step"], row["case"], row["member"]


def test_the_sample_is_seeded_bounded_and_without_repeats(run: Run) -> None:
    first, again, other = (sampled_rollouts(run, seed, most=200) for seed in (1, 1, 2))
    assert first == again and [identity(row) for row in first["rollouts"]] != [
        identity(row) for row in other["rollouts"]
    ]
    assert len(first["rollouts"]) == len({identity(row) for row in first["rollouts"]}) == 200 < first["total"]


def test_every_stage_and_stratum_is_seen_before_any_is_seen_often(run: Run) -> None:
    rollouts = sampled_rollouts(run, 1, most=200)["rollouts"]
    cells = Counter((row["stage"], row["stratum"]) for row in rollouts)
    written = pl.concat(
        [pl.read_parquet(file, columns=["stage", "stratum"]) for file in run.rollouts.glob("*.parquet")]
    )
    sizes = Counter(written.rows())
    assert set(cells) == set(sizes) and {row["arm"] for row in rollouts} == {
        "Base",
        "RLVR only",
        "SFT only",
        "SFT + RLVR",
    }
    rest = max(cells.values())
    assert all(count == sizes[cell] or count >= rest - 1 for cell, count in cells.items())


def test_a_small_run_is_shown_whole(run: Run) -> None:
    sample = sampled_rollouts(run, 1, most=10**6)
    assert len(sample["rollouts"]) == sample["total"]


@given(st.integers(1, 40), st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1, max_size=60))
def test_spread_gives_each_cell_its_turn(most: int, rows: list[tuple[str, str]]) -> None:
    frame = pl.DataFrame(
        {"stage": [stage for stage, _ in rows], "stratum": [stratum for _, stratum in rows], "row": range(len(rows))}
    )
    chosen = spread(frame, 0, most)
    assert chosen.height == min(most, len(rows)) == chosen["row"].n_unique()
    counts, sizes = Counter(zip(chosen["stage"], chosen["stratum"], strict=True)), Counter(rows)
    assert all(counts[cell] == sizes[cell] or counts[cell] >= max(counts.values()) - 1 for cell in sizes)


def test_a_rollout_carries_its_question_thinking_answer_and_verdict(run: Run) -> None:
    sample = sampled_rollouts(run, 1, most=10**6)
    right = next(row for row in sample["rollouts"] if row["correct"])
    wrong = next(row for row in sample["rollouts"] if row["reason"] == "no answer block")
    assert json.loads(right["answer"])["answer"] is not None and right["thinking"] and right["reason"] is None
    assert wrong["text"].startswith(CANARY) and "answer" not in wrong
    asked = sample["cases"][right["case"]]
    assert set(asked) == {"record", "question", "expected"} and asked["record"].startswith(CANARY)


@given(
    st.recursive(
        st.text() | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_in_the_page_starts_no_markup_and_comes_back_whole(value: object) -> None:
    text = as_json(value)
    assert text.isascii() and not set("<>&") & set(text)
    assert json.loads(text) == value


def test_hostile_text_stays_inside_its_block(run: Run) -> None:
    html = write_report(run.path, with_text=True)[1].read_text(encoding="utf-8")
    assert not {"\u202e", "\u2028", "\u2029"} & set(html)
    page = Page(html)
    assert page.tags.count("script") == 2 and "img" not in page.tags
    block = html.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    data = json.loads(block)
    assert HOSTILE in {case["record"] for case in data["cases"].values()}
    assert HOSTILE.strip() in {row.get("thinking") for row in data["rollouts"]}


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("<think>a</think>\n<answer>{}</answer>\n", ("a", "{}")),
        ("<think>a</think><answer>{}</answer> more", (None, None)),
        ("<think>a</think>between<answer>{}</answer>", (None, None)),
        ("<think>a</think><think>b</think><answer>{}</answer>", (None, None)),
        ("<think>a</think><answer>{}", (None, None)),
        ("<answer>{}</answer>", (None, None)),
        ("", (None, None)),
    ],
)
def test_thinking_and_answer_are_shown_apart_only_where_the_text_keeps_the_protocol(
    text: str, blocks: tuple[str | None, str | None]
) -> None:
    assert split_blocks(text) == blocks


def test_a_rollout_whose_case_is_gone_is_still_shown(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", cases=14)
    drop(run.cases("train"))
    sample = sampled_rollouts(run, 1)
    assert any(row["case"] not in sample["cases"] for row in sample["rollouts"])
