"""The model card of an export: what the run folder knows, and what people must still write.

It has the data with version, digest and licence; splits; arms with intervals; use and limits; and
the topics of TRIPOD-LLM that a run can fill (Gallifant et al. 2025, doi
10.1038/s41591-024-03425-5), in our words and without the checklist's numbers. Works without torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from ehrmind.config import Recipe
from ehrmind.report.formatting import arm_name, interval, number, p_value, pair_name, points
from ehrmind.report.model_card.text import BY_PEOPLE, LIMITS, RESTRICTED, SERVING, UNKNOWN, USE
from ehrmind.report.reading import Figures, read_run
from ehrmind.report.tables.baselines import baseline_sentence
from ehrmind.report.tables.contamination import not_comparable
from ehrmind.report.tables.process_audit import flawed_sentence
from ehrmind.runs import SPLITS, Run
from ehrmind.runs.records import Interval95, Provenance
from ehrmind.runs.records.exported import ExportedModel

USES = {"train": "learned from", "tuning": "selected by", "held_out": "scored once per arm and decoding"}
NOT_STATED = "not stated"
MOST_TOKENS = 512  # of an answer, where a directory does not say
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")
Lines = Sequence[Sequence[str]]


class _Read(BaseModel):
    """JSON of which the card reads some keys."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class SourceFile(_Read):
    name: str
    sha256: str
    rows: int
    hub: str | None = None
    revision: str | None = None


class SourceFacts(_Read):
    """The facts of a source that the card shows. A Cases file has a name only."""

    files: Sequence[SourceFile | str] = ()
    cases: int | None = None
    synthetic: int | None = None
    seed: int | None = None
    share_of_train: float | None = None


def model_card(about: ExportedModel, run: Run | None, *, name: str, licence: str = "other") -> str:
    """README.md of an exported directory, which `about` describes.

    Raises InputError where the run is not finished.
    """
    figures = read_run(run) if run is not None else None
    parts = [_front(about, licence), f"# {plain(name)}", _origin(about, figures)]
    if about.restricted is not False:
        parts.append(f"**{RESTRICTED if about.restricted else UNKNOWN}**")
    if figures is not None:
        parts += [_data(about, figures), _splits(figures), _arms(about, figures), _measures(about, figures)]
    parts += [f"## Intended use\n\n{USE}", f"## Limits\n\n{LIMITS}{_found_limits(figures) if figures else ''}"]
    serving = SERVING.format(name=plain(name), limit=_most_tokens(about))
    parts += [_tripod(about, figures), _advice(about), serving]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    """Text that we did not write (the name of a file or task), without markup or line ends."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def table(columns: Sequence[str], rows: Lines) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _front(about: ExportedModel, licence: str) -> str:
    import yaml

    base = about.base_model.name if about.base_model else ""
    tree: dict[str, str | list[str]] = {
        "license": licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "language": "en",
        "tags": ["ehrmind", "medical", "clinical-reasoning", "rlvr"],
    }
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base):  # a hub id; nobody else has a local directory
        tree["base_model"] = base
    return f"---\n{yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)}---"


def _origin(about: ExportedModel, figures: Figures | None) -> str:
    version = plain(about.ehrmind)
    if figures is None:
        return f"A language model's directory, exported by ehrmind {version}. Nothing is known of its training."
    name = about.base_model.name if about.base_model else ""
    base = f"the base model {plain(name)}" if name else "a model built for the run"
    learned = ", ".join("synthetic cases" if name == "synthetic" else plain(name) for name in about.trained_on)
    return (
        f"The arm **{arm_name(str(about.arm))}** of the run *{plain(figures.recipe.name)}*, from {base}, trained by "
        f"ehrmind {version}{f' on {learned}' if learned else ' on nothing: it is the base itself'}. "
        "SFT is a warm-up on worked answers, RLVR reinforcement learning on answers that a program checks "
        "(method: arXiv 2505.24105)."
    )


def _data(about: ExportedModel, figures: Figures) -> str:
    if figures.provenance is None:
        return ""
    data = figures.provenance.data
    rows: list[list[str]] = []
    for split in sorted(data.sources, key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS)):
        source = getattr(figures.recipe.data, split) if split in SPLITS else None
        licence = plain((source and source.licence) or NOT_STATED)
        facts = SourceFacts.model_validate(data.sources[split])
        rows += _source_rows(split, facts, licence, about.histories.get(split, {}))
    heads = ("Used for", "Data set", "Version", "Digest (sha256)", "Licence", "Rows or cases")
    digest = f"All cases with their splits together: digest `{plain(data.digest)}`."
    return f"## Data\n\n{table(heads, rows)}\n\n{digest}" if rows else ""


def _source_rows(split: str, facts: SourceFacts, licence: str, histories: Mapping[str, str]) -> list[list[str]]:
    """A row per file, per data set of histories and per synthetic source."""
    rows = []
    for file in facts.files:
        if isinstance(file, str):  # a Cases file has no digest of its own here
            rows.append([split, plain(file), NOT_STATED, "in that of all cases", licence, number(facts.cases)])
            continue
        name = f"{file.hub}: {file.name}" if file.hub else file.name
        version = plain(file.revision or "the file")
        rows.append([split, plain(name), version, _short(file.sha256), licence, number(file.rows)])
    for name, digest in histories.items():
        rows.append([split, plain(name), "the data set's files", _short(digest), licence, ""])
    if facts.synthetic is not None:
        made, no_licence = f"synthetic, by ehrmind, seed {facts.seed}", "none needed: no patient is behind them"
        rows.append([split, made, "ehrmind's own", "in that of all cases", no_licence, number(facts.synthetic)])
    if facts.share_of_train is not None:
        share = f"{facts.share_of_train:.0%} of train"
        rows.append([split, share, "", "in that of all cases", "as train", number(facts.cases)])
    return rows


def _short(digest: str) -> str:
    return f"`{plain(digest)[:16]}`"


def _splits(figures: Figures) -> str:
    if figures.provenance is None:
        return ""
    rows = [
        [plain(split), USES.get(split, "scored, apart from held\\_out"), number(count)]
        for split, count in figures.provenance.data.cases.items()
    ]
    text = "By group: no patient, note or topic is in two splits, which every start of the run checks."
    sources = [figures.recipe.data.train.ehr, figures.recipe.data.held_out.ehr]
    if by := sorted({ehr.split_by for ehr in sources if ehr is not None} - {"subject"}):
        text += f" Coded histories are split by {' and '.join(by)}, and a subject stays in one split."
    text += f"\n\n{table(('Split', 'Use', 'Cases'), rows)}"
    found = figures.results.contamination.get("held_out")
    if found is not None and found.against:
        shared = "; ".join(
            f"with {name} {one.any:,}, more than half of it {one.half:,}" for name, one in found.against.items()
        )
        left_out = sum(not_comparable(found).values())
        but = f" {left_out:,} of the {found.cases:,} cannot be compared: they are too short, or all template."
        text += f"\n\nHeld-out records that share a run of {found.words} words: {plain(shared)}."
        text += but if left_out else ""
    return f"## Splits\n\n{text}" if rows else ""


def _arms(about: ExportedModel, figures: Figures) -> str:
    results = figures.results
    rows = [
        [
            f"**{arm_name(arm)}** (this model)" if arm == about.arm else arm_name(arm),
            number(row.n),
            number(row.groups),
            f"{row.accuracy:.1%}",
            interval(row.ci95),
            plain(row.interval),
            number(row.unparsed),
        ]
        for arm, row in results.arms.items()
    ]
    heads = ("Arm", "Cases", "Patients or notes", "Right", "95 % interval", "Interval by", "Not parsed")
    settings = f"Held-out cases, {results.decoding} decoding, {results.scorer} scorer."
    text = f"## Results\n\n{settings}\n\n{table(heads, rows)}"
    pairs = [
        [
            plain(pair_name(name)),
            f"{points(pair.difference)} points",
            interval(pair.ci95),
            p_value(pair.p if pair.p_holm is None else pair.p_holm),
        ]
        for name, pair in results.pairs.items()
    ]
    if pairs:
        found = table(("Pair", "Difference", "95 %", "p"), pairs)
        text += f"\n\nPaired on the same cases; p adjusted for the number of pairs (Holm).\n\n{found}"
    arm = about.arm or ""
    return "\n\n".join([text, *map(plain, (*baseline_sentence(figures, arm), *flawed_sentence(figures, arm)))])


def _measures(about: ExportedModel, figures: Figures) -> str:
    """The measures of this model by task and subgroup."""
    mine = figures.results.arms.get(about.arm or "")
    if mine is None:
        return ""
    rows = []
    for task, row in mine.measures.items():
        risk, ranking = row.risk, row.ranking
        rows.append(
            [
                plain(task),
                number(row.balanced_accuracy),
                number(row.macro_f1),
                _with_bounds(risk.auroc, risk.ci95.get("auroc")) if risk else "",
                _with_bounds(risk.brier, risk.ci95.get("brier")) if risk else "",
                number(ranking.ndcg_at_10 if ranking else None),
            ]
        )
    heads = ("Task", "Balanced accuracy", "Macro F1", "AUROC (95 %)", "Brier (95 %)", "nDCG@10")
    parts = [f"### By task\n\n{table(heads, rows)}"] if rows else []
    groups = [
        [plain(kind), plain(name), number(row.n), f"{row.accuracy:.1%}", interval(row.ci95)]
        for kind, by_group in mine.subgroups.items()
        for name, row in by_group.items()
    ]
    if groups:
        parts.append(f"### By subgroup\n\n{table(('By', 'Group', 'Cases', 'Right', '95 %'), groups)}")
    return "\n\n".join(parts)


def _with_bounds(value: float | None, bounds: Interval95 | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else f"{value:.3f}"


def _found_limits(figures: Figures) -> str:
    """The limits that the run itself found."""
    sentences = [plain(alarm.said) for alarm in figures.alarms]
    lost = figures.results.forgetting.arms if figures.results.forgetting else {}
    sentences += [
        f"{arm_name(arm)} is not shown to have kept its general skill within the margin"
        for arm, row in lost.items()
        if not row.kept
    ]
    return "".join(f"\n- In this run: {sentence.rstrip('.')}." for sentence in sentences)


def _tripod(about: ExportedModel, figures: Figures | None) -> str:
    head = (
        "## TRIPOD-LLM\n\nTopics of the checklist in our words; their numbers stand in the checklist "
        "(doi 10.1038/s41591-024-03425-5)."
    )
    filled = ""
    if figures is not None and figures.provenance is not None:
        rows = _tripod_rows(about, figures, figures.provenance)
        filled = f"\n\nFilled from the run:\n\n{table(('Topic', 'What the run says'), rows)}"
    topics = "\n".join(f"- [ ] {topic}" for topic in BY_PEOPLE)
    return f"{head}{filled}\n\nTo be written by people, because no run knows it:\n\n{topics}"


def _tripod_rows(about: ExportedModel, figures: Figures, provenance: Provenance) -> Lines:
    recipe, model, mine = figures.recipe, provenance.model, figures.results.arms.get(about.arm or "")
    revision = f"revision {plain(model.revision)}" if model.revision else ""
    weights = ", ".join(f"{plain(name)} `{digest[:16]}`" for name, digest in model.sha256.items())
    versions = ", ".join(f"{name} {value}" for name, value in provenance.versions.items() if value != "absent")
    seconds, digest = sum(figures.results.seconds.values()), provenance.recipe_digest[:16]
    asked = "reasoning, then JSON" if recipe.prompts.think else "JSON alone"
    sizes = f"{number(mine.n if mine else None)} held-out cases of {number(mine.groups if mine else None)}"
    tokens = number(recipe.decoding.max_new_tokens)
    return [
        ["Base model, version and weights", "; ".join(filter(None, (plain(model.name), revision, weights)))],
        [
            "Data sources, preparation and splits",
            "the tables above; every row is kept, counted as left out, or refused",
        ],
        ["Sample size", f"{sizes} patients or notes"],
        [
            "Outcome and its check",
            "a program compares the answer with the case's own; its rules are in ehrmind's docs/verifier.md",
        ],
        ["Output and its form", f"{asked}; malformed answers count as wrong"],
        ["Prompting", "one user turn: instruction, record, question; `ehrmind.json` has the settings"],
        ["Tuning and alignment", plain(_training(recipe, str(about.arm)))],
        ["Decoding", f"{figures.results.decoding}; at most {tokens} new tokens"],
        ["Measures and uncertainty", "accuracy with 95 % intervals over patients, paired exact tests"],
        ["Fairness", "accuracy by age and sex, above" if mine and mine.subgroups else "not measured in this run"],
        ["Compute", f"{seconds:,.0f} seconds of all stages on one machine; {plain(versions)}"],
        ["Reproducibility", f"seed {provenance.seed}, recipe digest `{plain(digest)}`"],
    ]


def _training(recipe: Recipe, arm: str) -> str:
    warmup, rlvr = recipe.warmup, recipe.rlvr
    parts = []
    if arm in ("sft", "sft_rlvr"):
        parts.append(f"warm-up on worked answers ({warmup.traces}), {warmup.epochs} epochs at {warmup.learning_rate}")
    if arm in ("rlvr", "sft_rlvr"):
        parts.append(
            f"RLVR: {rlvr.steps} steps of {rlvr.questions_per_step} questions, {rlvr.samples} answers each, "
            f"{rlvr.advantage} advantages, {rlvr.loss} loss, learning rate {rlvr.learning_rate}, KL {rlvr.kl}"
        )
    return "; ".join(parts) or "none: the base model"


def _advice(about: ExportedModel) -> str:
    """The sampling that the makers of the base model advise; no arm was scored with it."""
    advice = about.base_model.generation_advice if about.base_model else None
    if not advice:
        return ""
    listed = ", ".join(f"{plain(name)}: {plain(json.dumps(value))}" for name, value in sorted(advice.items()))
    greedy = "The generation config here decodes greedily and without penalties, as the run did."
    return f"## Decoding\n\n{greedy} The base model's own advised {listed}, and the run used none of it."


def _most_tokens(about: ExportedModel) -> int:
    decoding = about.asks.get("decoding")
    found = decoding.get("max_new_tokens") if isinstance(decoding, dict) else None
    return found if isinstance(found, int) else MOST_TOKENS
