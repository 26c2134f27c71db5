"""`--online` of the commands that run a recipe: the size is asked first, the commit is pinned."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ehrmind.cli import downloads, main
from ehrmind.cli import stages as cli_stages
from tests.loopback_hub import COMMIT, OLDER, loopback_hub
from tests.medcalc_cases import SHORT
from tests.small_models import small_model

RECIPE = {
    "data": {
        split: {"synthetic": {"n": n, "seed": n, **SHORT}}
        for split, n in (("train", 9), ("tuning", 4), ("held_out", 5))
    },
    "model": {"name": "owner/model"},
    "decoding": {"max_new_tokens": 2},
    "pilot": {"questions": 2, "samples": 2, "interventions": 0},
    "arms": ["base"],
    "threads": 1,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = small_model(tmp_path_factory.mktemp("hub") / "model", "qwen3")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.delenv("EHRMIND_TRACEBACK", raising=False)
    for module in (cli_stages,):  # the libraries are imported already, and must stay online
        monkeypatch.setattr(module, "stay_offline", lambda online: None)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    with loopback_hub(dict(files), tmp_path, monkeypatch) as state:
        yield state


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Puts a person at the terminal who answers every question so. Returns the questions."""

    def answer(text: str) -> list[str]:
        asked: list[str] = []

        def confirm(question: str, *, abort: bool, err: bool) -> None:
            asked.append(question)
            if text != "y":
                raise downloads.typer.Abort

        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr(downloads.typer, "confirm", confirm)
        return asked

    return answer


def pilot(*more: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["pilot", "recipe.yaml", "--out", "run", *more])
    return int(ended.value.code or 0)


def commit_of(run: str) -> Any:
    return json.loads((Path(run) / "provenance.json").read_text())["model"]["revision"]


def files_asked(state: SimpleNamespace) -> list[str]:
    return [request for request in state.requests if "resolve" in request]


def test_without_a_terminal_nothing_comes_unless_yes_was_said(
    hub: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pilot("--online") == 2
    said = capsys.readouterr().err
    assert f"owner/model at commit {COMMIT}: " in said and "0.01 GB, to download into" in said and "free\n" in said
    assert "Nobody is there to be asked, so nothing was downloaded; --yes answers beforehand." in said
    assert not files_asked(hub) and not Path("run").exists()
    assert pilot("--online", "--yes") == 0 and commit_of("run") == COMMIT


def test_at_a_terminal_the_answer_decides_and_what_is_here_is_not_asked_for_again(
    hub: SimpleNamespace, answers: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert answers("n") == [] and pilot("--online") == 130
    assert "nobody said yes, so nothing was done" in capsys.readouterr().err and not files_asked(hub)
    asked = answers("y")
    assert pilot("data.online=true") == 0 and asked == ["Download it?"]
    assert f"owner/model at commit {COMMIT}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "recipe.yaml", "--out", "another", "--online"])
    assert len(asked) == 1 and "to download" not in capsys.readouterr().err and commit_of("another") == COMMIT


def test_a_resumed_run_keeps_its_commit_although_the_branch_has_moved_on(
    hub: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pilot("--online", "--yes") == 0
    hub.head = OLDER
    hub.files["config.json"] += b"\n"
    for more in (["--online"], []):  # leave to go online is no part of a recipe
        before = len(hub.requests)
        assert pilot("--resume", *more) == 0, capsys.readouterr().err
        assert commit_of("run") == COMMIT and len(hub.requests) == before
    with pytest.raises(SystemExit):
        main(["pilot", "recipe.yaml", "--out", "newer", "--online", "--yes"])
    assert commit_of("newer") == OLDER
    assert pilot("--resume") == 0 and commit_of("run") == COMMIT, "the cache's branch has moved on too"


def test_seeds_share_a_commit_and_a_used_folder_is_refused_before_anyone_is_asked(
    hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ehrmind.stages import seeds

    run_one = seeds.run_pipeline

    def moving(*arguments: Any, **options: Any) -> Any:
        try:
            return run_one(*arguments, **options)
        finally:
            hub.head = OLDER  # after the first seed

    monkeypatch.setattr(seeds, "run_pipeline", moving)
    assert pilot("--online", "--yes", "seeds=2") == 0, capsys.readouterr().err
    assert [commit_of(f"run/seeds/{seed}") for seed in (0, 1)] == [COMMIT, COMMIT]
    hub.requests.clear()
    assert pilot("--online", "--yes", "seeds=2") == 2
    assert "already holds a run" in capsys.readouterr().err and not hub.requests
