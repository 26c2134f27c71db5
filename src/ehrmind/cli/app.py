"""Command line: the tree of verbs, and the one place where errors leave the program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ehrmind import __version__
from ehrmind.cli import (
    calc,
    cases,
    demo,
    doctor,
    ehr,
    export,
    model,
    omop,
    predict,
    reports,
    review,
    stages,
    trials,
    unanswered,
    view,
)
from ehrmind.cli.errors import INTERRUPTED, closed_pipe, end_at_once_on_another_signal, end_on_sigterm, is_sigterm, say
from ehrmind.world import wait_for_the_first_to_speak

app = typer.Typer(
    name="ehrmind",
    help="Adapt an open language model to clinical reasoning over health records, and prove that it got better.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Turn your files into Cases.")
synthetic = typer.Typer(help="Generate synthetic Cases, with no patient behind them.")
new = typer.Typer(help="Turn new rows without answers into Cases for `ehrmind predict`.")
exports = typer.Typer(
    help="Export models from run folders, push them to a hub on request, export data and reward for verl and TRL."
)
models = typer.Typer(help="Make model directories of the files that people have.")
reviews = typer.Typer(help="Send answers to clinicians for review, and read their verdicts.")
runs = typer.Typer(help="List run folders, check their files, and remove what they protect.")

app.command("demo")(demo.demo)
app.command("recipes")(demo.recipes)
app.command("run")(stages.run)
app.command("resume")(stages.resume)
app.command("pilot")(stages.pilot)
app.command("evaluate")(stages.evaluate)
app.command("predict")(predict.predict)
app.command("check")(cases.check)
app.command("calc")(calc.calc)
app.command("report")(reports.report)
app.command("compare")(reports.compare)
app.command("view")(view.view)
app.command("doctor")(doctor.doctor)
data.command("medcalc")(cases.medcalc)
data.command("trials")(trials.trials)
data.command("ehr")(ehr.ehr)
data.command("omop")(omop.omop)
data.command("table")(cases.table)
data.command("audit")(cases.audit)
synthetic.command("medcalc")(cases.synthetic_medcalc)
synthetic.command("trials")(trials.synthetic_trials)
synthetic.command("ehr")(ehr.synthetic_ehr)
new.command("medcalc")(unanswered.medcalc)
new.command("trials")(unanswered.trials)
new.command("ehr")(unanswered.ehr)
new.command("table")(unanswered.table)
models.command("convert")(model.convert)
exports.command("model")(export.model)
exports.command("push")(export.push)
exports.command("verl")(export.verl)
exports.command("trl")(export.trl)
reviews.command("export")(review.export)
reviews.command("read")(review.read)
runs.command("list")(reports.list_)
runs.command("verify")(reports.verify)
runs.command("purge")(reports.purge)
data.add_typer(synthetic, name="synthetic")
data.add_typer(new, name="new")
app.add_typer(data, name="data")
app.add_typer(models, name="model")
app.add_typer(exports, name="export")
app.add_typer(runs, name="runs")
app.add_typer(reviews, name="review")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ehrmind {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Adapt an open language model to clinical reasoning over health records, and prove that it got
    better."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code.

    Codes: 0, 1 for a fault or a failed check, 2 for bad input, 130 for Ctrl-C, 141 if the reader of
    the output has gone, 143 for SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end_on_sigterm()
    try:
        code = app(args=given or ["--help"], prog_name="ehrmind", standalone_mode=False)
        if code == INTERRUPTED:  # typer has caught the KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()  # now, while a closed pipe or a full disk can still be reported
    except SystemExit as error:
        if not is_sigterm(error) and closed_pipe(error) is None:
            raise
        code = _said(closed_pipe(error) or error, given)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the program's outermost line
        wait_for_the_first_to_speak()
        code = _said(error, given)
    sys.exit(code if isinstance(code, int) else 0)


def _said(error: BaseException, given: Sequence[str]) -> int:
    end_at_once_on_another_signal()
    if closed_pipe(error) is not None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - the rest of the output has no reader
    return say(error, given[0] if given else "")
