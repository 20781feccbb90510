"""Forecasts: refused where the score is known, scored once, void when they were changed."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from studies import PAPER, digits

from analysis import forecast
from analysis.table import TableError, published

XL = "DiT-XL/2"


def without(model: str) -> pd.DataFrame:
    return PAPER[PAPER["model"].ne(model)]


def test_the_largest_published_model_is_held_by_a_forecast_from_the_small_ones() -> None:
    """From the eight below 20 Gflops; the interval is 1.7 × wide, of at most 2.5 × wanted."""
    small = PAPER[PAPER["gflops"].lt(20) | PAPER["gflops"].isna()]
    made = forecast.forecast(small, XL)
    assert made["models"] == 8
    assert made["low"] < 19.47 < made["high"]
    assert made["high"] / made["low"] < 2.5


def test_a_known_score_is_no_forecast() -> None:
    with pytest.raises(TableError, match=r"has its score at step 400,000 \(19.47\)"):
        forecast.forecast(PAPER, XL)


def test_the_outcome_is_the_score_of_the_same_protocol_alone() -> None:
    made = forecast.forecast(without(XL), XL)
    assert forecast.outcome(made, without(XL)) is None
    found = forecast.outcome(made, published())
    assert found is not None and found["value"] == 19.47 and found["hit"]
    other = PAPER.assign(protocol="another")
    assert forecast.outcome(made, other) is None


def test_a_forecast_of_a_loss_which_has_no_extractor_has_its_outcome() -> None:
    def as_loss(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(metric="val_loss", features="")

    made = forecast.forecast(as_loss(without(XL)), XL, "val_loss")
    found = forecast.outcome(made, as_loss(PAPER[PAPER["protocol"].eq("fid50k")]))
    assert found is not None and found["value"] == 19.47


def test_a_changed_forecast_is_not_counted() -> None:
    made = forecast.forecast(without(XL), XL)
    again = json.loads(json.dumps(made))
    assert forecast.is_intact(again)
    assert forecast.verdict(again) == "pending"
    came = forecast.outcome(made, PAPER)
    assert came is not None
    scored = {**again, "outcome": came}
    assert forecast.verdict(scored) == "hit" and forecast.hits([scored, again]) == [True]
    bare = {"study": made["study"], "model": XL, "digest": made["digest"]}
    changed = [
        {**scored, "low": 1.0},
        {**scored, "outcome": {**came, "value": 15.0}},
        {**scored, "outcome": "hit"},
        bare,
    ]
    assert forecast.hits(changed) == []
    page = forecast.forecasts_table(changed)
    assert page["Verdict"].str.startswith("changed").all() and page["Model"].eq(XL).all()


def test_an_outcome_of_before_it_had_a_digest_counts() -> None:
    made = forecast.forecast(without(XL), XL)
    came = {**(forecast.outcome(made, PAPER) or {})}
    del came["seal"]
    assert forecast.hits([{**made, "outcome": came}]) == [True]


def test_a_score_that_is_older_than_its_forecast_does_not_count() -> None:
    made = forecast.forecast(without(XL), XL)
    late = {**made, "outcome": forecast.outcome(made, PAPER, lambda found, rows: True)}
    assert forecast.hits([late]) == []
    assert forecast.verdict(late) == "scored before it was forecast: not counted"


def test_another_step_is_forecast_by_the_joint_law_and_says_what_is_beyond() -> None:
    table = digits(seeds=(0, 1, 2))
    made = forecast.forecast(table, "mini-DiT-B/4", step=1200)
    assert made["law"] == forecast.JOINT
    later = forecast.forecast(table, "mini-DiT-B/4", step=2400)
    assert later["prediction"] < made["prediction"]
    assert made["beyond"] and "images" in made["beyond"][0]


def test_the_page_has_a_row_per_forecast() -> None:
    made = forecast.forecast(without(XL), XL)
    scored = {**made, "outcome": forecast.outcome(made, PAPER)}
    frame = forecast.forecasts_table([made, scored])
    assert [*frame["Verdict"]] == ["pending", "hit"]
