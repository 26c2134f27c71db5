"""A run of a million rollouts opens at once: 1,000 steps of 1,000 answers of 1 kB, of which a page
of 25 is read.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from run_folder import recipe
from view_server import viewed

from ehrmind.runs import Run, open_run
from ehrmind.runs.records import RolloutRow, rows_of

pytestmark = [pytest.mark.slow, pytest.mark.alone]
STEPS, QUESTIONS, GROUP = 1000, 125, 8
BYTES = 1000
MOST = 2.0  # seconds to open
FILTERS = (
    {"verdict": "wrong"},
    {"verdict": "malformed", "arm": "rlvr"},
    {"stratum": "medcalc/made-up/task-7"},
    {"stratum": "medcalc/made-up/task-3", "verdict": "right", "page": "40"},
    {"reason": "wrong value", "page": "1000"},
    {"stage": "rlvr-rlvr", "step": "500"},
    {"case": "question-17"},
)


def write_million(run: Run) -> None:
    """Writes the columns that `Run.write_rollouts` keeps, a file a step; the contents are invented,
    each text another one."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=draw.randint(2, 9))) for _ in range(5000)]
    pool = pl.Series(
        "text", [f"<think>{' '.join(draw.choices(words, k=200))}"[:BYTES].ljust(BYTES, ".") for _ in range(5000)]
    )
    count, lucks = QUESTIONS * GROUP, np.random.default_rng(1)
    first: dict[str, Any] = {
        "step": 0, "arm": "rlvr", "stage": "rlvr-rlvr", "case": "", "stratum": "", "member": 0, "text": "", "earlier": "", "reward": 0.1,
        "parts": {"format": 0.1, "outcome": 0.0}, "correct": False, "reason": "wrong value", "advantage": -0.1, "tokens": 200,
        "prompt_tokens": 400, "logprob": -50.0, "finish_reason": "stop", "well_formed": True, "probabilities": None,
    }  # fmt: skip
    run.write_rollouts("rlvr-rlvr", 0, [RolloutRow(**first)])
    like = pl.concat([pl.read_parquet(run.rollouts / "rlvr-rlvr-000000.parquet")] * count, rechunk=True)
    member = pl.int_range(count, eager=True)
    for step in range(STEPS):
        question = (member // GROUP + step * QUESTIONS) % 6000
        luck = pl.Series(lucks.random(count))
        frame = like.with_columns(
            step=pl.lit(step, pl.Int64),
            case="question-" + question.cast(pl.String),
            stratum="medcalc/made-up/task-" + (question % 55).cast(pl.String),
            member=member % GROUP,
            text=pool.sample(count, seed=step) + str(step),
            correct=luck < 0.4,
            well_formed=luck < 0.9,
            reason=pl.select(
                pl.when(luck < 0.4).then(None).when(luck < 0.9).then(pl.lit("wrong value")).otherwise(pl.lit("no JSON"))
            ).to_series(),
            reward=luck.round(2),
        )
        frame.write_parquet(run.rollouts / f"rlvr-rlvr-{step:06d}.parquet")
    run.manifest.add("protected/rollouts")


class Page:
    """Requests of the page's script, over one connection."""

    def __init__(self, address: str) -> None:
        host, _, path = address.removeprefix("http://").partition("/")
        self.wire = http.client.HTTPConnection(host, timeout=60)
        self.wire.request("GET", f"/{path}")
        answer = self.wire.getresponse()
        answer.read()
        self.cookie = str(answer.getheader("set-cookie")).partition(";")[0]

    def get(self, name: str, **asked: str) -> tuple[Any, float]:
        """(the answer, seconds until it was read)"""
        asking = "&".join(
            f"{key}={value.replace('/', '%2F').replace(' ', '+')}" for key, value in {"run": "million", **asked}.items()
        )
        started = time.perf_counter()
        self.wire.request("GET", f"/api/{name}?{asking}", headers={"Cookie": self.cookie})
        answer = self.wire.getresponse()
        body = answer.read()
        seconds = time.perf_counter() - started
        assert answer.status == 200, body
        return json.loads(body), seconds


def complete(page: Page) -> tuple[Any, float, float]:
    """(the list when all is read, seconds until it is there with the newest, seconds until it is
    complete), as the page's script asks."""
    seconds = [page.get(name)[1] for name in ("runs", "figures")]
    found, first = page.get("rollouts")
    seconds += [first, page.get("filters")[1]]
    opening = sum(seconds)
    while found["left"]:
        found, more = page.get("rollouts")
        seconds.append(more)
    return found, opening, sum(seconds)


def test_a_million_rollouts_open_within_two_seconds_and_filter_within_half_a_second(tmp_path: Path) -> None:
    """Seconds of what opening the run asks of a server that has just begun, until the newest
    rollouts and the filters are there (files may be in the operating system's cache, since they
    were just written); then of filtered pages of a server that knows the run, each asked for the
    first time. Drawing the page in a browser is not in it."""
    run = open_run(tmp_path / "runs" / "million", recipe(0.0), resume=False)
    write_million(run)
    with viewed(tmp_path / "runs") as address:
        page = Page(address)
        found, opening, whole = complete(page)
        assert found["total"] == STEPS * QUESTIONS * GROUP and len(found["rows"]) == 25
        filtered = []
        for asked in FILTERS:
            found, seconds = page.get("rollouts", **asked)
            assert 0 < found["total"] < STEPS * QUESTIONS * GROUP and all(
                len(row["answer"]) > 100 for row in found["rows"]
            )
            filtered.append(seconds)
        row = found["rows"][0]
        _, grouped = page.get("group", stage=row["stage"], step=str(row["step"]), case=row["case"])
        run.write_rollouts(
            "rlvr-rlvr",
            STEPS,
            rows_of(pl.read_parquet(run.rollouts / "rlvr-rlvr-000007.parquet").with_columns(step=STEPS)),
        )
        grown, renewed = page.get("rollouts")
        assert grown["total"] == (STEPS + 1) * QUESTIONS * GROUP
        found, searched = page.get("rollouts", text="nowhere to be found")
    print(
        f"opening {opening:.2f} s, complete after {whole:.2f} s, "
        f"filtered pages {statistics.median(filtered):.3f} s (most {max(filtered):.3f} s), a group {grouped:.3f} s,"
    )
    print(
        f"after a new step {renewed:.3f} s; a search: {1 - found['not_searched'] / found['of']:.0%} of the texts in"
        f" {searched:.2f} s"
    )
    assert opening < MOST
    assert max(filtered) < 0.5 and grouped < 0.5 and renewed < 0.5
