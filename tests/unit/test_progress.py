"""Progress without a terminal: a stage whose batches take long says that it is at work."""

from __future__ import annotations

import threading
import time

import pytest

from ehrmind.stages import progress as module
from ehrmind.stages.progress import progress


def test_a_long_batch_is_not_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "LONGEST_SILENCE", 0.2)
    with progress("evaluate-base-greedy", 522) as ticker:
        time.sleep(0.5)
        assert "evaluate-base-greedy 0/522  at work for " in capsys.readouterr().err
        ticker.advance(64)
        time.sleep(0.5)
    assert "evaluate-base-greedy 64/522  at work for " in capsys.readouterr().err


def test_figures_of_a_long_step_are_printed_although_it_was_said_to_be_at_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LONGEST_SILENCE", 0.4)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.3)
    with progress("rlvr-sft", 9) as ticker:
        for _ in range(2):
            time.sleep(0.5)  # longer than a silence, and shorter than a silence and a pause
            ticker.advance(metrics={"reward": 0.5})
    said = capsys.readouterr().err
    assert said.count("at work for ") == 2 and said.count("reward 0.50") == 2


def test_a_stage_that_has_ended_or_broken_off_says_nothing_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LONGEST_SILENCE", 0.1)
    threads = threading.active_count()
    with pytest.raises(KeyError), progress("warmup", 3):
        raise KeyError
    with progress("warmup", 3) as ticker:
        ticker.advance(3)
    capsys.readouterr()
    time.sleep(0.3)
    assert capsys.readouterr().err == "" and threading.active_count() == threads


def test_batches_that_follow_each_other_quickly_take_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("pilot", 40) as ticker:
        for _ in range(39):
            ticker.advance()
    assert capsys.readouterr().err.count("pilot ") == 1
