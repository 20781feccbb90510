"""The tidy table of a study: its columns, how a CSV is read, and which rows cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.horizons import schedule_texts

SCHEMA = 1
TEXT_COLUMNS = (
    "study source run model size conditioning data protocol metric features sampler decoder"
    " weights reference labels checkpoint warning commit device"
).split()
NUMBER_COLUMNS = (
    "patch seed batch_size lr params gflops step images value n sampling_steps guidance"
    " guidance_channels seconds schema"
).split()
# Columns that a table may have: of one without them they follow from the name and the patch size.
OPTIONAL_TEXT, OPTIONAL_NUMBERS = ("family", "evidence"), ("tokens", "passes", "sampling_seed")
# Of published values: those that nobody here has read in their authors' own text.
UNCERTAIN = ("second-hand", "recalled")

# Fields of a run that a table has only where they vary in its sweep: their text is `others`.
OTHER_TEXT = (
    *("objective", "precision", "variant"),
    *("optimizer", "schedule", "ema", "parametrization", "recipe"),
)
OTHER_NUMBERS = ("weight_decay", "ema_decay", "label_dropout")

# What makes two runs of one model two recipes; of one recipe only the seed differs.
RECIPE = ("conditioning", "batch_size", "lr", "others")
# Published numbers have no run id, so the fields that make a run stand in for it.
RUN = ["study", "source", "run", "model", "data", "seed", *RECIPE]
KEY = [*RUN, "step", "protocol", "metric"]
SCALE = ["patch", "params", "gflops", "batch_size", "step"]
MOST_STEPS = 10**15
LARGEST = 1e100  # products of larger numbers overflow on an axis
PUBLISHED = Path(__file__).parents[1] / "results" / "published" / "peebles2023.csv"

METRICS = {
    "fid": "FID",
    "sfid": "sFID",
    "inception_score": "Inception Score",
    "precision": "Precision",
    "recall": "Recall",
    "kid": "KID",
    "fid_infinity": "FID∞",
    "precision_fp16": "Precision (fp16)",
    "recall_fp16": "Recall (fp16)",
    "label_accuracy": "Label accuracy",
    "density": "Density",
    "coverage": "Coverage",
    "cmmd": "CMMD",
    "mind": "MIND",
}
# Distances that literature names with their extractor.
EXTRACTED = {("fid", "dinov2-vitl14"): "FD-DINOv2", ("cmmd", "clip-vitl14-336"): "CMMD"}
# Scores that are a loss, the best first: held out, then as trained.
LOSSES = {"val_loss": "Validation loss", "loss": "Training loss"}
HIGHER_IS_BETTER = set(
    "inception_score precision recall precision_fp16 recall_fp16 label_accuracy density"
    " coverage".split()
)
UNREADABLE = (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError)


class TableError(ValueError):
    """A table does not hold what was asked of it; the message gives the reason and the remedy."""


def load(path: str | Path) -> pd.DataFrame:
    """Reads the usable rows of a results CSV; dropped rows are listed in `.attrs["problems"]`.

    Raises:
        TableError: the file is missing, is no results CSV, lacks columns, or is of a newer schema.
    """
    optional = ((*OPTIONAL_TEXT, *OTHER_TEXT), (*OPTIONAL_NUMBERS, *OTHER_NUMBERS))
    dtype = dict.fromkeys([*TEXT_COLUMNS, *optional[0]], "str")
    table = read_columns(Path(path), TEXT_COLUMNS, NUMBER_COLUMNS, optional, dtype=dtype)
    text = [name for name in (*TEXT_COLUMNS, *optional[0]) if name in table]
    numbers = [name for name in (*NUMBER_COLUMNS, *optional[1]) if name in table]
    table[text] = table[text].fillna("")
    table[numbers] = table[numbers].astype(float)
    table["others"] = others_of(table)
    if len(table) and (table["schema"] > SCHEMA).all():
        raise TableError(
            f"{path}: schema {table['schema'].max():g} is newer than {SCHEMA}, the newest known:"
            " update this checkout"
        )
    table, problems = drop_unusable(table)
    if table.empty and not problems:
        problems = [f"{path} has no rows: nothing was scored yet, run the sweep and collect again"]
    table.attrs["problems"] = problems
    return table


def others_of(table: pd.DataFrame) -> pd.Series:
    """States the fields of a run beyond the usual columns: 'ema_decay 0.99, objective flow'."""
    parts = pd.Series("", table.index)
    if {"schedule", "step"} <= {*table}:  # a curve of a log has all steps, and its schedule
        table = table.assign(schedule=schedule_texts(table))
    for name in (*OTHER_NUMBERS, *OTHER_TEXT):
        if name in table:
            texts = [f"{x:g}" if isinstance(x, float) else x for x in table[name]]
            given = [f", {name} {text}" if text not in ("", "nan") else "" for text in texts]
            parts += given
    return parts.str.removeprefix(", ")


def published() -> pd.DataFrame:
    """Reads the numbers of the paper and of its public reruns, each with its source."""
    return load(PUBLISHED)


def uncertain(table: pd.DataFrame) -> pd.Series:
    """Marks the published values that were not read in their authors' own text."""
    if "evidence" not in table:
        return pd.Series(False, table.index)
    return table["evidence"].isin(UNCERTAIN)


def read_columns(
    path: Path,
    text: Sequence[str],
    numbers: Sequence[str],
    optional: tuple[Sequence[str], Sequence[str]] = ((), ()),
    **options: Any,
) -> pd.DataFrame:
    """Reads columns of a CSV; a word in a column of numbers becomes NaN.

    `optional` are the texts and the numbers that are read where the file has them.
    """
    try:
        header = list(pd.read_csv(path, nrows=0).columns)
        check_columns(path, [*text, *numbers], header)
        table = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise TableError(f"{path} does not exist: write it with `harness collect`") from None
    except UNREADABLE as error:
        raise TableError(
            f"{path} is not a results CSV ({error}): write it again with `harness collect`"
        ) from None
    text, numbers = (
        [*wanted, *(name for name in maybe if name in header)]
        for wanted, maybe in zip((text, numbers), optional, strict=True)
    )
    for name in numbers:
        column = table[name].astype(str) if table[name].dtype == object else table[name]
        found = pd.to_numeric(column, errors="coerce")  # objects: whole numbers beyond 64 bits
        table[name] = found.astype(float) if found.dtype == object else found
    return table[[*text, *numbers]]


def check_columns(path: Path, wanted: Sequence[str], header: Sequence[str]) -> None:
    """Raises TableError with all missing columns, each with the likely new name."""
    lacking = []
    for name in wanted:
        if name not in header:
            near = get_close_matches(name, header, 1)
            lacking.append(f"the column {name!r}" + (f" (renamed to {near[0]!r}?)" if near else ""))
    if lacking:
        raise TableError(f"{path} lacks {'; '.join(lacking)}: collect it again")


def is_newer(table: pd.DataFrame) -> pd.Series:
    return table["schema"] > SCHEMA


def is_not_finite(table: pd.DataFrame) -> pd.Series:
    return ~table["value"].abs().lt(np.inf)


def is_beyond_drawing(table: pd.DataFrame) -> pd.Series:
    return table[NUMBER_COLUMNS].abs().gt(LARGEST).any(axis=1)


def has_no_scale(table: pd.DataFrame) -> pd.Series:
    """Scores with a patch size, number or batch of 0 or below; an empty one is merely not given."""
    return table["metric"].isin(METRICS) & table[SCALE].le(1 / LARGEST).any(axis=1)


def is_repeated(table: pd.DataFrame) -> pd.Series:
    return table.duplicated([*KEY, "value"])


def is_contradicted(table: pd.DataFrame) -> pd.Series:
    return table.duplicated(KEY, keep=False)


UNUSABLE: list[tuple[Callable[[pd.DataFrame], pd.Series], str]] = [
    (is_newer, f"written under a schema newer than {SCHEMA}, update this checkout"),
    (is_not_finite, "the value is not a finite number, score that checkpoint again"),
    (is_beyond_drawing, f"a column is infinite or beyond {LARGEST:g}, collect again"),
    (has_no_scale, f"one of {', '.join(SCALE)} is 0 or negative, collect again"),
    (is_repeated, "the same key and value a second time, the first is kept"),
    (
        is_contradicted,
        "one key with several values, nothing says which is right, remove the wrong record",
    ),
]


def drop_unusable(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns the usable rows and, for each kind of dropped row, how many and why."""
    problems = []
    for is_unusable, reason in UNUSABLE:
        unusable = is_unusable(table)
        if unusable.any():
            names = scores_named(table[unusable])
            problems.append(f"dropped {unusable.sum()} of {len(table)} rows: {reason} ({names})")
        table = table[~unusable]
    return table.reset_index(drop=True), problems


def scores_named(rows: pd.DataFrame, most: int = 3) -> str:
    """Names the first scores of the rows, and how many more there are."""
    names = [
        f"{row['metric']} of {row['model']} at step {row['step']:g}"
        for _, row in rows.head(most).iterrows()
    ]
    return ", ".join(names) + (f" and {len(rows) - most} more" if len(rows) > most else "")


def digest(table: pd.DataFrame) -> str:
    """Returns eight hex digits that change when any value of the table does."""
    given = table.drop(columns="others", errors="ignore")  # it follows from other columns
    return hashlib.sha256(given.to_csv(index=False).encode()).hexdigest()[:8]


def metric_name(metric: str, features: str) -> str:
    """Names a metric, with its extractor unless that is Inception: only then is it plain FID."""
    if (metric, features) in EXTRACTED:
        return EXTRACTED[metric, features]
    name = (METRICS | LOSSES).get(metric, metric)
    return name if features in ("inception", "") else f"{name} ({features})"


def listed(values: pd.Series) -> str:
    """Joins the distinct values with commas, or returns 'nothing'."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values.unique()]
    return ", ".join(texts) or "nothing"
