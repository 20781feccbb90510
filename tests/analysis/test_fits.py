"""Correlations and laws, on planted and on published numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import PAPER, digits, planted

from analysis import fits, laws
from analysis.correlation import correlation, kendall, pearson, spearman
from analysis.grid import final, grid, training_compute
from analysis.table import TableError


def holds(rows: pd.DataFrame, truth: float) -> bool:
    return bool(rows["low"].iloc[0] <= truth <= rows["high"].iloc[0])


def test_published_grid() -> None:
    rows = correlation(PAPER).set_index("statistic")
    assert rows.loc["pearson", "value"] == pytest.approx(-0.9298, abs=5e-5)
    assert rows.loc["pearson", ["low", "high"]].tolist() == pytest.approx(
        [-0.985, -0.805], abs=0.003
    )
    assert rows.loc["spearman", "value"] == pytest.approx(-0.916, abs=5e-4)
    assert rows["n"].tolist() == [12] * 3


def test_statistics_are_scipys_with_ties_too() -> None:
    x, y = np.random.default_rng(0).integers(0, 6, (2, 30)).astype(float)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_too_few_models_are_counted_in_the_message() -> None:
    with pytest.raises(TableError, match="needs 3 models at one step, fid has 1"):
        correlation(digits()[:15])


def test_planted_exponents_lie_within_their_intervals() -> None:
    draws = [planted(draw) for draw in range(100)]
    straight = [fits.exponents(table) for table in draws]
    assert sum(holds(law[law["exponent of"] == "gflops"], -0.4) for law in straight) >= 90
    powers = [laws.power_law(table) for table in draws]
    assert sum(holds(law[law["parameter"] == "b"], 0.4) for law in powers) >= 90


def test_planted_floor_lies_within_its_interval() -> None:
    floored = [laws.power_law(planted(draw, floor=15), floor=True) for draw in range(100)]
    assert sum(holds(law[law["parameter"] == "b"], 0.4) for law in floored) >= 90
    assert sum(holds(law[law["parameter"] == "c"], 15) for law in floored) >= 90


def test_planted_two_variable_exponents_lie_within_their_intervals() -> None:
    draws = [fits.exponents(planted(draw)) for draw in range(100)]
    rows = final(PAPER)
    truth = (
        fits.OLS(np.log10(100 / rows["gflops"] ** 0.4), fits.design(rows, "two variables"))
        .fit()
        .params[1:]
    )
    for term, exponent in zip(fits.LAWS["two variables"], truth, strict=True):
        assert sum(holds(one[one["exponent of"] == term], exponent) for one in draws) >= 90


def test_without_noise_the_power_law_is_exact() -> None:
    law = laws.power_law(planted(0, floor=15, sd=0), floor=True).set_index("parameter")
    assert law["value"].to_dict() == pytest.approx({"a": 100, "b": 0.4, "c": 15}, rel=2e-3)
    assert law["identified"].all()


def test_one_outlier_does_not_carry_the_power_law_away() -> None:
    table = planted(0, sd=0.01)
    table.loc[table["model"] == "DiT-XL/2", "value"] *= 3
    robust = laws.power_law(table).set_index("parameter").loc["b", "value"]
    plain = -fits.exponents(table)["value"].iloc[0]
    assert abs(robust - 0.4) < 0.5 * abs(plain - 0.4)


def test_published_floor_is_stated_as_not_identified() -> None:
    law = laws.power_law(PAPER, floor=True)
    assert not law.set_index("parameter").loc["c", "identified"]
    assert "not identified" in laws.power_law_text(law)


def test_published_slopes_by_patch() -> None:
    slopes = fits.slopes_by_patch(PAPER).set_index("patch")["slope"]
    assert slopes.to_dict() == pytest.approx({8: -0.108, 4: -0.288, 2: -0.427}, abs=5e-4)


def test_published_predictions_of_the_largest_model() -> None:
    rows = fits.predict(PAPER, "DiT-XL/2").set_index("law")
    assert rows.loc["one variable", "prediction"] == pytest.approx(26.5, abs=0.05)
    assert rows.loc["two variables", "error"] == pytest.approx(-0.011, abs=5e-4)
    assert (rows["low"] < rows["truth"]).all() and (rows["truth"] < rows["high"]).all()


def test_published_leave_one_out() -> None:
    errors = fits.leave_one_out(PAPER)
    mean = errors["error"].abs().groupby(errors["law"]).mean()
    assert mean.to_dict() == pytest.approx(
        {"one variable": 0.205, "two variables": 0.065}, abs=5e-4
    )


def test_an_untrained_model_has_a_prediction_and_no_truth() -> None:
    small = digits()[lambda table: table["size"] != "XL"]
    rows = fits.predict(small, "DiT-XL/2")
    assert rows["truth"].isna().all() and (rows["low"] < rows["high"]).all()
    with pytest.raises(TableError, match="model 'mini-DiT-H/2' is not known"):
        fits.predict(small, "mini-DiT-H/2")


def test_frontier_is_never_bettered_by_a_cheaper_score() -> None:
    rows, points = grid(digits()), laws.frontier(digits())
    for _, point in points.iterrows():
        assert rows.loc[rows["compute"] < point["compute"], "value"].gt(point["value"]).all()


def test_isoflop_parabola_finds_a_planted_optimum() -> None:
    rows = digits(sd=0)
    best = 2e4 * (training_compute(rows) / 10) ** 0.5
    rows["value"] = np.exp(1 + 0.3 * np.log(rows["params"] / best) ** 2)
    dense = pd.concat(
        [rows.assign(step=rows["step"] * k, value=np.nan) for k in (0.01, 0.1, 1, 10, 100)]
    )
    best = 2e4 * (training_compute(dense) / 10) ** 0.5
    dense["value"] = np.exp(1 + 0.3 * np.log(dense["params"] / best) ** 2)
    optima = laws.isoflop(dense)
    inside = optima[optima["inside"].astype(bool)]
    assert len(inside) > 3
    expected = 2e4 * (inside["compute"] / 10) ** 0.5
    assert np.abs(np.log(inside["params"] / expected)).max() < 0.35


def test_a_score_that_is_not_above_0_has_no_law_and_is_named() -> None:
    table = digits()
    table.loc[table["model"] == "mini-DiT-S/2", "value"] = -1.0
    for law in (laws.power_law, fits.exponents, fits.slopes_by_patch, fits.leave_one_out):
        with pytest.raises(TableError, match=r"the score of mini-DiT-S/2 is not above 0"):
            law(table)


@pytest.mark.filterwarnings("error")
def test_scores_without_differences_have_no_correlation_and_no_vertex() -> None:
    rows = correlation(digits().assign(value=1.0))
    assert rows[["value", "low", "high"]].isna().all(axis=None)
    assert not laws.isoflop(digits().assign(value=1.0))["inside"].astype(bool).any()
