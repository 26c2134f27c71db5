"""No dead ends at the command line: a refused start leaves nothing in the way, a stop says how to
go on, and advice can be followed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import pytest
import typer
import yaml

from ehrmind.cli import errors
from ehrmind.cli.app import app
from ehrmind.cli.options import in_options
from ehrmind.config import EhrFiles, Prompts, TableFile, TrialFiles, load_recipe, parse_recipe
from ehrmind.config.sampling import Decoding
from ehrmind.data import save_cases
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.predict.kinds import kind_of, refuse_other_kinds
from ehrmind.runs import Run, open_run
from ehrmind.runs.lock import only_writer
from ehrmind.runs.start import FOLDERS, holds_work
from ehrmind.stages.models import choose
from ehrmind.stages.prompt_limit import how_to_fit, prompt_limit
from ehrmind.stages.rollout import render_prompts
from ehrmind.types import InputError
from tests.new_rows import asked, ehrmind
from tests.stored import store

ROOT = Path(__file__).resolve().parents[2]


def synthetic(n: int, seed: int) -> dict[str, object]:
    return {"synthetic": {"n": n, "seed": seed, "tasks": ["sirs", "feverpain"], "difficulty": "easy"}}


TINY = {
    "name": "tiny",
    "threads": 1,
    "data": {"train": synthetic(24, 1), "tuning": synthetic(4, 2), "held_out": synthetic(6, 3)},
    "model": {"tiny": {"hidden": 16, "layers": 1, "heads": 2}},
    "decoding": {"max_new_tokens": 8},
    "arms": ["base"],
    "evaluate": {"decodings": ["greedy"]},
}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    with mock.patch.dict("os.environ"):
        yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("command", ["run", "pilot", "evaluate"])
@pytest.mark.parametrize(
    "wrong",
    [
        ["model.tiny=null", "model.name=/no/such/model"],
        ["data.train={medcalc: [/no/such/rows.csv]}"],
        ["decoding.max_new_tokens=100000"],
        ["seeds=2", "model.tiny=null", "model.name=/no/such/model"],
    ],
    ids=["model", "data", "context", "seeds"],
)
def test_a_first_start_that_is_refused_leaves_no_folder_in_the_way(
    command: str, wrong: list[str], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ehrmind(command, recipe, "--out", tmp_path / "run", *wrong) == 2
    assert not (tmp_path / "run").exists(), capsys.readouterr().err


def test_the_corrected_command_runs_in_the_same_place(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert ehrmind("evaluate", recipe, "--out", run, "model.tiny=null", "model.name=/no/such/model") == 2
    assert run.is_dir() and not any(run.iterdir()), "the folder was the user's"
    assert ehrmind("evaluate", recipe, "--out", run) == 0 and (run / "results.json").is_file()
    assert ehrmind("evaluate", recipe, "--out", run, "--resume", "seed=9") == 2
    assert (run / "results.json").is_file(), "a refusal takes nothing away that was there"


def test_what_took_work_and_what_is_not_ours_stays_after_an_error(tmp_path: Path) -> None:
    for name in (
        "protected/rollouts/pilot-000000.parquet",
        "pilot.json",
        "mine.txt",
        "protected/checkpoints/rlvr/step-1/progress.json",
    ):
        folder = tmp_path / name.replace("/", "-")
        with pytest.raises(InputError), only_writer(folder, holds_work):
            run = open_run(folder, parse_recipe(TINY), resume=False)
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            (run.path / name).write_text("work")
            raise InputError("refused")
        assert (folder / name).is_file()


@pytest.mark.parametrize("at", range(len(FOLDERS) + 1))
def test_a_run_killed_before_its_recipe_has_its_name_is_resumed_and_started_anew(
    at: int, recipe: Path, tmp_path: Path
) -> None:
    for resume in (True, False):
        run = tmp_path / f"run-{resume}"
        for folder in FOLDERS[:at]:
            (run / folder).mkdir(parents=True, exist_ok=True)
        if at:
            (run / ".recipe.yaml.0a1b2c3d.partial").write_text("name: t")
        opened = open_run(run, load_recipe(recipe), resume=resume)
        assert all((opened.path / folder).is_dir() for folder in FOLDERS) and (run / "recipe.yaml").is_file()
        assert not (run / ".recipe.yaml.0a1b2c3d.partial").exists()


def test_a_run_killed_before_its_last_folder_is_made_is_resumed(recipe: Path, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", load_recipe(recipe), resume=False)
    (run.protected / "models").rmdir()
    assert (open_run(run.path, load_recipe(recipe), resume=True).protected / "models").is_dir()


def test_a_folder_of_somebody_elses_is_no_bare_run(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "there" / "stages").mkdir(parents=True)
    (tmp_path / "there" / "stages" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no run folder"):
        open_run(tmp_path / "there", load_recipe(recipe), resume=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that looks trained: its recipe, its cases, and a base model."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(TINY))
    assert ehrmind("evaluate", folder / "recipe.yaml", "--out", folder / "run") == 0
    return folder / "run"


def test_prediction_of_another_family_is_refused_unless_the_user_says_so(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_cases(synthetic_trials(20, 7, "held_out"), tmp_path / "trials.parquet")
    assert ehrmind("predict", trained, tmp_path / "trials.parquet", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "20 cases of" in said and "family trials" in said and "had medcalc only" in said and "--any-task" in said
    assert not (tmp_path / "out").exists()
    assert ehrmind("predict", trained, tmp_path / "trials.parquet", "--out", tmp_path / "out", "--any-task") == 1
    assert "none of 20 cases was answered" in capsys.readouterr().err
    save_cases(synthetic_trials(4, 7, "held_out"), tmp_path / "few.parquet")
    assert ehrmind("predict", trained, tmp_path / "few.parquet", "--out", tmp_path / "few", "--any-task") == 0
    assert "none of 4 cases was answered" in capsys.readouterr().err


def test_prediction_of_other_tasks_only_is_refused_and_of_some_is_not(trained: Path, tmp_path: Path) -> None:
    model = choose(trained)
    others = synthetic_cases(4, 7, "held_out", ["body-mass-index"])
    with pytest.raises(
        InputError,
        match=r"medcalc cases of x are of body-mass-index, and run/base had feverpain, sirs only; .*--any-task",
    ):
        refuse_other_kinds(model, others, Path("x"))
    refuse_other_kinds(model, [*others, *synthetic_cases(2, 8, "held_out", ["sirs"])], Path("x"))


def test_the_kind_of_a_tables_answers_is_said_with_its_labels_in_brackets() -> None:
    case = mock.Mock(family="table", truth={"kind": "label", "labels": ["mild", "severe"]})
    assert kind_of(case) == "kind label (mild, severe)"


def test_a_prediction_that_cannot_start_leaves_no_folder(trained: Path, tmp_path: Path) -> None:
    save_cases(synthetic_cases(2, 9, "held_out", ["sirs"]), tmp_path / "new.parquet")
    given = ["predict", trained, tmp_path / "new.parquet", "--out", tmp_path / "out"]
    assert ehrmind(*given, "decoding.max_new_tokens=100000") == 2
    assert not (tmp_path / "out").exists()
    assert ehrmind(*given) in (0, 1) and (tmp_path / "out" / "predictions.parquet").is_file()


def test_a_result_without_one_answer_is_a_warning_with_the_commonest_reason(tmp_path: Path) -> None:
    cases = synthetic_cases(3, 9, "held_out", ["sirs"])
    silent = asked(cases, tmp_path / "a", lambda *_: "no answer here")
    assert re.search(r"none of 3 cases was answered \(mostly: .+\)", silent.warning() or "")
    assert asked(cases, tmp_path / "b", lambda *_: '<think>x</think>\n<answer>{"answer": 2}</answer>').warning() is None


def test_the_commands_that_resume_are_those_that_have_the_option() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    having = {
        name for name, command in group.commands.items() if any("--resume" in option.opts for option in command.params)
    }
    assert having == {name for name, option in errors.RESUMABLE.items() if option}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), OSError(28, "No space left on device")])
def test_resume_is_advised_for_commands_that_have_it_alone(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("run", "predict", "demo", "data", "export", ""):
        errors.say(error, command)
        said = capsys.readouterr().err
        assert ("--resume" in said) is bool(errors.RESUMABLE.get(command))
        assert ("the same command goes on" in said) is (command == "demo")


@pytest.mark.parametrize("command", ["run", "pilot", "evaluate"])
def test_sigterm_says_what_is_kept_and_how_to_go_on(command: str, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    slow = [
        "data.train.synthetic.n=3000",
        "data.held_out.synthetic.n=3000",
        "pilot.questions=1000",
        "decoding.max_new_tokens=60",
    ]
    given = [sys.executable, "-m", "ehrmind.cli", command, str(recipe), "--out", str(run), *slow]
    process = subprocess.Popen(
        given,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    while not (run / "stages" / "data.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.terminate()
    said = process.communicate(timeout=60)[1].strip().splitlines()
    assert process.returncode == 143
    assert (
        said[-1]
        == "ehrmind: stopped by SIGTERM; what was finished is kept, and the same command with --resume goes on."
    )
    assert Run(run).done("data") is not None


def test_sigterm_is_left_to_torchrun_where_it_started_us() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with mock.patch.dict("os.environ", {"WORLD_SIZE": "2"}):
        errors.end_on_sigterm()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("longest", "most", "new", "context", "says", "not_says"),
    [
        (900, 512, 100, 4096, "raise prompts.max_tokens to 900", "max_new_tokens"),
        (900, 4096, 512, 1024, "lower decoding.max_new_tokens to 124", "raise prompts"),
        (900, 512, 512, 1024, "to 124 or less: the model's context of 1,024 tokens holds the answer too (and raise", "longer"),
        (2000, 4096, 512, 1024, "a longer context than 1,024", "raise prompts"),
    ],
)  # fmt: skip
def test_the_remedy_for_a_long_prompt_names_the_limit_that_holds(
    longest: int, most: int, new: int, context: int, says: str, not_says: str
) -> None:
    said = how_to_fit(Prompts(max_tokens=most), Decoding(max_new_tokens=new), context, longest)
    assert says in said and not_says not in said


def test_a_context_that_the_answer_alone_takes_is_refused_as_that(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"context is 512 tokens, and decoding.max_new_tokens=600 leaves none.*lower decoding.max_new_tokens",
    ):
        prompt_limit(Prompts(), Decoding(max_new_tokens=600), 512)


def test_following_the_advice_for_a_long_prompt_works() -> None:
    cases, asked_for = synthetic_cases(3, 5, "train", ["sirs"]), parse_recipe(TINY)
    for context, most, new in ((1 << 20, 10, 8), (3000, 4096, 2900), (3000, 10, 2900)):
        settings = asked_for.model_copy(
            update={"prompts": Prompts(max_tokens=most), "decoding": Decoding(max_new_tokens=new)}
        )
        engine = ScriptedEngine(lambda *_: "", context=context)
        with pytest.raises(InputError) as refused:
            render_prompts(engine, settings, cases, settings.decoding)
        said = str(refused.value)
        raised, lowered = (
            re.search(r"raise prompts.max_tokens to (\d+)", said),
            re.search(r"max_new_tokens to (\d+)", said),
        )
        settings = settings.model_copy(update={
            "prompts": Prompts(max_tokens=int(raised[1]) if raised else most),
            "decoding": Decoding(max_new_tokens=int(lowered[1]) if lowered else new),
        })  # fmt: skip
        assert len(render_prompts(engine, settings, cases, settings.decoding)) == 3


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("newkey", "known here are"),
        ("x", "known here are"),
        ("sed", "did you mean 'seed'"),
        ("modle", "did you mean 'model'"),
        ("thread", "did you mean 'threads'"),
    ],
)
def test_a_nearest_name_is_one_that_somebody_may_have_meant(key: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        parse_recipe({**TINY, key: 1})


@pytest.mark.parametrize(
    ("kind", "said", "wanted"),
    [
        (EhrFiles, "c: split_by=site needs site_column and held_out_sites", "c: --split-by site needs --site-column and --held-out-site"),
        (EhrFiles, "c: leave it out with unusable=leave_out", "c: leave it out with --leave-out-unusable"),
        (TableFile, "c: the recipe: kind label needs labels, and others none", "c: --kind label needs --label, and others none"),
        (TrialFiles, "c: balance: input should be greater than 0", "c: --balance: input should be greater than 0"),
    ],
)  # fmt: skip
def test_a_command_speaks_of_its_options_and_not_of_the_recipes_keys(kind: type, said: str, wanted: str) -> None:
    assert in_options(said, [*kind.model_fields], "c") == wanted


def test_wrong_options_of_data_commands_are_said_as_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "data",
        "ehr",
        "--meds",
        tmp_path,
        "--labels",
        tmp_path,
        "--out",
        tmp_path / "c.parquet",
        "--split-by",
        "site",
    ]
    assert ehrmind(*given) == 2
    assert "--split-by site needs --site-column and --held-out-site" in capsys.readouterr().err


def test_an_exported_model_says_its_families_and_is_not_asked_others(trained: Path, tmp_path: Path) -> None:
    assert ehrmind("export", "model", trained, "--out", tmp_path / "model") == 0
    model = choose(tmp_path / "model")
    with pytest.raises(InputError, match="2 cases of x are of the family trials, and model had medcalc only"):
        refuse_other_kinds(model, synthetic_trials(2, 7, "held_out"), Path("x"))
    refuse_other_kinds(model, synthetic_cases(2, 7, "held_out", ["body-mass-index"]), Path("x"))


def test_a_base_model_that_is_not_here_is_fetched_by_a_command_that_exists(trained: Path, tmp_path: Path) -> None:
    tree = {**TINY, "model": {"name": "nobody/no-such-model"}}
    Run(tmp_path).manifest.create()
    store(tmp_path / "recipe.yaml", yaml.safe_dump(tree))
    with pytest.raises(
        InputError, match=r"nobody/no-such-model, from which .* fetch it with `hf download nobody/no-such-model`"
    ):
        choose(tmp_path, "base")


def test_a_path_that_is_none_is_not_said_to_be_downloadable(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ehrmind("evaluate", recipe, "--out", tmp_path / "run", "model.tiny=null", "model.name=/no/such/model") == 2
    said = capsys.readouterr().err
    assert "check the path" in said and "download" not in said
