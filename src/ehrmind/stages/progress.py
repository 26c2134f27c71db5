"""Progress of long work: a bar on a terminal, else a line at least every half minute. It shows
figures, never text of a case."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ehrmind.world import current

SHOWN = {
    "loss": "loss {:.3f}",
    "reward": "reward {:.2f}",
    "accuracy": "right {:.0%}",
    "format_rate": "format {:.0%}",
    "length": "length {:.0f}",
    "kl": "KL {:.4f}",
    "entropy": "entropy {:.2f}",
    "zero_advantage_groups": "no signal {:.0f}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "unanswered": "unanswered {:.0f}",
    "cost": "cost {:.2f}",
}
SECONDS_BETWEEN_LINES = 15.0
LONGEST_SILENCE = 30.0  # seconds; the first batch of a stage may take minutes


class Ticker:
    """Moves one stage's progress forward."""

    def __init__(self, stage: str, total: int, done: int, bar: Progress | None, *, silent: bool = False) -> None:
        self.stage, self.total, self.done, self.bar, self.silent = stage, total, done, bar, silent
        self.started, self.first, self.last_line = time.monotonic(), done, 0.0
        self.last_word = self.started  # of any kind; `last_line` is that of figures
        self.ended = threading.Event()
        self.task: TaskID | None = bar.add_task(stage, total=total, completed=done, figures="") if bar else None

    def advance(self, amount: int = 1, metrics: Mapping[str, float] | None = None) -> None:
        self.done += amount
        figures = ", ".join(form.format(metrics[name]) for name, form in SHOWN.items() if metrics and name in metrics)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=self.done, figures=figures)
        elif self.silent:
            return
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES or self.done >= self.total:
            self.last_line = self.last_word = time.monotonic()
            spent = self.last_line - self.started
            left = spent / max(1, self.done - self.first) * (self.total - self.done)
            sys.stderr.write(f"{self.stage} {self.done}/{self.total}  {figures}  {left:.0f} s left\n")
            sys.stderr.flush()

    def keep_talking(self) -> None:
        """Prints how long the stage has worked whenever no other line was printed for a while,
        until it ends."""
        while not self.ended.wait(LONGEST_SILENCE / 10):
            now = time.monotonic()
            if now - self.last_word >= 0.9 * LONGEST_SILENCE:
                self.last_word = now
                sys.stderr.write(f"{self.stage} {self.done}/{self.total}  at work for {now - self.started:.0f} s\n")
                sys.stderr.flush()

    def say(self, sentence: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self.bar is not None:
            self.bar.console.print(f"{self.stage}: {sentence}", markup=False, highlight=False)
        elif not self.silent:
            sys.stderr.write(f"{self.stage}: {sentence}\n")
            sys.stderr.flush()


@contextmanager
def progress(stage: str, total: int, done: int = 0) -> Iterator[Ticker]:
    """Opens the progress of a stage. Of several workers only the first shows it."""
    console, silent = Console(stderr=True), not current().first
    if silent:
        yield Ticker(stage, total, done, None, silent=True)
        return
    if not console.is_terminal:
        ticker = Ticker(stage, total, done, None)
        talk = threading.Thread(target=ticker.keep_talking, daemon=True)
        talk.start()
        try:
            yield ticker
        finally:
            ticker.ended.set()
            talk.join()
        return
    figures = TextColumn("{task.fields[figures]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), figures)
    with Progress(*columns, console=console) as bar:
        yield Ticker(stage, total, done, bar)
