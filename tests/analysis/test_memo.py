"""Remembered frames: computed once for a content, and nobody's copy is another's."""

from __future__ import annotations

import pandas as pd

from analysis.memo import MOST, remembered


def test_a_frame_is_computed_once_until_its_content_changes() -> None:
    seen = list[float]()

    @remembered
    def doubled(table: pd.DataFrame, by: float = 2.0) -> pd.DataFrame:
        seen.append(float(table["a"].sum()))
        return by * table

    table = pd.DataFrame({"a": [1.0]})
    mine = doubled(table)
    mine["a"] = 7.0
    assert doubled(table.copy())["a"].tolist() == [2.0] and seen == [1.0]
    table["a"] = 5.0
    assert doubled(table)["a"].tolist() == [10.0] and seen == [1.0, 5.0]
    assert doubled(table, by=3.0)["a"].tolist() == [15.0]
    for value in range(MOST):
        doubled(pd.DataFrame({"a": [-1.0 - value]}))
    before = len(seen)
    doubled(table)
    assert len(seen) == before + 1, "the oldest are forgotten"
