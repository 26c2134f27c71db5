"""`ehrmind export verl` and `trl`: what is in the folder, what never is, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from ehrmind.config import EhrFiles
from ehrmind.data import load_cases
from ehrmind.data.ehr import read_ehr
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.engines.local.engine import open_engine
from ehrmind.export.questions import gather
from ehrmind.export.trainers import export_for
from ehrmind.files import write_json
from ehrmind.prompts import gold_response, messages
from ehrmind.rl.advantages import advantages
from ehrmind.runs import Run
from ehrmind.runs.purge import purge
from ehrmind.stages.rlvr.rewards import class_weights, training_rewards
from ehrmind.types import Group, InputError, Message, Prompt
from ehrmind.verify import judge
from ehrmind.verify.trainer_rewards import Question, compute_score
from tests.exported import cases_file, launched, prepared_run, synthetic_splits
from tests.meds_data import write_meds
from tests.new_rows import ehrmind
from tests.small_models import small_model
from tests.stored import drop, store

TRAINERS = ("verl", "trl")
FILES = {"train": "train", "val": "tuning"}


def questions(folder: Path, part: str) -> list[Question]:
    frame = pl.read_parquet(folder / "data" / f"{part}.parquet")
    column = frame["ehrmind"] if "ehrmind" in frame.columns else frame["reward_model"].struct.field("ground_truth")
    return [Question.from_json(text) for text in column]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return prepared_run(tmp_path_factory.mktemp("runs") / "run", "qwen3")


@pytest.fixture(scope="module", params=TRAINERS)
def folder(request: pytest.FixtureRequest, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / request.param
    assert ehrmind("export", request.param, run.path, "--out", out) == 0
    return out


def test_every_case_of_train_and_tuning_goes_out_whole_and_in_its_own_file(folder: Path, run: Run) -> None:
    for part, split in FILES.items():
        assert [question.case for question in questions(folder, part)] == load_cases(run.cases(split))


def test_held_out_cases_are_in_no_file(folder: Path, run: Run) -> None:
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for part in FILES:
        written += str(pl.read_parquet(folder / "data" / f"{part}.parquet").to_dicts()).encode()
    assert load_cases(run.cases("train"))[0].id.encode() in written
    assert not [case.id for case in load_cases(run.cases("held_out")) if case.id.encode() in written]
    assert "| not here | 7 | the split `held_out`: never exported;" in (folder / "README.md").read_text()


def test_only_its_owner_reads_the_folder(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "data").iterdir()} == {0o600}


def test_the_prompt_is_what_our_engine_asks_and_the_opening_is_what_its_template_writes(folder: Path, run: Run) -> None:
    engine = open_engine(gather(run.path).recipe.model, run.model("base"), rows=4)
    for turns, question in zip(
        pl.read_parquet(folder / "data" / "train.parquet")["prompt"], questions(folder, "train"), strict=True
    ):
        assert [Message(**turn) for turn in turns] == messages(question.case)
        assert engine.prompt(messages(question.case)).opening == question.opening == "<think>\n"


def test_no_record_text_is_outside_the_data(folder: Path, run: Run) -> None:
    notes = [case.fields["note"][:60] for case in load_cases(run.cases("train"))]
    for name in ("README.md", "launch.sh", "ehrmind.json"):
        assert not [note for note in notes if note in (folder / name).read_text()]


def test_verl_gets_the_columns_that_it_reads(run: Run, tmp_path: Path) -> None:
    export_for("verl", run.path, tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out" / "data" / "train.parquet")
    assert frame.columns == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    first, case = frame.to_dicts()[0], load_cases(run.cases("train"))[0]
    assert (first["data_source"], first["ability"], first["reward_model"]["style"]) == (
        "ehrmind/medcalc",
        case.stratum,
        "rule",
    )
    assert first["extra_info"] == {"index": 0, "split": "train", "id": case.id}


def test_datasets_opens_what_trl_gets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; `make setup` installs it")
    export_for("trl", run.path, tmp_path / "out")
    for place in ("data", "."):
        found = datasets.load_dataset(str(tmp_path / "out" / place), cache_dir=str(tmp_path / "cache"))
        assert {name: len(part) for name, part in found.items()} == {"train": 14, "validation": 6}
        assert found["train"][0]["prompt"][0]["role"] == "user"


def test_a_prompt_that_does_not_fit_is_left_out_and_counted(run: Run, tmp_path: Path) -> None:
    engine = open_engine(gather(run.path).recipe.model, run.model("base"), rows=4)
    lengths = {case.id: len(engine.prompt(messages(case)).token_ids) for case in load_cases(run.cases("train"))}
    limit = sorted(lengths.values())[len(lengths) // 2]
    said = export_for("trl", run.path, tmp_path / "out", overrides=[f"prompts.max_tokens={limit}"])
    kept = [question.case.id for question in questions(tmp_path / "out", "train")]
    assert kept == [name for name, length in lengths.items() if length <= limit] and 0 < len(kept) < len(lengths)
    assert any(f"; {len(lengths) - len(kept)} of train longer than {limit} tokens" in line for line in said)
    about = json.loads((tmp_path / "out" / "ehrmind.json").read_text())
    assert about["left_out"]["too_long"]["train"] == len(lengths) - len(kept)


def test_a_cases_file_alone_is_exported_unmeasured_and_its_tuning_is_a_share_of_whole_notes(tmp_path: Path) -> None:
    file = cases_file(tmp_path, [case for case in synthetic_splits() if case.split == "train"])
    said = export_for("verl", file, tmp_path / "out", overrides=["reward.correct=3.0"])
    train, val = questions(tmp_path / "out", "train"), questions(tmp_path / "out", "val")
    assert len(train) + len(val) == 14 and len(val) == 1
    assert not {question.case.group for question in train} & {question.case.group for question in val}
    assert {question.reward.correct for question in train} == {3.0}
    assert "no model was named, so no prompt was measured: --model DIR does" in said
    with pytest.raises(RuntimeError, match="MODEL: name the model"):
        launched(tmp_path / "out")
    assert "actor_rollout_ref.model.path='mine'" in launched(tmp_path / "out", MODEL="mine")


def test_a_coded_history_goes_out_as_text(tmp_path: Path) -> None:
    meds = write_meds(tmp_path / "meds")
    cases, _ = read_ehr(EhrFiles(meds=meds, labels=meds / "labels" / "high_potassium"))
    export_for("verl", cases_file(tmp_path, cases), tmp_path / "out")
    turns = pl.read_parquet(tmp_path / "out" / "data" / "train.parquet")["prompt"].to_list()
    asked = questions(tmp_path / "out", "train")
    assert asked and all(
        question.case.fields["history"] in turn[0]["content"] for turn, question in zip(turns, asked, strict=True)
    )


def test_class_weights_go_out_as_what_an_answer_earns(tmp_path: Path) -> None:
    train = [
        case
        for place, case in enumerate(synthetic_trials(30, 1, "train"))
        if place % 5 == 0 or case.truth["value"] == 2
    ]
    changes = ["rlvr.class_weights=balanced", "rlvr.advantage=dr_grpo", "reward.wrong=-0.5"]
    export_for(
        "verl", cases_file(tmp_path, [*train, *synthetic_trials(4, 2, "tuning")]), tmp_path / "out", overrides=changes
    )
    weights, recipe = class_weights(train), gather(tmp_path / "cases.parquet", overrides=changes).recipe
    paid = set()
    for question in questions(tmp_path / "out", "train"):
        texts = [
            gold_response(question.case),
            '<think>So.</think>\n<answer>{"answer": "excluded"}</answer>',
            "malformed",
        ]
        verdicts = [judge(question.case, text, reward=recipe.reward) for text in texts]
        ours = training_rewards(Group(question.case, Prompt(()), [], verdicts), weights)
        assert [compute_score("", text, question.to_json())["score"] for text in texts] == pytest.approx(ours)
        paid.add(round(ours[0], 3))
    assert len(paid) > 1
    assert {question.reward for question in questions(tmp_path / "out", "val")} == {recipe.reward.weights}


def test_trls_weight_makes_its_centred_rewards_those_of_leaving_one_out(run: Run, tmp_path: Path) -> None:
    export_for("trl", run.path, tmp_path / "out", overrides=["rlvr.advantage=rloo", "rlvr.samples=5"])
    given = launched(tmp_path / "out")
    weight = float(given[given.index("--reward_weights") + 1])
    rewards = torch.tensor([[1.1, 0.0, -2.0, 1.1, 0.0]])
    assert torch.allclose(advantages(weight * rewards, "dr_grpo"), advantages(rewards, "rloo"))


def test_a_step_asks_no_more_questions_than_there_are(run: Run, tmp_path: Path) -> None:
    said = export_for("verl", run.path, tmp_path / "out")
    assert "not carried over: rlvr.questions_per_step=32: train has 14 cases" in said
    assert "data.train_batch_size=14" in launched(tmp_path / "out")


def test_training_starts_after_the_warm_up_where_there_was_one(tmp_path: Path) -> None:
    run = prepared_run(tmp_path / "run")
    assert gather(run.path).model == run.model("base")
    small_model(run.model("sft"), "llama", seed=1)
    assert gather(run.path).model == run.model("sft")
    assert gather(run.path, arm="base").model == run.model("base")


def test_the_script_finds_the_model_of_a_run_that_was_named_from_its_own_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path.parent)
    export_for("verl", Path("run"), tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert f"actor_rollout_ref.model.path='{run.model('base').resolve()}'" in launched(tmp_path / "out")


def test_verl_must_have_something_to_validate_on_and_trl_need_not(tmp_path: Path) -> None:
    long = [
        dataclasses.replace(c, fields={**c.fields, "note": 900 * "long "}) if c.split == "tuning" else c
        for c in synthetic_splits()
    ]
    model = str(small_model(tmp_path / "model", "llama"))
    with pytest.raises(InputError, match="verl must have some to validate on"):
        export_for("verl", cases_file(tmp_path, long), tmp_path / "out", model=model)
    export_for("trl", tmp_path / "cases.parquet", tmp_path / "out", model=model)
    assert (
        "--eval_strategy" not in launched(tmp_path / "out") and not (tmp_path / "out" / "data" / "val.parquet").exists()
    )


def test_the_mark_of_restricted_data_is_in_the_folder(tmp_path: Path) -> None:
    marked = [
        dataclasses.replace(case, provenance={**case.provenance, "restricted": True}) for case in synthetic_splits()
    ]
    export_for("verl", cases_file(tmp_path, marked), tmp_path / "out")
    about = json.loads((tmp_path / "out" / "ehrmind.json").read_text())
    assert about["restricted"] is True and about["restricted_because"] == ["data.train", "data.tuning"]
    assert "**Restricted data** (data.train, data.tuning): this folder" in (tmp_path / "out" / "README.md").read_text()


# What is refused


def unanswered(tmp_path: Path) -> Path:
    return cases_file(
        tmp_path,
        [dataclasses.replace(case, truth={"kind": "decimal", "unanswered": True}) for case in synthetic_splits()],
    )


def held_out_only(tmp_path: Path) -> Path:
    return cases_file(tmp_path, [case for case in synthetic_splits() if case.split == "held_out"])


def leaking(tmp_path: Path) -> Path:
    first, *others = synthetic_splits()
    return cases_file(tmp_path, [first, *others[:-1], dataclasses.replace(others[-1], group=first.group)])


def purged(tmp_path: Path) -> Path:
    run = prepared_run(tmp_path / "run")
    purge(run.path)
    return run.path


def unprepared(tmp_path: Path) -> Path:
    run = prepared_run(tmp_path / "run")
    drop(run.path / "stages" / "data.json")
    return run.path


def tampered(tmp_path: Path) -> Path:
    run = prepared_run(tmp_path / "run")
    mark = json.loads((run.path / "stages" / "data.json").read_text())
    store(run.path / "stages" / "data.json", json.dumps({**mark, "digest": "0" * 64}))
    return run.path


def of_seeds(tmp_path: Path) -> Path:
    run = prepared_run(tmp_path / "run")
    prepared_run(run.of_seed(0).path)
    return run.path


def folder_of_predictions(tmp_path: Path) -> Path:
    (tmp_path / "predictions.parquet").write_bytes(b"")
    return tmp_path


def broken_recipe(tmp_path: Path) -> Path:
    run = prepared_run(tmp_path / "run")
    tree = yaml.safe_load((run.path / "recipe.yaml").read_text())
    store(run.path / "recipe.yaml", yaml.safe_dump({**tree, "rlvr": {"sample": 2}}))
    return run.path


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (lambda folder: folder / "nowhere", {}, "is neither a run folder nor a Cases file"),
    (lambda folder: Path("http://localhost:8000/v1"), {}, "is neither a run folder nor a Cases file"),
    (folder_of_predictions, {}, "is neither a run folder nor a Cases file"),
    (held_out_only, {}, "has no case of the split train, and nothing else is ever trained on"),
    (leaking, {}, "Leak: 1 group"),
    (unanswered, {}, "have no gold answer"),
    (purged, {}, "was purged: its cases are gone"),
    (unprepared, {}, "has no cases yet"),
    (tampered, {}, "are not those this run was started with"),
    (of_seeds, {}, "pools 1 seeds; name the run of one"),
    (broken_recipe, {}, "did you mean 'rlvr.samples'"),
    (cases_file, {"arm": "sft"}, "is no run folder, so it has no arm sft"),
    (cases_file, {"arm": "sft", "model": "m"}, "--model and --arm both say where training starts"),
    (cases_file, {"model": "no-such/model"}, "is neither a directory nor in the hub's cache"),
    (cases_file, {"overrides": ["data.exclude_leaks=true"]}, "changes nothing that is exported"),
    (cases_file, {"overrides": ["prompts.tool=true"]}, "which no other trainer runs; add prompts.tool=false"),
    (cases_file, {"overrides": ["rlvr.sample=4"]}, "did you mean 'rlvr.samples'"),
    (lambda folder: prepared_run(folder / "run").path, {"arm": "sft_rlvr"}, "has no model of the arm 'sft_rlvr'"),
    (
        lambda folder: prepared_run(folder / "run").path,
        {"overrides": ["prompts.max_tokens=5"]},
        "Every prompt of train is longer than 5",
    ),
]


@pytest.mark.parametrize(("make", "chosen", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_what_cannot_be_exported_is_one_sentence_and_leaves_no_folder(
    make: Any, chosen: Any, said: str, tmp_path: Path
) -> None:
    where = make(tmp_path)
    with pytest.raises(InputError) as refused:
        export_for("verl", where, tmp_path / "out", **chosen)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_would_lose_the_answers_form_is_refused(tmp_path: Path) -> None:
    run = prepared_run(tmp_path / "run")
    file = run.model("base") / "tokenizer_config.json"
    write_json(file, {**json.loads(file.read_text()), "extra_special_tokens": ["<think>", "</think>"]})
    with pytest.raises(InputError, match="has <think>, </think> among its special tokens"):
        export_for("trl", run.path, tmp_path / "out")


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    assert ehrmind("export", "trl", cases_file(tmp_path), "--out", tmp_path / "out") == 2
    assert "is there already; name a new folder" in capsys.readouterr().err
