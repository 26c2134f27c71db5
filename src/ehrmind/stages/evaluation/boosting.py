"""The baseline for coded histories: gradient boosting on counts of codes (scikit-learn), as EHRSHOT
has one.

It learns from the same training cases. It sees what `Timeline.visible` shows at the same times: how
often each of the commonest codes occurred, and the age. No choice is made by looking at tuning or
held-out cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ehrmind.ages import ages
from ehrmind.prompts.records import by_shard
from ehrmind.runs.records import Guess
from ehrmind.stages.evaluation.guesses import guess_of_shares
from ehrmind.types import Case

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

CODES = 1000  # the commonest in training
AT_ONCE = 500  # cases whose whole histories are counted together


def boosted_counts(
    train: Sequence[Case], held_out: Sequence[Case], *, seed: int, strictly_before: bool = False
) -> dict[str, Guess]:
    """Returns guesses by case, for every task of coded histories that both splits have. A task with
    one label in training has no model and no guesses."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    found: dict[str, Guess] = {}
    for name in sorted(
        {case.task for case in train if case.family == "ehr"} & {case.task for case in held_out if case.family == "ehr"}
    ):
        train_cases, asked = (
            [case for case in cases if (case.family, case.task) == ("ehr", name)] for cases in (train, held_out)
        )
        values = np.array([case.truth["value"] for case in train_cases])
        if len(set(values.tolist())) < 2:
            continue
        counts, years = _counts(train_cases, strictly_before)
        common = (
            counts.group_by("code").len().sort("len", "code", descending=[True, False])["code"].head(CODES).to_list()
        )
        model = HistGradientBoostingClassifier(random_state=seed).fit(_matrix(counts, years, common), values)
        counts, years = _counts(asked, strictly_before)
        shares = np.zeros((len(asked), len(asked[0].truth["labels"])))
        shares[:, model.classes_] = model.predict_proba(_matrix(counts, years, common))
        for case, row in zip(asked, shares.tolist(), strict=True):
            found[case.id] = guess_of_shares(case, row)
    return found


def _counts(cases: Sequence[Case], strictly_before: bool) -> tuple[pl.DataFrame, np.ndarray]:
    """Returns (a table of the case's place, a code, and how often it was visible; age in years by
    case, NaN if not known)."""
    import numpy as np
    import polars as pl

    parts, years = [], np.full(len(cases), np.nan)
    for shard in by_shard(cases, AT_ONCE):
        codes = shard.timeline.whats["code"]
        for asked in shard.asked:
            events = shard.timeline.visible(asked.subjects, asked.times, strictly_before=strictly_before).events
            seen = events.group_by("request", codes.gather(events["what"]).alias("code")).len()
            parts.append(
                seen.with_columns(pl.Series("place", asked.places[seen["request"].to_numpy()])).select(
                    "place", "code", "len"
                )
            )
            years[asked.places] = ages(shard.timeline.born(asked.subjects), asked.times)
    return pl.concat(parts), years


def _matrix(counts: pl.DataFrame, years: np.ndarray, codes: Sequence[str]) -> np.ndarray:
    """Returns the matrix [cases, codes + 1]: counts of the codes, then the age."""
    import numpy as np
    import polars as pl

    columns = pl.DataFrame({"code": codes, "column": np.arange(len(codes))})
    entries = counts.join(columns, on="code")
    matrix = np.zeros((len(years), len(codes) + 1), dtype=np.float32)
    matrix[entries["place"].to_numpy(), entries["column"].to_numpy()] = entries["len"].to_numpy()
    matrix[:, -1] = years
    return matrix
