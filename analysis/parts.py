"""The parts of a table that each fit one axis: what varies beside the model names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from analysis.grid import grid
from analysis.rows import attempt
from analysis.table import RECIPE, TableError

AXIS = ["data", "protocol"]
MOST = 4  # parts that are drawn one by one: more are a page nobody reads
UNITS = {
    "conditioning": "",
    "others": "",
    "batch_size": "batch",
    "data": "",
    "protocol": "",
    "sampler": "",
}
UNITS |= {"decoder": "", "sampling_steps": "sampling steps"}


@dataclass(frozen=True)
class Part:
    """Rows that fit one axis; `name` is what sets them apart, empty where the table is one part."""

    name: str
    table: pd.DataFrame

    @property
    def slug(self) -> str:
        """The name as the end of a file's name."""
        kept = "".join(c if c.isalnum() or c in ".-" else "-" for c in self.name)
        return f"_{kept}" if kept else ""


def parts(table: pd.DataFrame, metric: str = "fid") -> list[Part]:
    """Splits a table by the fields of the recipe that vary for one model, then also by protocol.

    A value under which fewer models were scored than under another is in no part. Where models of
    several data or protocols are all different, the axes with most models are the parts. Where
    nothing helps the whole table is one part, and each figure says why it cannot be drawn.
    """
    scores = table[table["metric"].eq(metric)]
    if scores.empty or fits_one_axis(table, metric):
        return [Part("", table)]
    for fields in (("data", *RECIPE), ("data", *RECIPE, "protocol")):
        found = split(table, varying(scores, fields), metric)
        if found and all(fits_one_axis(part.table, metric) for part in found):
            return found
    return widest(table, metric) or [Part("", table)]


def widest(table: pd.DataFrame, metric: str) -> list[Part]:
    """Returns the axes of one data and protocol that have the most models, two at least."""
    found = list[tuple[int, Part]]()
    for key, rows in table.groupby(AXIS, sort=False):
        if fits_one_axis(rows, metric):
            found.append((grid(rows, metric)["model"].nunique(), Part(named(AXIS, key), rows)))
    most = max((models for models, _ in found), default=0)
    return [part for models, part in found if models == most > 1]


def not_drawn(table: pd.DataFrame, shown: Sequence[Part], metric: str = "fid") -> list[str]:
    """Says of every data and protocol in no part why: too few models, or what cannot be drawn."""
    drawn, reasons = {key for part in shown for key, _ in part.table.groupby(AXIS)}, list[str]()
    for key, rows in table[table["metric"].eq(metric)].groupby(AXIS, sort=False):
        if key not in drawn:
            axis = attempt(named(AXIS, key), partial(grid, rows, metric), reasons)
            if axis is not None:
                models = axis["model"].nunique()
                reasons.append(f"{named(AXIS, key)}: fewer models ({models}) than what is drawn.")
    return reasons


def fits_one_axis(table: pd.DataFrame, metric: str) -> bool:
    try:
        grid(table, metric)
    except TableError:
        return False
    return True


def varying(scores: pd.DataFrame, fields: Sequence[str]) -> list[str]:
    """Returns the fields in which one model has several values."""
    models = scores.groupby("model")
    return [field for field in fields if models[field].nunique(dropna=False).gt(1).any()]


def split(table: pd.DataFrame, fields: list[str], metric: str) -> list[Part]:
    """Returns a part for each combination of values that has the most models."""
    if not fields:
        return []
    scores = table[table["metric"].eq(metric)]
    models = scores.groupby(fields, dropna=False)["model"].nunique()
    full = models[models == models.max()].index
    groups = table.groupby(fields, dropna=False)
    keys = [key if isinstance(key, tuple) else (key,) for key in full]
    return [Part(named(fields, key), groups.get_group(key)) for key in keys]


def named(fields: Sequence[str], values: Sequence[object]) -> str:
    """Returns 'lr 0.001, batch 16'."""
    texts = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    pairs = zip(fields, texts, strict=True)
    return ", ".join(f"{UNITS.get(field, field)} {text}".strip() for field, text in pairs)
