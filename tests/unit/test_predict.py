"""`ehrmind predict`: new rows of every family, each answered once, with how sure the model is and
what of its thinking the record says.
"""

from __future__ import annotations

import json
import random
import re
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import EhrFiles
from ehrmind.data import save_cases
from ehrmind.data.ehr import read_ehr
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.data.unanswered import ehr_to_ask, medcalc_to_ask, trials_to_ask
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.predict.models import endpoint_of, served_model
from ehrmind.report.prediction_page import pieces, write_prediction_page
from ehrmind.runs.predictions import read_predictions
from ehrmind.types import Case, InputError
from tests.loopback_endpoint import loopback_endpoint
from tests.medcalc_cases import SHORT, synthetic
from tests.new_rows import answered, asked, medcalc_csv, potassium, times_file, trials_files
from tests.page_reader import Page


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return ehr_to_ask(*times_file(tmp_path_factory.mktemp("ehr")))[0]


def test_every_patient_is_answered_with_probability_thinking_and_the_values_of_the_record(
    patients: list[Case], tmp_path: Path
) -> None:
    rows = read_predictions(asked(patients, tmp_path / "out").path).to_dicts()
    assert [row["id"] for row in rows] == [case.id for case in patients]
    for row in rows:
        value = re.search(r"is ([\d.]+) mmol", row["thinking"])
        assert value and row["answer"] == ("yes" if float(value[1]) > 5 else "no") == row["labels"][int(row["value"])]
        assert row["probability"] == pytest.approx(1 / 1.01) == max(row["probabilities"])
        assert [said["text"] for said in row["grounding"] if said["stands"]] == [value[1]]
        assert (
            row["reason"] is None
            and row["subject_id"] > 0
            and row["prediction_time"] is not None
            and not row["abstained"]
        )


def test_a_value_that_the_record_does_not_have_is_shown_as_not_found(tmp_path: Path) -> None:
    cases = medcalc_to_ask([medcalc_csv(tmp_path)])[0]
    plan = lambda prompt, key, member, skill: answered(  # noqa: E731
        'Weight 70 kg, 170 over 100, potassium 6.66 mmol/L, "never written anywhere".', 24.2
    )
    row = read_predictions(asked(cases[:1], tmp_path / "out", plan).path).to_dicts()[0]
    found = {said["text"]: said["stands"] for said in row["grounding"]}
    assert found == {"70": True, "170": True, "6.66 mmol/L": False, '"never written anywhere"': False}, (
        "100 is anybody's factor"
    )
    assert (row["answer"], row["unit"], row["probability"], row["agreement"]) == ("24.2", "kg/m^2", None, None)


def test_of_several_answers_the_commonest_counts_and_agreement_says_how_sure(tmp_path: Path) -> None:
    said = [answered("a", 24.2), "nothing to read", answered("b", 24.2), answered("c", 31.0)]
    cases = medcalc_to_ask([medcalc_csv(tmp_path)])[0]
    plan = lambda prompt, key, member, skill: said[member] if "70 kg" in prompt else "nothing to read"  # noqa: E731
    rows = read_predictions(asked(cases, tmp_path / "out", plan, samples=4, abstain_below=0.6).path).to_dicts()
    assert (rows[0]["answer"], rows[0]["agreement"], rows[0]["thinking"], rows[0]["abstained"]) == (
        "24.2",
        0.5,
        "a",
        True,
    )
    assert rows[0]["votes"] == [{"answer": "24.2", "samples": 2}, {"answer": "31.0", "samples": 1}]
    assert (rows[1]["answer"], rows[1]["agreement"], rows[1]["reason"], rows[1]["abstained"]) == (
        None,
        0.0,
        "no answer block",
        True,
    )


def test_a_labels_probability_is_its_share_where_several_answers_are_asked(
    patients: list[Case], tmp_path: Path
) -> None:
    plan = lambda prompt, key, member, skill: answered("so", "yes" if member else "no")  # noqa: E731
    rows = read_predictions(asked(patients, tmp_path / "out", plan, samples=4, abstain_below=0.75).path).to_dicts()
    assert {(row["answer"], row["probability"], row["agreement"], row["abstained"]) for row in rows} == {
        ("yes", 0.75, 0.75, False)
    }
    assert rows[0]["probabilities"] == [0.25, 0.75]


def test_a_threshold_without_anything_to_hold_against_it_is_refused(tmp_path: Path) -> None:
    cases = medcalc_to_ask([medcalc_csv(tmp_path)])[0]
    with pytest.raises(InputError, match=r"--abstain-below needs a measure of confidence.*--samples 8"):
        asked(cases, tmp_path / "out", abstain_below=0.5)
    assert not (tmp_path / "out").exists()


def test_a_patients_trials_are_ranked_by_the_grade_that_the_model_expects(tmp_path: Path) -> None:
    topics, records = trials_files(tmp_path)
    cases, _ = trials_to_ask(topics, [records])
    grade = {"Trial 0": "excluded", "Trial 1": "eligible", "Trial 2": "not relevant"}
    plan = lambda prompt, key, member, skill: answered(  # noqa: E731
        "so", next(word for name, word in grade.items() if name in prompt)
    )
    frame = read_predictions(asked(cases, tmp_path / "out", plan).path)
    for patient in frame["group"].unique():
        mine = frame.filter(pl.col("group") == patient).sort("rank")
        assert mine["trial"].to_list() == ["NCT00000001", "NCT00000000", "NCT00000002"] and mine["rank"].to_list() == [
            1,
            2,
            3,
        ]
    page = Page(write_prediction_page(tmp_path / "out").read_text())
    assert len(page.tables) == 2 and all(
        rows[1][:3] == ["1", "NCT00000001", "eligible"] for rows in page.tables.values()
    )


def test_a_prompt_that_is_too_long_is_a_row_with_its_reason(tmp_path: Path) -> None:
    cases = medcalc_to_ask([medcalc_csv(tmp_path, ["Weight 70 kg, height 170 cm.", "word " * 20000])])[0]
    plan = lambda prompt, key, member, skill: answered("so", 24.2)  # noqa: E731
    rows = read_predictions(asked(cases, tmp_path / "out", plan).path).to_dicts()
    assert [row["reason"] for row in rows] == [None, "prompt too long"] and rows[1]["answer"] is None


# Stopping and going on


class Breaking(ScriptedEngine):
    """Stops for good after so many questions; `seen` counts all prompts over every sitting."""

    def sample(self, prompts: Any, keys: Any, group_size: int, decoding: Any) -> Any:
        if self.skill and sum(self.seen.values()) + len(prompts) > self.skill:
            raise KeyboardInterrupt
        self.seen.update("".join(map(chr, prompt.token_ids)) for prompt in prompts)
        return super().sample(prompts, keys, group_size, decoding)


def test_whatever_stops_it_every_patient_is_answered_once(patients: list[Case], tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def engine(stop_after: int) -> ScriptedEngine:
        made = Breaking(potassium, skill=stop_after)
        made.seen = seen  # type: ignore[attr-defined]
        return made

    for stop_after in (7, 12, 13, 20):
        with pytest.raises(KeyboardInterrupt):
            asked(patients, tmp_path / "out", engine=engine(stop_after), part=3, resume=True)
        assert not (tmp_path / "out" / "predictions.parquet").exists()
        for torn in ("parts/.000009.parquet.0a1b2c3d.partial", ".predictions.parquet.0a1b2c3d.partial"):
            (tmp_path / "out" / torn).write_bytes(b"half of it")
    asked(patients, tmp_path / "out", engine=engine(0), part=3, resume=True)
    assert len(seen) == 30 and set(seen.values()) == {1}
    whole = asked(patients, tmp_path / "whole", part=3)
    assert read_predictions(tmp_path / "out").equals(read_predictions(whole.path))
    assert asked(patients, tmp_path / "out", engine=engine(1), part=3, resume=True).final(), (
        "what is finished asks nothing"
    )
    names = {"asked.json", "provenance.json", "predictions.parquet", "manifest.json", "meds"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names, "neither parts nor halves stay"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "another"}, r"model\.name, model\.sha256\.model\.safetensors"),
        ({"samples": 4}, r"settings\.decoding\.temperature, settings\.samples"),
        ({"seed": 1}, r"settings\.seed"),
        ({"fewer": True}, r"data\.cases, data\.sha256"),
    ],
)
def test_going_on_with_something_else_is_refused_by_name(
    patients: list[Case], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    asked(patients, tmp_path / "out")
    given = patients[1:] if change.pop("fewer", False) else patients
    with pytest.raises(InputError, match=f"was asked otherwise.*these differ: {named}"):
        asked(given, tmp_path / "out", resume=True, **change)
    with pytest.raises(InputError, match="already holds predictions; go on with them by --resume"):
        asked(patients, tmp_path / "out")


def test_a_folder_of_something_else_is_left_alone(patients: list[Case], tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no predictions"):
        asked(patients, tmp_path, resume=True)


def test_a_data_set_that_only_moved_is_the_same_data(patients: list[Case], tmp_path: Path) -> None:
    import dataclasses

    from ehrmind.predict.predict import digest_of

    moved = [dataclasses.replace(case, provenance={**case.provenance, "folder": "transfer"}) for case in patients]
    other = [dataclasses.replace(case, provenance={**case.provenance, "digest": "other"}) for case in patients]
    assert digest_of(moved) == digest_of(patients) != digest_of(other)


# What is written


def test_only_the_owner_can_read_what_was_predicted(patients: list[Case], tmp_path: Path) -> None:
    out = asked(patients, tmp_path / "out").path
    write_prediction_page(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    files = [file for file in out.rglob("*") if file.is_file()]
    assert len(files) == 6 and all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_json_lines_say_what_parquet_says(patients: list[Case], tmp_path: Path) -> None:
    parquet, lines = asked(patients, tmp_path / "a"), asked(patients, tmp_path / "b", form="jsonl")
    assert read_predictions(lines.path).equals(read_predictions(parquet.path))
    first = json.loads((lines.path / "predictions.jsonl").read_text().splitlines()[0])
    assert first["id"] == patients[0].id and first["labels"] == ["no", "yes"]


def test_provenance_names_model_data_settings_and_counts_and_no_folder(patients: list[Case], tmp_path: Path) -> None:
    out = asked(patients, tmp_path / "out").path
    text = (out / "provenance.json").read_text()
    found = json.loads(text)
    assert found["counts"] == {
        "cases": 30,
        "answered": 30,
        "abstained": 0,
        "reasons": {},
        "tokens": found["counts"]["tokens"],
    }
    assert found["data"]["name"] == "new.parquet" and len(found["data"]["sha256"]) == 64
    assert (
        found["settings"]["decoding"]["temperature"] == 0.0
        and found["versions"]["ehrmind"]
        and str(tmp_path) not in text
    )


def test_labels_that_are_known_stand_beside_the_risk_and_unknown_ones_do_not(
    patients: list[Case], tmp_path: Path
) -> None:
    labels = EhrFiles(
        meds=Path(patients[0].provenance["folder"]),
        labels=Path(patients[0].provenance["folder"]) / "labels" / "high_potassium",
    )
    known, _ = read_ehr(labels)
    new, old = (
        asked(cases, tmp_path / name).meds("high_potassium") for name, cases in (("new", patients), ("old", known))
    )
    assert "boolean_value" not in pl.read_parquet(new).columns
    frame = pl.read_parquet(old)
    assert frame["boolean_value"].to_list() == [case.truth["value"] > 0 for case in known]
    assert (frame["boolean_value"] == frame["predicted_boolean_value"]).all(), "this model reads the potassium"


def test_hostile_text_is_text_on_the_page(tmp_path: Path) -> None:
    hostile = "</p><script>window.pwned = 1</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \u202egnorw 70 kg"
    said = {"70 kg": answered(hostile, 24.2), "60 kg": hostile, "50 kg": answered("so", 24.2) + hostile}
    cases = medcalc_to_ask([medcalc_csv(tmp_path, [f"Weight {weight}, height 170 cm." for weight in said])])[0]
    plan = lambda prompt, key, member, skill: next(text for weight, text in said.items() if weight in prompt)  # noqa: E731
    out = asked(cases, tmp_path / "out", plan).path
    html = write_prediction_page(out).read_text()
    page = Page(html)
    assert not {"script", "img", "iframe"} & set(page.tags) and not [
        address for address in page.addresses if not address.startswith(("#", "data:,"))
    ]
    assert page.text.count("window.pwned = 1") == 3 and "{{ 7 * 7 }}" in page.text
    policy = next(given["content"] for tag, given in page.attributes if tag == "meta" and given.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy and "script-src 'none'" in policy


def test_the_pages_marks_cut_a_thought_and_lose_nothing_of_it() -> None:
    draw = random.Random(1)
    for _ in range(200):
        text = "".join(draw.choice("ab 7<é\u202e") for _ in range(draw.randint(0, 30)))
        cuts = sorted(draw.randint(0, len(text)) for _ in range(2 * draw.randint(0, 3)))
        said = [
            {"start": a, "end": b, "stands": draw.random() < 0.5} for a, b in zip(cuts[::2], cuts[1::2], strict=True)
        ]
        assert "".join(piece for piece, _ in pieces(text, said)) == text


# Served models


def test_a_served_model_is_asked_once_a_case_and_its_answers_are_kept(tmp_path: Path) -> None:
    from ehrmind.predict.request import PredictRequest, ask

    save_cases(medcalc_to_ask([medcalc_csv(tmp_path)])[0], tmp_path / "new.parquet")
    with loopback_endpoint(lambda body: answered("Weight 70 kg.", 24.2)) as server:
        request = PredictRequest(
            model="served", data=tmp_path / "new.parquet", out=tmp_path / "out", endpoint=server.url
        )
        out = ask(request)
        assert ask(replace(request, resume=True)).final()
        assert (
            len(server.requests) == 2
            and server.requests[0]["model"] == "served"
            and server.requests[0]["temperature"] == 0.0
        )
    rows = read_predictions(out.path).to_dicts()
    assert (
        [row["answer"] for row in rows] == ["24.2", "24.2"]
        and rows[0]["probability"] is None
        and rows[0]["tokens"] == 20
    )


@pytest.mark.parametrize("provenance", [{"restricted": True}, {"dataset": "EHRSHOT"}])
def test_restricted_records_never_go_to_a_model_elsewhere(tmp_path: Path, provenance: dict[str, Any]) -> None:
    case = synthetic({"kind": "decimal", "calculator": 2, "unanswered": True})
    marked = Case(**{**{k: getattr(case, k) for k in Case.__slots__}, "provenance": provenance})
    everything = {"data": ["new.parquet"], "acknowledged": True, "in_clear": True}
    allowed = endpoint_of("https://models.example/v1", "m").model_copy(update={"send": everything})
    file = tmp_path / "there.yaml"
    file.write_text(json.dumps({"url": "https://models.example/v1", "model": "m", "send": everything}))
    with pytest.raises(
        InputError, match=r"would send the text of new.parquet to models.example, which is not this machine"
    ):
        served_model(endpoint_of("https://models.example/v1", "m"), [case], Path("new.parquet"))
    assert served_model(endpoint_of(str(file), "m"), [case], Path("new.parquet")).about.served == allowed.url
    with pytest.raises(InputError, match=r"new.parquet is restricted, so it never leaves this machine"):
        served_model(endpoint_of(str(file), "m"), [marked], Path("new.parquet"))
    served_model(endpoint_of("http://127.0.0.1:9/v1", "m"), [marked], Path("new.parquet"))


def test_synthetic_cases_of_every_family_are_answered(tmp_path: Path) -> None:
    """Cases with answers can be predicted too; the answers are not looked at."""
    from ehrmind.prompts import gold_response, messages

    cases = [*synthetic_cases(14, 3, "held_out", **SHORT), *synthetic_trials(6, 3, "held_out")]
    gold = {messages(case)[0].content: gold_response(case) for case in cases}
    rows = read_predictions(asked(cases, tmp_path / "out", lambda prompt, *_: gold[prompt]).path).to_dicts()
    for case, row in zip(cases, rows, strict=True):
        truth = case.truth
        assert row["answer"] is not None and (row["rank"] is not None) == (case.family == "trials")
        assert row["value"] == truth["value"] or truth["kind"] in ("date", "weeks_days")
