"""The model card that every export gets: what the run folder knows, and what people must still write. Works without torch.

Data with version, digest and licence; splits; arms with intervals; use and limits; the topics of TRIPOD-LLM (Gallifant et al. 2025,
doi 10.1038/s41591-024-03425-5) that a run can fill, in our words and without the checklist's numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ehrmind.report.formatting import arm_name, interval, number, p_value, pair_name, points
from ehrmind.report.model_card.text import BY_PEOPLE, LIMITS, RESTRICTED, SERVING, UNKNOWN, USE
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.tables.evaluation import untold_records
from ehrmind.runs import Run

SPLITS = {"train": "learned from", "tuning": "selected by", "held_out": "scored once per arm and decoding"}
NOT_STATED = "not stated"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")
Rows = Sequence[Sequence[str]]


def model_card(about: Mapping[str, Any], run: Run | None, *, name: str, licence: str = "other") -> str:
    """README.md of an exported directory. `about` is its `ehrmind.json`. Raises InputError where the run is not finished."""
    figures = read_run(run) if run is not None else None
    parts = [_front(about, licence), f"# {plain(name)}", _origin(about, figures)]
    if about.get("restricted") is not False:
        parts.append(f"**{RESTRICTED if about.get('restricted') else UNKNOWN}**")
    if figures is not None:
        parts += [_data(about, figures), _splits(figures), _arms(about, figures), _measures(about, figures)]
    parts += [f"## Intended use\n\n{USE}", f"## Limits\n\n{LIMITS}{_found_limits(figures) if figures else ''}"]
    parts += [_tripod(about, figures), _advice(about), SERVING.format(name=plain(name), limit=_limit(about))]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    """Text from elsewhere (a file's name, a task's) as text: no markup, no line of its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def table(columns: Sequence[str], rows: Rows) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _front(about: Mapping[str, Any], licence: str) -> str:
    import yaml

    base = str(about.get("base_model", {}).get("name", ""))
    tree: dict[str, Any] = {
        "license": licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "language": "en",
    }
    tree["tags"] = ["ehrmind", "medical", "clinical-reasoning", "rlvr"]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base):  # a hub's id; a directory here is nobody else's
        tree["base_model"] = base
    return f"---\n{yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)}---"


def _origin(about: Mapping[str, Any], figures: Figures | None) -> str:
    version = plain(about.get("ehrmind", ""))
    if figures is None:
        return f"A language model's directory, exported by ehrmind {version}. Nothing is known of how it was trained."
    named = about.get("base_model", {}).get("name")
    base = f"the base model {plain(named)}" if named else "a model built for the run"
    said = f"The arm **{arm_name(str(about['arm']))}** of the run *{plain(figures.recipe.get('name', 'run'))}*, from {base}"
    learned = ", ".join(
        "made-up cases" if name == "synthetic" else plain(name) for name in about.get("trained_on") or []
    )
    return (
        f"{said}, trained by ehrmind {version}{f' on {learned}' if learned else ' on nothing: it is the base itself'}. "
        "SFT is a warm-up on worked answers, RLVR reinforcement learning on answers that a program checks (method: arXiv 2505.24105)."
    )


def _data(about: Mapping[str, Any], figures: Figures) -> str:
    sources = figures.provenance.get("data", {}).get("sources", {})
    rows: list[list[str]] = []
    for split in (*(name for name in SPLITS if name in sources), *(name for name in sources if name not in SPLITS)):
        rows += _of_split(
            split,
            sources[split],
            figures.recipe.get("data", {}).get(split) or {},
            about.get("histories", {}).get(split, {}),
        )
    heads = ("Used for", "Data set", "Version", "Digest (sha256)", "Licence", "Rows or cases")
    digest = figures.provenance.get("data", {}).get("digest")
    whole = f"\n\nAll cases with their splits together: digest `{plain(digest)}`." if digest else ""
    return f"## Data\n\n{table(heads, rows)}{whole}" if rows else ""


def _of_split(
    split: str, facts: Mapping[str, Any], source: Mapping[str, Any], histories: Mapping[str, str]
) -> list[list[str]]:
    """A line a file, a data set of histories, or a made-up source."""
    licence, synthetic = plain(source.get("licence") or NOT_STATED), "synthetic" in facts
    rows = []
    for file in facts.get("files", []):
        if isinstance(file, str):  # a Cases file, which has no digest of its own here
            rows.append([split, plain(file), NOT_STATED, "in that of all cases", licence, number(facts.get("cases"))])
            continue
        name = f"{file['hub']}: {file['name']}" if file.get("hub") else file["name"]
        rows.append(
            [
                split,
                plain(name),
                plain(file.get("revision") or "the file"),
                _short(file["sha256"]),
                licence,
                number(file["rows"]),
            ]
        )
    rows += [
        [split, plain(name), "the data set's files", _short(digest), licence, ""] for name, digest in histories.items()
    ]
    if synthetic:
        said = f"made up by ehrmind, seed {facts.get('seed')}"
        rows.append(
            [
                split,
                said,
                "ehrmind's own",
                "in that of all cases",
                "none needed: no patient is behind them",
                number(facts["synthetic"]),
            ]
        )
    if "share_of_train" in facts:
        rows.append(
            [
                split,
                f"{facts['share_of_train']:.0%} of train",
                "",
                "in that of all cases",
                "as train",
                number(facts.get("cases")),
            ]
        )
    return rows


def _short(digest: str) -> str:
    return f"`{plain(digest)[:16]}`"


def _splits(figures: Figures) -> str:
    cases = figures.provenance.get("data", {}).get("cases", {})
    rows = [
        [plain(split), SPLITS.get(split, "scored, apart from held\\_out"), number(count)]
        for split, count in cases.items()
    ]
    said = "By group: no patient, note or topic is in two splits, which every start of the run checks."
    ways = {
        ((figures.recipe.get("data", {}).get(split) or {}).get("ehr") or {}).get("split_by")
        for split in ("train", "held_out")
    }
    if by := sorted(variant_name for variant_name in ways if variant_name and variant_name != "subject"):
        said += f" Coded histories are split by {' and '.join(by)}, and a subject stays in one split."
    shared = (figures.results.get("contamination") or {}).get("held_out") or {}
    told = "; ".join(
        f"with {name} {of['any']:,}, more than half of it {of['half']:,}"
        for name, of in shared.get("against", {}).items()
    )
    untold = sum(untold_records(shared).values()) if told else 0
    but = (
        f" Of {untold:,} of the {shared['cases']:,} nothing can be told: they are too short, or all template."
        if untold
        else ""
    )
    overlap = f"\n\nHeld-out records that share a run of {shared['words']} words: {plain(told)}.{but}" if told else ""
    return f"## Splits\n\n{said}\n\n{table(('Split', 'Use', 'Cases'), rows)}{overlap}" if rows else ""


def _arms(about: Mapping[str, Any], figures: Figures) -> str:
    results = figures.results
    rows = [
        [
            f"**{arm_name(arm)}** (this model)" if arm == about.get("arm") else arm_name(arm),
            number(row["n"]),
            number(row.get("groups")),
            f"{row['accuracy']:.1%}",
            interval(row["ci95"]),
            plain(row.get("interval", "")),
            number(row["unparsed"]),
        ]
        for arm, row in results["arms"].items()
    ]
    heads = ("Arm", "Cases", "Patients or notes", "Right", "95 % interval", "Interval by", "Not parsed")
    text = f"## Results\n\nHeld-out cases, {results['decoding']} decoding, {results['scorer']} scorer.\n\n{table(heads, rows)}"
    pairs = [
        [
            plain(pair_name(pair)),
            f"{points(row['difference'])} points",
            interval(row["ci95"]),
            p_value(row.get("p_holm", row["p"])),
        ]
        for pair, row in results["pairs"].items()
    ]
    if pairs:
        found = table(("Pair", "Difference", "95 %", "p"), pairs)
        text += f"\n\nPaired on the same cases; p adjusted for the number of pairs (Holm).\n\n{found}"
    return text


def _measures(about: Mapping[str, Any], figures: Figures) -> str:
    """Of this model: risks and labels by task, subgroups."""
    mine = figures.results["arms"].get(str(about.get("arm"))) or {}
    rows = []
    for task, row in mine.get("measures", {}).items():
        risk = row.get("risk") or {}
        auroc = "" if risk.get("auroc") is None else f"{risk['auroc']:.3f}{_between(risk.get('ci95', {}).get('auroc'))}"
        brier = "" if risk.get("brier") is None else f"{risk['brier']:.3f}{_between(risk.get('ci95', {}).get('brier'))}"
        rank = row.get("ranking") or {}
        rows.append(
            [
                plain(task),
                number(row["balanced_accuracy"]),
                number(row["macro_f1"]),
                auroc,
                brier,
                number(rank.get("ndcg@10")),
            ]
        )
    heads = ("Task", "Balanced accuracy", "Macro F1", "AUROC (95 %)", "Brier (95 %)", "nDCG@10")
    text = f"### By task\n\n{table(heads, rows)}" if rows else ""
    groups = [
        [plain(kind), plain(name), number(row["n"]), f"{row['accuracy']:.1%}", interval(row["ci95"])]
        for kind, of in (mine.get("subgroups") or {}).items()
        for name, row in of.items()
    ]
    if groups:
        text += f"{chr(10) * 2 if text else ''}### By subgroup\n\n{table(('By', 'Group', 'Cases', 'Right', '95 %'), groups)}"
    return text


def _between(bounds: Sequence[float] | None) -> str:
    return f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""


def _found_limits(figures: Figures) -> str:
    """What the run itself found out about its limits."""
    said = [plain(row["said"]) for row in figures.results.get("alarms", [])]
    lost = (figures.results.get("forgetting") or {}).get("arms", {})
    said += [
        f"{arm_name(arm)} is not shown to have kept its general skill within the margin"
        for arm, row in lost.items()
        if not row["kept"]
    ]
    return "".join(f"\n- In this run: {sentence.rstrip('.')}." for sentence in said)


def _tripod(about: Mapping[str, Any], figures: Figures | None) -> str:
    if figures is None:
        rows: Rows = []
    else:
        provenance, recipe = figures.provenance, figures.recipe
        decoding, model = recipe.get("decoding", {}), provenance.get("model", {})
        versions = ", ".join(
            f"{name} {value}" for name, value in provenance.get("versions", {}).items() if value != "absent"
        )
        seconds = sum(figures.results.get("seconds", {}).values())
        weights = ", ".join(f"{plain(name)} `{digest[:16]}`" for name, digest in model.get("sha256", {}).items())
        asked = "reasoning, then JSON" if recipe.get("prompts", {}).get("think", True) else "JSON alone"
        arms = figures.results["arms"].get(str(about.get("arm")), {})
        held_out = arms.get("n")
        rows = [
            [
                "Base model, version and weights",
                "; ".join(part for part in (*_version(model), weights) if part) or "built for the run",
            ],
            [
                "Data sources, preparation and splits",
                "the tables above; every row is kept, counted as left out, or refused",
            ],
            ["Sample size", f"{number(held_out)} held-out cases of {number(arms.get('groups'))} patients or notes"],
            [
                "Outcome and its check",
                "a program compares the answer with the case's own; its rules are in ehrmind's docs/verifier.md",
            ],
            ["Output and its form", f"{asked}; malformed answers count as wrong"],
            ["Prompting", "one user turn: instruction, record, question; `ehrmind.json` has the settings"],
            ["Tuning and alignment", plain(_training(recipe, str(about.get("arm"))))],
            ["Decoding", f"{figures.results['decoding']}; at most {number(decoding.get('max_new_tokens'))} new tokens"],
            ["Measures and uncertainty", "accuracy with 95 % intervals over patients, paired exact tests"],
            ["Fairness", "accuracy by age and sex, above" if arms.get("subgroups") else "not measured in this run"],
            ["Compute", f"{seconds:,.0f} seconds of all stages on one machine; {plain(versions)}"],
            [
                "Reproducibility",
                f"seed {plain(provenance.get('seed'))}, recipe digest `{plain(str(provenance.get('recipe_digest'))[:16])}`",
            ],
        ]
    head = "## TRIPOD-LLM\n\nTopics of the checklist in our words; their numbers stand in the checklist (doi 10.1038/s41591-024-03425-5)."
    filled = f"\n\nFilled from the run:\n\n{table(('Topic', 'What the run says'), rows)}" if rows else ""
    return f"{head}{filled}\n\nTo be written by people, because no run knows it:\n\n" + "\n".join(
        f"- [ ] {topic}" for topic in BY_PEOPLE
    )


def _version(model: Mapping[str, Any]) -> tuple[str, str]:
    """(name, revision) of the base, as far as they are known."""
    return plain(model.get("name") or ""), f"revision {plain(model['revision'])}" if model.get("revision") else ""


def _training(recipe: Mapping[str, Any], arm: str) -> str:
    warmup, rlvr = recipe.get("warmup", {}), recipe.get("rlvr", {})
    said = []
    if arm in ("sft", "sft_rlvr"):
        said.append(
            f"warm-up on worked answers ({warmup.get('traces')}), {warmup.get('epochs')} epochs at {warmup.get('learning_rate')}"
        )
    if arm in ("rlvr", "sft_rlvr"):
        said.append(
            f"RLVR: {rlvr.get('steps')} steps of {rlvr.get('questions_per_step')} questions, {rlvr.get('samples')} answers each, "
            f"{rlvr.get('advantage')} advantages, {rlvr.get('loss')} loss, learning rate {rlvr.get('learning_rate')}, KL {rlvr.get('kl')}"
        )
    return "; ".join(said) or "none: the base model"


def _advice(about: Mapping[str, Any]) -> str:
    """The makers' own sampling, which no arm was scored with."""
    said = about.get("base_model", {}).get("generation_advice") or {}
    if not said:
        return ""
    listed = ", ".join(f"{plain(name)}: {plain(json.dumps(value))}" for name, value in sorted(said.items()))
    greedy = "The generation config here decodes greedily and without penalties, as the run did."
    return f"## Decoding\n\n{greedy} The base model's own advised {listed}, and the run used none of it."


def _limit(about: Mapping[str, Any]) -> str:
    return str(about.get("asks", {}).get("decoding", {}).get("max_new_tokens", 512))
