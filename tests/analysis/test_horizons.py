"""Horizons of one trunk are one recipe and one run of a law; scores before a decay are another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies import digits

from analysis.grid import grid
from analysis.horizons import schedule_texts
from analysis.joint import points_of
from analysis.table import load

ENDS = (200, 400, 600)


@pytest.fixture
def study(tmp_path: Path) -> pd.DataFrame:
    """Trunks of three horizons, each horizon scored before and after its decay."""
    parts = list[pd.DataFrame]()
    for end in ENDS:
        after = digits(seeds=(0, 1)).query("metric == 'fid' and step == @end")
        names: dict[str, Any] = {
            "schedule": f"wsd-20-{end - 40}-{end}",
            "run": after["run"] + f"-{end}",
        }
        before = after.assign(step=end - 40, images=64 * (end - 40), value=2 * after["value"])
        parts += [after.assign(**names), before.assign(**names)]
    path = tmp_path / "horizons.csv"
    pd.concat(parts).drop(columns="others").to_csv(path, index=False)
    return load(path)


def test_scores_of_a_schedule_are_told_apart_by_its_decay() -> None:
    steps = pd.DataFrame({"schedule": "wsd-20-160-200", "step": [100.0, 160, 180, 200, 300]})
    before, after = "wsd-20 before its decay", "wsd-20 after its decay"
    assert [*schedule_texts(steps)] == [before, before, "wsd-20-160-200", after, after]
    others = pd.DataFrame({"schedule": ["", "warmup-20"], "step": [1.0, 300.0]})
    assert [*schedule_texts(others)] == ["", "warmup-20"]


def test_the_law_is_of_what_came_after_the_decays_and_a_trunk_is_one_run(
    study: pd.DataFrame,
) -> None:
    rows = grid(study)
    assert sorted(rows["step"].unique()) == [*ENDS]
    (points,) = points_of(study)
    assert (len(points.y), points.runs) == (72, 24)
    of_a_run = pd.Series(points.rows["step"].to_numpy()).groupby(points.run).nunique()
    assert (of_a_run == len(ENDS)).all()
    assert np.isfinite(points.y).all()
