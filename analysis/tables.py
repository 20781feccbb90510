"""The tidy table: load it, say what cannot be used, choose the rows that belong on one axis."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

SCHEMA = 1
TEXT = (
    "study source run model size conditioning data protocol metric features sampler decoder weights reference labels "
    "checkpoint warning commit device"
).split()
NUMBERS = (
    "patch seed batch_size lr params gflops step images value n sampling_steps guidance guidance_channels "
    "seconds schema"
).split()
LOG_TEXT = "study run model size conditioning".split()
LOG_NUMBERS = "patch seed batch_size gflops step loss".split()

# Published numbers have no run id, so the fields that make a run stand in for it.
RUN = ["study", "source", "run", "model", "conditioning", "data", "seed", "batch_size", "lr"]
KEY = [*RUN, "step", "protocol", "metric"]
# A grid holds one value of each per model; where there are several, the one under which every model was scored counts.
SETTLED = ["data", "conditioning", "batch_size", "lr", "protocol"]
# Rows that differ in one of these are different quantities: they never share an axis.
ONE_AXIS = ["metric", "data", "protocol", "features", "n", "reference"]
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
}
HIGHER_IS_BETTER = {"inception_score", "precision", "recall", "precision_fp16", "recall_fp16"}


def load(path: str | Path) -> pd.DataFrame:
    """The usable rows of a results CSV; what was dropped, and why, is in `.attrs["problems"]`."""
    table = _read(Path(path), TEXT, NUMBERS)
    if len(table) and (table["schema"] > SCHEMA).all():
        raise ValueError(
            f"{path}: schema {table['schema'].max():g} is newer than {SCHEMA}, the newest known: update this checkout"
        )
    problems = (
        []
        if len(table)
        else [f"{path} has no rows: nothing was scored yet, run the sweep and collect again"]
    )
    for is_bad, why in DROPPED:
        bad = is_bad(table)
        if bad.any():
            problems.append(
                f"dropped {bad.sum()} of {len(table)} rows: {why} ({_names(table[bad])})"
            )
        table = table[~bad]
    table = table.reset_index(drop=True)
    table.attrs["problems"] = problems
    return table


def published() -> pd.DataFrame:
    """The numbers of the paper and of its public reruns, each with its source."""
    return load(PUBLISHED)


def load_log(path: str | Path) -> pd.DataFrame:
    """The columns of a log table that are drawn; categories and 32-bit floats keep 5 million rows under 200 MB."""
    log = _read(
        Path(path),
        LOG_TEXT,
        LOG_NUMBERS,
        {**dict.fromkeys(LOG_TEXT, "category"), "loss": "float32"},
    )
    return log.dropna(subset="loss")


def _read(
    path: Path, text: Sequence[str], numbers: Sequence[str], dtype: dict[str, str] | None = None
) -> pd.DataFrame:
    try:
        header = list(pd.read_csv(path, nrows=0).columns)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: write it with `harness collect`") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a results CSV ({error}): write it again with `harness collect`"
        ) from None
    missing = [name for name in (*text, *numbers) if name not in header]
    if missing:
        raise ValueError(
            f"{path} lacks {'; '.join(_lacks(name, header) for name in missing)}: collect it again"
        )
    if dtype:
        return pd.read_csv(path, usecols=[*text, *numbers], dtype=dtype)
    table = pd.read_csv(path, dtype=dict.fromkeys(text, "str"))[[*text, *numbers]]
    # A word in a column of numbers becomes NaN, and is said, instead of making the whole column text.
    table[list(numbers)] = table[list(numbers)].apply(pd.to_numeric, errors="coerce").astype(float)
    return table.fillna(dict.fromkeys(text, ""))


def _lacks(name: str, header: Sequence[str]) -> str:
    near = get_close_matches(name, header, 1)
    return f"the column {name!r}" + (f" (renamed to {near[0]!r}?)" if near else "")


def _repeated(table: pd.DataFrame) -> pd.Series:
    return table.duplicated([*KEY, "value"])


def _contradicted(table: pd.DataFrame) -> pd.Series:
    return table.duplicated(KEY, keep=False)


DROPPED: list[tuple[Callable[[pd.DataFrame], pd.Series], str]] = [
    (
        lambda table: table["schema"] > SCHEMA,
        f"written under a schema newer than {SCHEMA}, update this checkout",
    ),
    (
        lambda table: ~np.isfinite(table["value"]),
        "the value is not a finite number, score that checkpoint again",
    ),
    (_repeated, "the same key and value a second time, the first is kept"),
    (
        _contradicted,
        "one key with several values, nothing says which is right, remove the wrong record",
    ),
]


def _names(rows: pd.DataFrame, most: int = 3) -> str:
    names = [
        f"{row['metric']} of {row['model']} at step {row['step']:g}" for _, row in rows.iterrows()
    ]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def digest(table: pd.DataFrame) -> str:
    """Eight hex digits that change when any value of the table does."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:8]


def grid(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None, unit: str = "model"
) -> pd.DataFrame:
    """Every score of the size-by-patch grid, with its training compute and whether its run is complete.

    `unit` is what the curves differ in: the model, or the conditioning (Figure 5).
    """
    rows = table[(table["metric"] == metric) & (table["size"] != "") & table["patch"].notna()]
    rows = rows[rows["protocol"] == protocol] if protocol else rows
    if rows.empty:
        asked, has = (
            (f" under {protocol!r}", f" under {listed(table['protocol'])}")
            if protocol
            else ("", "")
        )
        raise ValueError(
            f"no {metric}{asked} of a model with size and patch: the table has {listed(table['metric'])}{has}"
        )
    rows = pd.concat([_grid_of_study(part, unit) for _, part in rows.groupby("study", sort=False)])
    return rows.assign(compute=training_compute(rows)).sort_values(
        ["study", "gflops", "model", "seed", "step"]
    )


def _grid_of_study(rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    last = last_step(rows, unit)
    for field in SETTLED:
        if field != unit and rows.groupby([unit, "model"])[field].nunique(dropna=False).max() > 1:
            rows = rows[rows[field].isin([_settle(rows[rows["step"] == last], field, unit)])]
    one_axis(rows)
    reached = rows.groupby(RUN, dropna=False)["step"].transform("max")
    return rows.assign(complete=reached >= last, last=rows["step"] == last)


def _settle(rows: pd.DataFrame, field: str, unit: str) -> object:
    """The one value under which every unit was scored; a tie, or none, is the user's to decide."""
    covered = rows.groupby(field)[unit].nunique()
    full = covered[covered == rows[unit].nunique()]
    if len(full) != 1:
        remedy = (
            "choose one with protocol=" if field == "protocol" else f"keep the rows of one {field}"
        )
        raise ValueError(f"{field} differs on one axis ({listed(rows[field])}): {remedy}")
    return full.index[0]


def last_step(rows: pd.DataFrame, unit: str = "model") -> float:
    """The latest step that at least half of the units have reached: one straggler does not hold the others back."""
    reached = rows.groupby("step")[unit].nunique()
    return float(reached[reached >= min(reached.max(), rows[unit].nunique() / 2)].index.max())


def final(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """One row per model at the last step, the mean over seeds, ordered by Gflops."""
    rows = grid(table, metric, protocol)
    rows = rows[rows["last"]]
    by = ["study", "model", "size", "patch", "params", "gflops", "step", "compute"]
    return rows.groupby(by, as_index=False, sort=False).agg(
        value=("value", "mean"), seeds=("value", "size")
    )


def one_axis(rows: pd.DataFrame, fields: Iterable[str] = ONE_AXIS) -> pd.DataFrame:
    """The rows themselves, or a ValueError naming every field in which they are different quantities."""
    mixed = [
        f"{field} ({listed(rows[field])})"
        for field in fields
        if rows[field].nunique(dropna=False) > 1
    ]
    if mixed:
        raise ValueError(
            f"one axis cannot hold different {' and '.join(mixed)}: draw them apart or score them alike"
        )
    return rows


def axis_label(rows: pd.DataFrame) -> str:
    """What the values are, with N where the paper gives it: 'FID-50K', 'FID (digits-cnn-1, N = 1,000)'."""
    first = one_axis(rows, ["metric", "features", "n"]).iloc[0]
    name = metric_name(first["metric"], first["features"])
    if first["features"] == "inception":
        return f"{name}-{first['n'] / 1000:g}K" if name.endswith("FID") else name
    return f"{name[:-1]}, N = {first['n']:,.0f})"


def metric_name(metric: str, features: str) -> str:
    """A metric through another extractor than Inception is never called by its plain name."""
    name = METRICS.get(metric, metric)
    return name if features in ("inception", "") else f"{name} ({features})"


def training_compute(rows: pd.DataFrame) -> pd.Series:
    """Gflops · batch · steps · 3 (a backward pass costs two forward passes), as in the paper's Figure 9."""
    return rows["gflops"] * rows["batch_size"] * rows["step"] * 3


def listed(values: pd.Series) -> str:
    return (
        ", ".join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in values.unique()
        )
        or "nothing"
    )
