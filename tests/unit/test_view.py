"""The live view behind its guard: who is answered, what is found and opened, what comes while a run
goes on.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_folder import CANARY, HOSTILE, finished_run

from ehrmind.cli import main
from ehrmind.runs import Run
from ehrmind.runs.purge import purge
from ehrmind.view import guard, server
from ehrmind.view import rollout_index as index
from ehrmind.view import search as searching
from tests.stored import drop

PORT, TOKEN = 8765, "a-token-for-the-tests"
HOME = f"http://127.0.0.1:{PORT}"
ROUTES = ("/", "/view.js", "/page.css", "/api/runs", "/api/figures?run=whole", "/api/rollouts?run=whole", "/nowhere")


def client(root: Path, token: str | None = TOKEN, **headers: str) -> Any:
    testing = pytest.importorskip(
        "starlette.testclient", reason="starlette or httpx2 is not installed; `make setup` installs both"
    )
    return testing.TestClient(server.application(root, PORT, token), base_url=HOME, headers=headers)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    finished_run(root / "whole", arms=("base", "rlvr"), cases=28)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def asking(made: Path) -> Any:
    opened = client(made, None)
    return lambda name, **asked: get(opened, name, **asked)


def get(opened: Any, name: str, **asked: Any) -> Any:
    answer = opened.get(f"/api/{name}", params={"run": "whole", **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("address", ROUTES)
def test_without_the_token_nothing_is_answered(made: Path, address: str) -> None:
    for asked in (address, f"{address}{'&' if '?' in address else '?'}token=another-token-for-the-tests"):
        answer = client(made).get(asked)
        assert answer.status_code == 403 and answer.text == guard.NO_TOKEN


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(made: Path) -> None:
    opened = client(made)
    answer = opened.get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said and "samesite=strict" in said and TOKEN not in said
    assert opened.get("/").status_code == 200 and opened.get("/api/runs").json()[0]["id"] == "whole"
    assert client(made, cookie=f"ehrmind-view-{PORT}={TOKEN}").get("/").status_code == 403, (
        "the token itself is no session"
    )


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "localhost:1",
        f"127.0.0.1.evil.example:{PORT}",
        f"0.0.0.0:{PORT}",
        "",
    ],
)
def test_a_foreign_host_is_refused(made: Path, host: str) -> None:
    answer = client(made, None, host=host).get("/api/runs")
    assert answer.status_code == 403 and answer.text == guard.FOREIGN_HOST


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1", f"http://localhost:{PORT}"],
)
def test_a_foreign_origin_is_refused(made: Path, origin: str) -> None:
    answer = client(made, None, origin=origin).get("/api/runs")
    assert answer.status_code == 403 and answer.text == guard.FOREIGN_ORIGIN
    assert client(made, None, origin=HOME).get("/api/runs").status_code == 200


def test_what_another_sites_page_asks_for_is_refused_and_a_link_may_open_the_view(made: Path) -> None:
    for site in ("cross-site", "same-site"):
        assert client(made, None, **{"sec-fetch-site": site}).get("/api/runs").status_code == 403
        assert client(made, None, **{"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).get("/").status_code == 200
    assert (
        client(made, None, host=f"localhost:{PORT}", **{"sec-fetch-site": "same-origin"}).get("/api/runs").status_code
        == 200
    )


def test_every_answer_is_locked_down_and_nothing_but_reading_is_known(made: Path) -> None:
    opened = client(made, None)
    for address in ROUTES:
        answer = opened.get(address)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        assert opened.request(method, "/api/runs").status_code == 405
    assert opened.head("/").status_code == 200


@pytest.mark.parametrize(
    "run", ["", "..", ".", "../runs/whole", "whole/", "whole/../whole", "/etc", "whole/protected", "whole\x00"]
)
def test_only_the_name_of_a_known_run_opens_one(made: Path, run: str) -> None:
    for name in ("figures", "filters", "rollouts", "rollout", "group", "places", "difference", "rest"):
        answer = client(made, None).get(f"/api/{name}", params={"run": run})
        assert answer.status_code == 404 and answer.text.startswith("There is no run of this name")


@pytest.mark.parametrize(
    "stage", ["../cases/train", "../../recipe", "/etc/passwd", "pilot-000000.parquet", "pilot\x00", "rlvr-*"]
)
def test_a_stage_is_looked_up_and_never_a_path(made: Path, stage: str) -> None:
    answer = client(made, None).get("/api/rollout", params={"run": "whole", "stage": stage, "step": 0, "row": 0})
    assert answer.status_code == 404 and answer.text.startswith("There are no rollouts of this stage")
    for path in (
        "/../recipe.yaml",
        "/%2e%2e/recipe.yaml",
        "/runs/whole/recipe.yaml",
        "/static/view.js",
        "/api/../../recipe.yaml",
    ):
        assert client(made, None).get(path).status_code == 404


@pytest.mark.parametrize(
    "asked", [{"page": "-1"}, {"page": "x"}, {"step": "1.5"}, {"step": "٣"}, {"verdict": "maybe"}, {"page": "9" * 40}]
)
def test_a_wrong_question_gets_a_sentence(made: Path, asked: dict[str, str]) -> None:
    answer = client(made, None).get("/api/rollouts", params={"run": "whole", **asked})
    assert answer.status_code == 404 and answer.text.endswith(".") and "\n" not in answer.text


def test_filters_leave_what_was_asked_for(asking: Any) -> None:
    everything = asking("rollouts")
    choices = asking("filters")
    assert everything["total"] == choices["total"] == 42 * 8 + 30 * 4 * 4 + 2 * 2 * 28
    by_verdict = {verdict: asking("rollouts", verdict=verdict) for verdict in choices["verdicts"]}
    assert sum(found["total"] for found in by_verdict.values()) == everything["total"]
    assert all({row["verdict"] for row in found["rows"]} == {verdict} for verdict, found in by_verdict.items())
    stage = asking("rollouts", stage="rlvr-rlvr", step=7)
    assert stage["total"] == 16 and {(row["stage"], row["step"]) for row in stage["rows"]} == {("rlvr-rlvr", 7)}
    stratum = choices["strata"][0]
    assert {row["stratum"] for row in asking("rollouts", stratum=stratum, arm="base")["rows"]} == {stratum}
    failed = asking("rollouts", reason="no answer block")
    assert failed["total"] > 0 and {row["reason"] for row in failed["rows"]} == {"no answer block"}
    assert asking("rollouts", arm="nobody")["total"] == 0


def test_pages_hold_every_rollout_once(asking: Any) -> None:
    first = asking("rollouts", stage="pilot")
    pages = [asking("rollouts", stage="pilot", page=page)["rows"] for page in range(first["pages"])]
    assert len({row["row"] for rows in pages for row in rows}) == first["total"] == 336
    assert asking("rollouts", stage="pilot", page=999)["page"] == first["pages"] - 1


def test_a_group_stands_side_by_side_with_rewards_and_advantages(asking: Any) -> None:
    row = asking("rollouts", stage="rlvr-rlvr", step=3)["rows"][0]
    found = asking("group", stage="rlvr-rlvr", step=3, case=row["case"])
    assert [answer["member"] for answer in found["answers"]] == [0, 1, 2, 3]
    rewards, advantages = ([answer[name] for answer in found["answers"]] for name in ("reward", "advantage"))
    assert [round(reward - sum(rewards) / 4, 3) for reward in rewards] == advantages
    assert CANARY in "".join(words for words, _, _ in found["record"]) and found["question"] and found["expected"]


def test_an_opened_rollout_marks_what_is_grounded(asking: Any) -> None:
    row = asking("rollouts", verdict="right", stage="evaluate-rlvr-greedy")["rows"][0]
    found = asking("rollout", stage=row["stage"], step=row["step"], row=row["row"])
    marked = [[words for words, kind, _ in found[block] if kind == "grounded"] for block in ("record", "thinking")]
    assert all(marked), "a right answer's thinking says numbers of the record"
    assert found["parts"]["grounding"][0] > 0 and "<think>" not in "".join(words for words, _, _ in found["thinking"])


def test_hostile_text_arrives_as_it_was_written(asking: Any, made: Path) -> None:
    row = asking("rollouts", text="window.pwned = 1", stage="evaluate-base-greedy")["rows"][0]
    found = asking("rollout", stage=row["stage"], step=row["step"], row=row["row"])
    assert HOSTILE in "".join(words for words, _, _ in found["record"])
    answer = client(made, None).get(
        "/api/rollout", params={"run": "whole", "stage": row["stage"], "step": row["step"], "row": row["row"]}
    )
    assert answer.headers["content-type"] == "application/json" and answer.text.isascii()


def test_two_answers_to_one_question_are_compared_word_by_word(asking: Any) -> None:
    row = asking("rollouts", stage="evaluate-base-greedy")["rows"][5]
    places = asking("places", case=row["case"])
    assert {place["stage"] for place in places} == {
        f"evaluate-{arm}-{how}" for arm in ("base", "rlvr") for how in ("greedy", "sampled")
    }
    other = next(place for place in places if place["stage"] == "evaluate-rlvr-greedy")
    asked = {"stage": row["stage"], "step": 0, "row": row["row"], "to_stage": other["stage"], "to_step": 0}
    found = asking("difference", **asked, to_row=other["row"][0])
    assert found["before"]["case"] == found["after"]["case"] and found["whole"]
    assert client_says(asking, **asked, to_row=(other["row"][0] + 1) % 28).startswith(
        "These are answers to two questions"
    )


def client_says(asking: Any, **asked: Any) -> str:
    with pytest.raises(AssertionError) as refused:
        asking("difference", **asked)
    return str(refused.value).partition("\n")[0]


def test_a_search_finds_answers_and_records_whatever_their_case_and_goes_on(
    asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asking("rollouts", text=CANARY.lower())["total"] == asking("rollouts")["total"], (
        "every record has the canary"
    )
    assert (
        asking("rollouts", text="SAYS NOTHING THAT CAN BE PARSED")["total"]
        == asking("rollouts", reason="no answer block")["total"]
    )
    assert asking("rollouts", text=".*")["total"] == 0, "what is looked for is no pattern"
    monkeypatch.setattr(searching, "SLICE", 0)
    asked = [asking("rollouts", text="guesses", stage="rlvr-rlvr") for _ in range(30)]
    left = [found["not_searched"] for found in asked]
    assert left == [16 * (29 - turn) for turn in range(30)] and asked[-1]["total"] > asked[0]["total"]


def test_new_steps_and_metrics_appear_and_what_is_known_is_not_sent_again(root: Path) -> None:
    opened, run = client(root, None), Run(root / "whole")
    before = get(opened, "rollouts")
    for name in ("rollouts", "filters", "figures"):
        tag = opened.get(f"/api/{name}", params={"run": "whole"}).headers["etag"]
        assert opened.get(f"/api/{name}", params={"run": "whole"}, headers={"If-None-Match": tag}).status_code == 304
    rows = [row for row in run.rollout_rows("rlvr-rlvr") if row.step == 29]
    run.write_rollouts("rlvr-rlvr", 30, [replace(row, step=30) for row in rows])
    run.log("rlvr-rlvr", "rlvr", 30, {"reward": 0.75, "accuracy": 0.5})
    after = opened.get("/api/rollouts", params={"run": "whole"}, headers={"If-None-Match": tag}).json()
    assert after["total"] == before["total"] + 16 and after["rows"][0]["step"] == 30, "the newest come first"
    assert get(opened, "filters")["steps"]["rlvr-rlvr"] == list(range(31))
    reward = next(chart for chart in get(opened, "figures")["reinforcement"] if chart["name"] == "reward")
    assert reward["lines"][0]["points"][-1][:2] == [31, 0.75]


def test_a_large_run_opens_newest_files_first_and_goes_on(
    made: Path, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [(row["stage"], row["step"], row["row"]) for row in asking("rollouts", page=20)["rows"]]
    monkeypatch.setattr(index, "AT_ONCE", 10)
    monkeypatch.setattr(index, "SLICE", 0)
    opened = client(made, None)
    found = [get(opened, "rollouts", page=20) for _ in range(4)]
    assert [one["left"] for one in found] == [25, 15, 5, 0] and found[0]["of"] < found[1]["of"]
    assert [(row["stage"], row["step"], row["row"]) for row in found[-1]["rows"]] == whole
    fresh = client(made, None)
    assert "etag" not in fresh.get("/api/filters?run=whole").headers, "it is asked for again"
    assert get(fresh, "rollout", stage="pilot", step=0, row=0)["stage"] == "pilot", (
        "what is opened by its name is found at once"
    )


def test_files_that_vanish_change_or_are_broken_do_no_harm(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, run = client(root, None), Run(root / "whole")
    everything = get(opened, "rollouts")["total"]
    run.rollback("rlvr-rlvr", 20)
    rows = [row for row in run.rollout_rows("rlvr-rlvr") if row.step == 19]
    (run.rollouts / "rlvr-rlvr-000021.parquet").write_bytes(b"no parquet at all")
    run.write_rollouts("rlvr-rlvr", 19, rows[:4])
    assert get(opened, "rollouts")["total"] == everything - 10 * 16 - 12
    assert get(opened, "filters")["unread"] == ["rlvr-rlvr-000021.parquet"]
    real = server.Index.rollouts
    monkeypatch.setattr(
        server.Index,
        "rollouts",
        lambda index, whole=False: (real(index, whole), shutil.rmtree(run.rollouts, ignore_errors=True))[0],
    )
    shown = get(opened, "rollouts", stage="pilot")
    assert shown["total"] == 336 and {row["answer"] for row in shown["rows"]} == {None}
    answer = opened.get("/api/rollout", params={"run": "whole", "stage": "pilot", "step": 0, "row": 0})
    assert answer.status_code == 404 and "\n" not in answer.text


def test_a_file_that_goes_between_the_listing_and_the_reading_is_looked_for_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, file = client(root, None), Run(root / "whole").rollouts / "rlvr-rlvr-000003.parquet"
    listed = index.stamps_of(file.parent)
    file.rename(file.with_suffix(".partial"))
    with monkeypatch.context() as patched:
        patched.setattr(index, "stamps_of", lambda folder: listed)
        assert get(opened, "rollouts", stage="rlvr-rlvr")["total"] == 29 * 16 and get(opened, "filters")["unread"] == []
    file.with_suffix(".partial").rename(file)
    assert get(opened, "rollouts", stage="rlvr-rlvr")["total"] == 30 * 16


def test_a_run_that_has_hardly_begun_is_shown_with_a_line_half_written(root: Path) -> None:
    run = Run(root / "whole")
    for gone in ("results.json", "alarms.jsonl", "pilot.json"):
        drop(run.path / gone)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "rlvr-rlvr", "arm": "rl')
    run.raise_alarm("rlvr-rlvr", "rlvr", 3, "length", "answers grow")
    found = get(client(root, None), "figures")
    assert found["state"] == "not finished" and found["results"] == [] and found["said"] == ""
    assert "answers grow" in found["alarms"][0] and len(found["reinforcement"][0]["lines"][0]["points"]) == 30


def test_a_purged_run_shows_its_figures_and_says_that_rollouts_are_gone(root: Path) -> None:
    purge(root / "whole")
    opened = client(root, None)
    found, shown = get(opened, "figures"), get(opened, "rollouts")
    assert found["state"] == "purged" and found["results"] and found["reinforcement"][0]["lines"]
    assert "was purged" in shown["none"] and shown["total"] == 0


def test_a_run_folder_itself_and_the_runs_of_its_seeds_are_served(root: Path) -> None:
    (root / "whole" / "seeds").mkdir()
    shutil.copytree(root / "whole", root / "whole" / "seeds" / "5", ignore=shutil.ignore_patterns("seeds"))
    for folder in (root, root / "whole"):
        assert [run["id"] for run in get(client(folder, None), "runs")] == ["whole", "whole/seeds/5"]
    assert get(client(root, None), "rollouts", run="whole/seeds/5")["total"] > 0
    (root / "whole" / "recipe.yaml").write_text("a: [broken")
    assert get(client(root, None), "runs")[0]["name"] == "(its recipe cannot be read)"


def test_a_fault_tells_nothing_of_a_record(
    made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object) -> None:
        raise KeyError(CANARY)

    monkeypatch.setattr(server, "page_of", fault)
    with caplog.at_level(logging.DEBUG):
        answer = client(made, None).get("/api/rollouts", params={"run": "whole", "text": CANARY})
    assert answer.status_code == 500 and answer.text == guard.FAULT
    ours = [record.getMessage() for record in caplog.records if record.name == "ehrmind.view"]
    assert ours and "KeyError" in ours[0] and CANARY not in "".join(ours)


def test_what_is_sent_is_json_with_lone_surrogates_too() -> None:
    assert json.loads(bytes(server._json({"text": "\ud800 \u202e </script>"}).body)) == {
        "text": "\ud800 \u202e </script>"
    }


def test_the_command_says_what_is_wrong_in_a_sentence(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["view", *map(str, arguments)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "16 to 200 letters" in said(made, "--token", "short")
    assert "exclude each other" in said(made, "--token", TOKEN, "--no-token")
    assert "There is no folder" in said(made / "absent")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another with --port" in said(made, "--port", taken.getsockname()[1])
    monkeypatch.delitem(sys.modules, "ehrmind.view.server")
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert "pip install 'ehrmind[view]'" in said(made)
