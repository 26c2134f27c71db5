"""The recipe's `data`: where Cases come from, and what each split may be used for."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from ehrmind.config.section import Section
from ehrmind.labels import is_number, refuse_labels


class Synthetic(Section):
    """Synthetic cases: item i is a pure function of (seed, i)."""

    family: Literal["medcalc", "trials", "general"] = Field(
        default="medcalc", description="general: sums and short readings"
    )
    n: PositiveInt = Field(description="how many cases")
    seed: int = Field(default=0, description="give every split its own")
    tasks: list[str] = Field(
        default=[],
        description=(
            "calculators, kinds of trial criteria or of general questions, to draw from in turn; empty means all"
        ),
    )
    difficulty: Literal["easy", "medium", "hard"] = Field(
        default="medium", description="difficulty of the notes: length, distractors, units, negations"
    )
    manners: list[Literal["telegraphic", "case_report", "admission_note", "result_table"]] = Field(
        default=[], description="manners of the notes; empty means all"
    )
    styles: list[Literal["shorthand", "jotted", "numbered", "prose", "formula_first"]] = Field(
        default=[], description="styles of the worked answers; empty means all"
    )

    @model_validator(mode="after")
    def looks_are_of_notes(self) -> Synthetic:
        if self.family != "medcalc" and (self.manners or self.styles):
            raise ValueError("manners and styles are those of medcalc notes; leave them out")
        return self


class TrialFiles(Section):
    """A collection of patients (topics), judgments (qrels) and trial records, as TREC Clinical
    Trials publishes them.
    """

    topics: Path = Field(description="the patients' descriptions: TREC XML, or queries.jsonl")
    qrels: Path = Field(description="the judgments: four columns, or TSV")
    trials: list[Path] = Field(
        min_length=1, description="registry records: .xml, .zip of them, a folder, .json, .jsonl, .parquet"
    )
    name: str | None = Field(
        default=None, description="name of the collection, in strata; by default the topics file's"
    )
    split_by: Literal["patient", "pair"] = Field(
        default="patient", description="pair: every patient has pairs in every split (seen patients, unseen pairs)"
    )
    shares: tuple[float, float, float] = Field(
        default=(0.7, 0.1, 0.2), description="shares of the patients, or pairs, in train, tuning and held_out"
    )
    seed: int = Field(default=0, description="seed of the split and of balance")
    balance: PositiveFloat | None = Field(
        default=None, description="in train, no label more often than this many times the rarest"
    )
    any_year: bool = Field(default=False, description="topics and judgments that name different years belong together")


EventKind = Literal["diagnoses", "procedures", "labs", "drugs", "visits", "vitals", "demographics", "notes", "other"]


class History(Section):
    """How a coded history becomes text."""

    kinds: list[EventKind] = Field(
        default=["diagnoses", "procedures", "labs", "drugs", "visits", "vitals", "other"],
        min_length=1,
        description="kinds of events that are written",
    )
    max_tokens: PositiveInt = Field(
        default=1500, description="tokens of a history, roughly: three characters count as one"
    )
    max_events: PositiveInt = Field(default=512, description="the newest ones looked at; older ones are counted as cut")
    newest_first: bool = Field(default=True, description="writes the newest events first")
    trends: bool = Field(default=True, description="repeated results of a test as one finding, the oldest value first")
    trend_values: PositiveInt = Field(default=5, description="values of a trend that are written")
    flags: bool = Field(
        default=True, description="marks a result as high or low if it is outside the limits common in adults"
    )
    strictly_before: bool = Field(default=False, description="leaves out events at exactly the prediction time")


class EhrFiles(Section):
    """A task over a MEDS data set and a label file or an ACES task file, or over the files of the
    EHRSHOT release.
    """

    meds: Path | None = Field(default=None, description="the folder of a MEDS data set; not with ehrshot")
    labels: Path | None = Field(default=None, description="a MEDS label file, or a folder of them")
    aces: Path | None = Field(
        default=None, description="an ACES task file (.yaml) that the labels are made from, instead of labels"
    )
    ehrshot: Path | None = Field(default=None, description="the release's folder; `task` then names its labels")
    task: str | None = Field(
        default=None,
        description=(
            "name of the task; by default that of the label file's folder or of the ACES file. It chooses one of a"
            " folder of several"
        ),
    )
    label_column: str | None = Field(
        default=None, description="the column of the labels, where a label file fills several"
    )
    labels_from: Literal[0, 1] | None = Field(
        default=None, description="the lowest grade, where grades never are 0: 0 or 1"
    )
    question: str | None = Field(default=None, description="instead of the task's own, or of one made from its name")
    split_by: Literal["subject", "time", "site"] = Field(
        default="subject",
        description="time: train lies before tuning, tuning before held_out; site: held_out is of other sites",
    )
    boundaries: tuple[date, date] | None = Field(
        default=None, description="with split_by=time: the days on which tuning and held_out begin"
    )
    site_column: str | None = Field(
        default=None, description="with split_by=site: the column of the event shards, such as care_site_id"
    )
    held_out_sites: list[str | int] = Field(
        default=[], description="with split_by=site: values of held-out sites in that column"
    )
    tuning_sites: list[str | int] = Field(
        default=[],
        description="with split_by=site: values of tuning sites; without any, tuning is a share of train's subjects",
    )
    shares: tuple[float, float, float] = Field(
        default=(0.7, 0.1, 0.2),
        description="shares of the subjects, if the data set has no splits; with split_by=time, of the labels",
    )
    seed: int = Field(default=0, description="seed of splits and of balance")
    balance: PositiveFloat | None = Field(
        default=None, description="in train, no label more often than this many times the rarest"
    )
    unusable: Literal["refuse", "leave_out"] = Field(
        default="refuse", description="labels of unknown subjects, before birth, or null"
    )

    @model_validator(mode="after")
    def one_data_set(self) -> EhrFiles:
        if self.aces is not None and self.ehrshot is not None:
            raise ValueError("aces reads MEDS data sets only; give meds with it, or ehrshot and task without it")
        if self.ehrshot is None and (self.meds is None or (self.labels is None) == (self.aces is None)):
            raise ValueError("give meds with one of labels and aces, or ehrshot and task")
        if self.ehrshot is not None and (self.meds is not None or self.labels is not None or self.task is None):
            raise ValueError("ehrshot goes with task, which names its labels, and without meds and labels")
        return self

    @model_validator(mode="after")
    def one_way_to_split(self) -> EhrFiles:
        if self.boundaries is not None and (self.split_by != "time" or self.boundaries[0] >= self.boundaries[1]):
            raise ValueError("boundaries go with split_by=time, the earlier day first")
        if self.split_by != "site":
            if self.site_column is not None or self.held_out_sites or self.tuning_sites:
                raise ValueError("site_column, held_out_sites and tuning_sites go with split_by=site")
        elif self.ehrshot is not None:
            raise ValueError("split_by=site is for MEDS data sets; EHRSHOT's files name no site")
        elif self.site_column is None or not self.held_out_sites:
            raise ValueError("split_by=site needs site_column and held_out_sites")
        elif both := {str(site) for site in self.held_out_sites} & {str(site) for site in self.tuning_sites}:
            raise ValueError(f"'{min(both)}' is among held_out_sites and tuning_sites; keep one")
        return self


class TableFile(Section):
    """A table of questions; the columns are named here."""

    path: Path = Field(description="CSV (commas, semicolons, tabs), TSV, .xlsx, parquet or JSON lines")
    sheet: str | None = Field(default=None, description="sheet of an .xlsx file with several")
    question: str = Field(default="question", description="the column of questions")
    answer: str = Field(default="answer", description="the column of answers")
    kind: Literal["number", "integer", "date", "label"] = Field(description="kind of the answers")
    labels: list[str] = Field(default=[], description="labels of kind label, in the order of their numbers")
    labels_from: Literal[0, 1] | None = Field(
        default=None, description="a number among the answers is a label's place, counted from this"
    )
    decimal: Literal["point", "comma"] | None = Field(
        default=None, description="the answers' decimal mark, where their column cannot tell"
    )
    dates: Literal["day-first", "month-first"] | None = Field(
        default=None, description="order of day and month in 01/02/2026, if the column cannot show it"
    )
    tolerance: NonNegativeFloat = Field(default=0.0, description="tolerance of kind number, as a share of the answer")
    absolute_tolerance: NonNegativeFloat = Field(
        default=0.0, description="absolute tolerance of kind number; the larger of the two counts"
    )
    unit: str | None = Field(
        default=None,
        description="unit of the numbers; an answer may leave it out, and a unit that is there must be right",
    )
    record: str | None = Field(default=None, description="the column of the text that a question is about")
    rationale: str | None = Field(default=None, description="the column of worked answers, for the warm-up")
    group: str | None = Field(default=None, description="the column of the patient or note; it never crosses splits")
    groups_of: str | None = Field(
        default=None,
        description=(
            "whose numbers the groups are, where those of another table name other patients: 7 of A is not 7 of B"
        ),
    )
    id: str | None = Field(default=None, description="the column of names of the rows; their number by default")
    split: str | None = Field(
        default=None, description="the column of train, tuning and held_out (also test, validation, dev)"
    )
    name: str | None = Field(default=None, description="name of the task; by default the file's")
    shares: tuple[float, float, float] = Field(
        default=(0.7, 0.1, 0.2), description="shares of the groups, if there is no split column"
    )
    seed: int = Field(default=0, description="seed of that split")
    hints: dict[str, str] = Field(
        default={}, description="columns that the pilot's interventions add to the question as hints, by name"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def labels_are_words(cls, labels: Any) -> Any:
        """Reads labels as words. YAML makes numbers of 1 and 2, which have one reading as words,
        and booleans of no and yes, on and off, which have several.
        """
        if not isinstance(labels, list | tuple):
            return labels
        if any(isinstance(label, bool) for label in labels):
            raise ValueError(
                "without quotes no, yes, on, off, true and false are booleans in YAML; write labels: ['no', 'yes']"
            )
        if any(isinstance(label, float) for label in labels):
            raise ValueError(
                "a number with a decimal point has lost zeros in YAML; put such labels in quotes: ['0.50', '1.5']"
            )
        return [str(label) if isinstance(label, int) else label for label in labels]

    @model_validator(mode="after")
    def labels_are_named(self) -> TableFile:
        if (self.kind == "label") != bool(self.labels):
            raise ValueError("kind label needs labels, and the other kinds have none")
        refuse_labels(self.labels)
        if self.labels_from is not None and (self.kind != "label" or any(map(is_number, self.labels))):
            raise ValueError("labels_from is for labels that are words, where answers are their places")
        if self.decimal is not None and self.kind not in ("number", "integer"):
            raise ValueError("decimal is for kinds number and integer")
        if self.dates is not None and self.kind != "date":
            raise ValueError("dates is for kind date")
        if self.groups_of is not None and self.group is None:
            raise ValueError("groups_of goes with group")
        if self.kind != "number" and (self.tolerance or self.absolute_tolerance):
            raise ValueError("a tolerance is for kind number only")
        return self


SOURCES = frozenset({"cases", "medcalc", "trials", "ehr", "table", "synthetic", "share_of_train"})


class DataSource(Section):
    """Source of Cases: exactly one of the seven. Files that hold all three splits give each split
    its own.
    """

    cases: list[Path] = Field(default=[], description="Cases files (parquet), as the data commands write them")
    medcalc: list[str] = Field(
        default=[], description="MedCalc-Bench files, or a hub data set's id where going online is allowed"
    )
    trials: TrialFiles | None = None
    ehr: EhrFiles | None = None
    table: TableFile | None = None
    synthetic: Synthetic | None = None
    share_of_train: float | None = Field(
        default=None, gt=0.0, lt=1.0, description="tuning only: this share of train's notes"
    )
    recompute: bool = Field(
        default=False, description="labels by the published formulas from each row's entities, not as stored"
    )
    restricted: bool = Field(
        default=False, description="never to be sent off this machine, whatever the recipe says elsewhere"
    )
    licence: str | None = Field(
        default=None, description="licence of the data, for the model card; nothing is concluded from it"
    )
    revision: str | None = Field(default=None, description="a hub data set's commit; resolved and recorded when absent")
    limit: PositiveInt | None = Field(default=None, description="take at most this many cases, chosen by seed")

    @property
    def is_restricted(self) -> bool:
        """EHRSHOT's own files always are, by the agreement that everyone signs for them; synthetic
        cases never are.
        """
        return self.synthetic is None and (self.restricted or (self.ehr is not None and self.ehr.ehrshot is not None))

    @model_validator(mode="after")
    def one_source(self) -> DataSource:
        if sum(bool(getattr(self, source)) for source in SOURCES) != 1:
            raise ValueError("give exactly one of cases, medcalc, trials, ehr, table, synthetic or share_of_train")
        if self.recompute and not (self.medcalc or self.cases):
            raise ValueError(
                "recompute is for medcalc files and cases made of them; the labels of synthetic cases are computed"
                " already"
            )
        return self


class Data(Section):
    """`train` may be learned from, `tuning` may select, `held_out` is scored once per arm, seed and
    decoding.
    """

    source: DataSource | None = Field(
        default=None, description="files that hold all three splits; a split that names its own keeps to it"
    )
    train: DataSource
    tuning: DataSource = DataSource(share_of_train=0.1)
    held_out: DataSource
    transfer: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], DataSource] = Field(
        default={},
        description="more held-out cases by name, such as another task's: scored by every arm, apart from held_out",
    )
    online: bool = Field(default=False, description="allow downloads from the hub")
    exclude_leaks: bool = Field(
        default=False, description="drop train notes that held_out also has (counted) instead of refusing"
    )

    @model_validator(mode="before")
    @classmethod
    def one_source_for_all(cls, tree: Any) -> Any:
        """Fills what a split does not say from `source`: its own limit, or the whole."""
        if not isinstance(tree, dict) or not isinstance(tree.get("source"), dict):
            return tree
        source = tree["source"]
        said = {split: tree.get(split) or {} for split in ("train", "tuning", "held_out")}
        filled = {
            split: own if not isinstance(own, dict) or SOURCES & own.keys() else {**source, **own}
            for split, own in said.items()
        }
        return {**tree, **filled, "source": None}

    @model_validator(mode="after")
    def only_tuning_is_a_share(self) -> Data:
        if any(source.share_of_train is not None for source in (self.train, self.held_out, *self.transfer.values())):
            raise ValueError("share_of_train is for tuning only; give train and held_out files or synthetic cases")
        return self
