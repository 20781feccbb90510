"""Families and tokens: what a name and a patch tell, and what a table's own counts do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from studies import digits

from analysis.models import with_tokens_of
from analysis.next_run import rank
from analysis.prediction import predict

SCALE = {"gflops": 0.004, "params": 4e5, "patch": 2.0}


def counted(pixels: int = 16) -> pd.DataFrame:
    """The measured study with the tokens of samples of 16 × 16 pixels."""
    return digits().assign(tokens=lambda rows: (pixels / rows["patch"]) ** 2)


def test_a_tables_own_count_of_tokens_changes_no_prediction() -> None:
    derived, given = (predict(table, scale=SCALE) for table in (digits(), counted()))
    for name in ("prediction", "low", "high", "forms_low"):
        assert given[name].to_numpy(float) == pytest.approx(
            derived[name].to_numpy(float), nan_ok=True
        )


def test_candidates_have_the_tokens_that_the_table_would_count() -> None:
    new = pd.DataFrame({"model": ["mini-DiT-H/2", "mini-DiT-S/4"], "patch": [2.0, 4.0]})
    assert with_tokens_of(new, counted())["tokens"].tolist() == [64, 16]
    assert with_tokens_of(new, digits())["tokens"].tolist() == [256, 64]
    clips = counted().assign(tokens=lambda rows: 4 * rows["tokens"])  # of four frames
    assert with_tokens_of(new, clips)["tokens"].tolist() == [256, 64]
    known = with_tokens_of(new.assign(tokens=[7, np.nan]), counted())
    assert known["tokens"].tolist() == [7, 16]


def test_what_a_next_run_is_worth_does_not_depend_on_how_tokens_are_counted() -> None:
    scale = {"patch": 2.0, "gflops": [0.002, 0.004], "params": [2e5, 4e5], "kind": "new"}
    new = pd.DataFrame({"model": ["mini-DiT-M/2", "mini-DiT-H/2"], **scale, "hours": 1.0})
    new = new.assign(images=pd.Series([(38_400,)] * 2, dtype=object))
    worth = [rank(table, new, new.tail(1))["shrinks"] for table in (digits(), counted())]
    assert worth[0].to_numpy() == pytest.approx(worth[1].to_numpy(), rel=1e-3)
