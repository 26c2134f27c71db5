"""What the page is made from: the shareable files of a finished run folder, read and checked once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ehrmind.config import VOTING, split_arm
from ehrmind.runs import Run
from ehrmind.types import InputError


@dataclass(frozen=True)
class Figures:
    """A finished run without any record text. `pilot` is None where only an evaluation was run; `metrics` are by stage."""

    recipe: Mapping[str, Any]
    results: Mapping[str, Any]
    pilot: Mapping[str, Any] | None
    plan: Mapping[str, Any] | None
    gains: Mapping[str, Any] | None
    metrics: Mapping[str, list[dict[str, Any]]]
    marks: Mapping[str, Mapping[str, Any]]
    provenance: Mapping[str, Any]
    review: Mapping[str, Any] | None = None

    @property
    def arms(self) -> list[str]:
        return list(self.results["arms"])

    def views(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """(decoding, scorer, comparison): the headline first, then the other decoding, then the other scorer."""
        decoding, scorer = self.results["decoding"], self.results["scorer"]
        others = [(how, scorer, self.results[how]) for how in ("greedy", "sampled") if how in self.results]
        scorers = [
            (decoding, other, self.results[other]) for other in ("ehrmind", "benchmark") if other in self.results
        ]
        return [(decoding, scorer, self.results), *others, *scorers]

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """The RLVR stages' metrics by arm, in step order."""
        return {
            stage.removeprefix("rlvr-"): rows
            for stage, rows in sorted(self.metrics.items())
            if stage.startswith("rlvr-")
        }


def read_run(run: Run) -> Figures:
    """Raises InputError when the folder is no run, when the run is not finished, or when a file of it is broken."""
    if not any((run.path / name).is_file() for name in ("recipe.yaml", "manifest.json")):
        raise InputError(f"{run.path} is no run folder; `ehrmind runs list FOLDER` shows those there are.")
    recipe = run.recipe()
    marks = {stage: run.done(stage) or {} for stage in run.finished()}
    plan, results = (
        run.read_json("plan.json"),
        run.read_json("results.json") if (run.path / "results.json").is_file() else None,
    )
    if results is None:
        missing = next(
            (stage for stage in expected_stages(recipe, plan) if stage not in marks), "the comparison of the arms"
        )
        raise InputError(
            f"{run.path} is not finished: {missing} is missing; go on with `ehrmind run RECIPE --out {run.path} --resume`."
        )
    metrics: dict[str, list[dict[str, Any]]] = {}
    for row in run.metrics():
        metrics.setdefault(row["stage"], []).append(row)
    return Figures(
        recipe=recipe,
        results=results,
        pilot=run.read_json("pilot.json"),
        plan=plan,
        gains=run.read_json("gains.json"),
        metrics={stage: sorted(rows, key=lambda row: row["step"]) for stage, rows in metrics.items()},
        marks=marks,
        provenance=run.read_json("provenance.json") or {},
        review=run.read_json("review.json"),
    )


def expected_stages(recipe: Mapping[str, Any], plan: Mapping[str, Any] | None = None) -> Iterator[str]:
    """The stages of a whole run in order, by the names of their done marks; under `stages: auto` its arms are the plan's."""
    arms = plan["arms"] if plan is not None and recipe.get("stages") == "auto" else recipe["arms"]
    models = {split_arm(arm)[0] for arm in arms}
    yield from ("data", "pilot")
    if {"sft", "sft_rlvr"} & models:
        yield "warmup"
    yield from (f"rlvr-{arm}" for arm in ("rlvr", "sft_rlvr") if arm in models)
    decodings, places = recipe["evaluate"]["decodings"], [*recipe["data"].get("transfer", {})]
    places += ["general"] if recipe["evaluate"].get("general") else []
    for arm in (*arms, *recipe.get("endpoints", {})):
        variant_name = split_arm(arm)[1] if arm in arms else ""
        yield from (
            f"evaluate-{arm}-{decoding}" for decoding in (decodings[:1] if variant_name in VOTING else decodings)
        )
        if variant_name:
            continue
        yield from (f"transfer-{place}-{arm}-{decodings[0]}" for place in places)
        if recipe["evaluate"].get("probabilities") == "samples":
            yield f"samples-{arm}"
        if recipe["evaluate"].get("repeats"):
            yield f"repeated-{arm}"
