"""Which scores of a metric are not on its axis, and why."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.grid import SETTLED, grid, over_samplings
from analysis.memo import remembered
from analysis.models import with_family
from analysis.table import TableError, listed, uncertain


@remembered
def left_out(
    table: pd.DataFrame,
    metric: str = "fid",
    protocol: str | None = None,
    needs: Iterable[str] = (),
) -> pd.DataFrame:
    """Lists the scores of a metric that are not on its axis, and why.

    `needs` are the columns that a statistic or figure needs besides Gflops and a step, such as
    params, tokens, patch, size, batch_size. Columns: study, family, model, scores (a count),
    reason, and instead: the value that the scores have.
    """
    rows = with_family(table[table["metric"] == metric].reset_index(drop=True))
    rows = over_samplings(rows).assign(reason="", instead="")
    try:
        shown = grid(rows, metric, protocol)
    except TableError as reason:
        return counted(rows.assign(reason=str(reason)))
    on_axis = rows.index.isin(shown.index)
    for field in reversed(SETTLED):
        other = ~on_axis & ~rows[field].isin(shown[field].unique())
        rows.loc[other, "reason"] = f"{field} is not {listed(shown[field])}"
        texts = [listed(pd.Series([value])) for value in rows.loc[other, field]]
        rows.loc[other, "instead"] = texts
    last = shown.loc[shown["last"], "step"].max()
    reached = rows["model"].isin(shown.loc[shown["last"], "model"])
    rows.loc[on_axis & ~reached, "reason"] = f"no score at step {last:,.0f}"
    for field in ["step", "gflops", *needs]:
        absent = rows[field].eq("") if rows[field].dtype == object else ~rows[field].gt(0)
        rows.loc[absent, ["reason", "instead"]] = (f"no {field}", "")
    doubted = uncertain(rows)
    rows.loc[doubted, ["reason", "instead"]] = ("not read in its authors' text", "")
    return counted(rows[rows["reason"].ne("")])


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    by = ["study", "family", "model", "reason", "instead"]
    found = rows.groupby(by, sort=False).size().rename("scores").reset_index()
    return found[["study", "family", "model", "scores", "reason", "instead"]]
