"""`ehrmind export`: an ordinary model directory with its card, and no way onto a hub that a person
has not asked for.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ehrmind.data import load_cases
from ehrmind.data.cases import cases_bytes
from ehrmind.export.model import described, export_model, push_model, refuse_push
from ehrmind.predict.request import settings_of
from ehrmind.runs import Run
from ehrmind.stages.models import choose
from ehrmind.types import InputError
from tests.loopback_hub import loopback_hub
from tests.new_rows import ehrmind
from tests.run_folder import finished_run
from tests.small_models import small_model
from tests.stored import store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run whose last arm is a small model."""
    folder = tmp_path_factory.mktemp("runs")
    made = finished_run(folder / "run", arms=["base", "sft_rlvr"], cases=14)
    small_model(made.model("base"), "llama")
    small_model(made.model("sft_rlvr"), "llama", seed=1)
    return made


@pytest.fixture
def exported(run: Run, tmp_path: Path) -> Path:
    chosen, about = described(run.path)
    return export_model(chosen, about, tmp_path / "exported", card="# card\n")


def altered(run: Run, where: Path, change: dict[str, Any]) -> Path:
    """A copy of the run whose recipe says something else of its training data."""
    shutil.copytree(run.path, where)
    recipe = yaml.safe_load((where / "recipe.yaml").read_text())
    recipe["data"]["train"] |= change
    store(where / "recipe.yaml", yaml.safe_dump(recipe))
    return where


def test_an_exported_run_is_an_ordinary_directory_that_only_its_owner_reads(exported: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "README.md",
        "ehrmind.json",
    }
    assert names <= {file.name for file in exported.iterdir()} and stat.S_IMODE(exported.stat().st_mode) == 0o700
    model = AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.chat_template and model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    assert model.generation_config.do_sample is False and model.generation_config.max_new_tokens == 512


def test_the_last_trained_arm_is_taken_and_another_can_be_named(run: Run) -> None:
    assert choose(run.path).arm == "sft_rlvr" and choose(run.path, "base").arm == "base"
    with pytest.raises(InputError, match=r"has no model of the arm 'rlvr'; it has sft_rlvr, base"):
        choose(run.path, "rlvr")


def test_an_exported_model_is_asked_as_its_run_asked(run: Run, exported: Path) -> None:
    """Also where only the directory travels."""
    assert settings_of(choose(exported).asks) == settings_of(choose(run.path).asks)
    assert settings_of(choose(exported).asks, ["decoding.max_new_tokens=9"]).decoding.max_new_tokens == 9


def test_a_turn_that_the_template_ends_with_another_token_ends_an_answer_too(tmp_path: Path) -> None:
    """The template's token is not the tokenizer's end of sequence: without it in the generation
    config a server would run on."""
    folder = small_model(tmp_path / "model", "llama")
    template = (folder / "chat_template.jinja").read_text().replace("<|end|>", "<|user|>")
    (folder / "chat_template.jinja").write_text(template)
    out = export_model(*described(folder), tmp_path / "out", card="")
    ids = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert len(ids) == 2 and ids[0] != json.loads((folder / "config.json").read_text())["eos_token_id"] in ids


def test_an_adapter_is_merged_on_request_and_computes_the_same(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = small_model(tmp_path / "base", "llama")
    network = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    network.save_pretrained(tmp_path / "adapter")
    with pytest.raises(InputError, match="holds an adapter alone; merge it first"):
        choose(tmp_path / "adapter")
    assert ehrmind("export", "model", tmp_path / "adapter", "--merge", "--out", tmp_path / "merged") == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, network.eval()(ids).logits, atol=1e-4)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert ehrmind("export", "model", tmp_path / "adapter", "--out", tmp_path / "as_it_is") == 0
    assert (tmp_path / "as_it_is" / "adapter_model.safetensors").is_file()


def test_nothing_is_written_over_and_code_is_never_copied(run: Run, tmp_path: Path) -> None:
    chosen, about = described(run.path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="is there already; name a new folder"):
        export_model(chosen, about, tmp_path / "full", card="")
    bad = Path(shutil.copytree(chosen.folder, tmp_path / "bad"))
    (bad / "modeling_own.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match=r"holds code of its own \(modeling_own.py\)"):
        export_model(*described(bad), tmp_path / "out", card="")
    assert not (tmp_path / "out").exists()


def test_what_is_exported_tells_no_folder_of_this_machine(run: Run, tmp_path: Path) -> None:
    assert ehrmind("export", "model", run.path, "--out", tmp_path / "out") == 0
    for file in ("ehrmind.json", "README.md", "config.json", "generation_config.json"):
        assert str(run.path.parent) not in (tmp_path / "out" / file).read_text()


# The mark of restricted data, and the hub


def restricted_runs(run: Run, tmp_path: Path) -> dict[str, Path]:
    """Each way in which a run's training data are restricted."""
    marked = altered(run, tmp_path / "marked", {"synthetic": None, "restricted": True, "cases": ["train.parquet"]})
    ehrshot = altered(run, tmp_path / "ehrshot", {})
    cases = load_cases(Run(ehrshot).cases("train"))
    about = {"dataset": "EHRSHOT", "digest": "d" * 64}
    store(Run(ehrshot).cases("train"), cases_bytes([dataclasses.replace(case, provenance=about) for case in cases]))
    onward = altered(run, tmp_path / "onward", {})
    recipe = yaml.safe_load((onward / "recipe.yaml").read_text())
    recipe["model"] |= {"tiny": None, "name": str(export_model(*described(marked), tmp_path / "its_base", card=""))}
    store(onward / "recipe.yaml", yaml.safe_dump(recipe))
    return {"data.train": marked, "data.train ": ehrshot, "the base model": onward}


def test_the_mark_of_restricted_data_travels_with_the_model_and_is_inherited(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", lambda **_: pytest.fail("the hub was asked"))
    for number, (why, folder) in enumerate(restricted_runs(run, tmp_path).items()):
        out = tmp_path / f"out{number}"
        assert ehrmind("export", "model", folder, "--out", out) == 0
        moved = out.rename(tmp_path / f"transfer{number}")
        capsys.readouterr()
        assert ehrmind("export", "push", moved, "owner/model", "--yes-upload") == 2
        assert (
            f"was trained on restricted data ({why.strip()}), so it never leaves this machine"
            in capsys.readouterr().err
        )
        assert "Restricted: this model was trained on data that must not leave" in (moved / "README.md").read_text()


def test_the_untrained_base_of_a_restricted_run_is_not_restricted(run: Run, tmp_path: Path) -> None:
    marked = altered(run, tmp_path / "marked", {"synthetic": None, "restricted": True, "cases": ["train.parquet"]})
    assert described(marked)[1].restricted is True and described(marked, "base")[1].restricted is False


def test_a_directory_that_does_not_say_what_it_learned_from_stays_here(
    run: Run, exported: Path, tmp_path: Path
) -> None:
    for folder in (
        run.model("sft_rlvr"),
        export_model(*described(run.model("sft_rlvr")), tmp_path / "unknown", card=""),
    ):
        with pytest.raises(InputError, match="does not say what it was trained on, so it stays here"):
            refuse_push(folder)
    shutil.copy(run.model("base") / "model.safetensors", exported / "model.safetensors")
    with pytest.raises(InputError, match="is not the one that was exported there"):
        refuse_push(exported)


def test_nothing_is_sent_offline_or_where_nobody_says_yes(
    exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert ehrmind("export", "push", exported, "owner/model", "--yes-upload") == 2
    assert "set to stay offline" in capsys.readouterr().err
    with loopback_hub({}, tmp_path, monkeypatch) as hub:
        monkeypatch.setenv("HF_TOKEN", "made-up")
        assert ehrmind("export", "push", exported, "owner/model") == 2
        assert "Nobody is there to be asked, so nothing was sent" in capsys.readouterr().err
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=lambda *_: "n\n"))
        assert ehrmind("export", "push", exported, "owner/model") in (1, 130)
        assert not hub.requests and not hub.sent


def test_a_confirmed_push_sends_the_model_and_its_card_to_a_private_repository(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (exported / "notes about patients.csv").write_text("never")
    with loopback_hub({}, tmp_path, monkeypatch) as hub:
        monkeypatch.setenv("HF_TOKEN", "made-up")
        assert "/owner/model/commit/" in push_model(exported, "owner/model")
        assert hub.private and hub.sent["model.safetensors"] == (exported / "model.safetensors").read_bytes()
        assert (
            "README.md" in hub.sent
            and "ehrmind.json" in hub.sent
            and not [name for name in hub.sent if name.endswith(".csv")]
        )
        hub.private, hub.sent = False, {}
        with pytest.raises(InputError, match="is public; say --public where that is meant"):
            push_model(exported, "owner/model")
        assert not hub.sent


def test_a_push_without_a_login_says_how_to_log_in(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback_hub({}, tmp_path, monkeypatch) as hub:
        with pytest.raises(InputError, match="log in with `hf auth login`"):
            push_model(exported, "owner/model")
        assert not hub.requests
