"""Horizons: scores before and after the decay of a learning rate, and runs of one trunk."""

from __future__ import annotations

import pandas as pd

DECAYING = r"wsd-(\d+)-(\d+)-(\d+)"  # warm-up, begin and end of the decay (docs/horizons.md)


def schedule_texts(table: pd.DataFrame) -> pd.Series:
    """Returns the schedules of scores, without the length of one that decays.

    Scores at the ends of several horizons are then of one recipe, and those before the decay of
    another; a score within the decay keeps its schedule.
    """
    parts = table["schedule"].str.extract(rf"^{DECAYING}$")
    start, end = parts[1].astype(float), parts[2].astype(float)
    texts = table["schedule"].where(table["step"] < end, "wsd-" + parts[0] + " after its decay")
    texts = texts.where(table["step"] > start, "wsd-" + parts[0] + " before its decay")
    return texts.where(parts[0].notna(), table["schedule"])


def with_trunks(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with one run for all horizons of a trunk: they share their first steps."""
    if "schedule" not in rows:
        return rows
    decaying = rows["schedule"].str.fullmatch(DECAYING)
    return rows.assign(run=rows["run"].where(~decaying, "horizons of a trunk"))
