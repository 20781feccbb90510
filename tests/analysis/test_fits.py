"""Correlations and laws, on planted and on published numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import PAPER, digits, planted

from analysis import fits, forms, laws, prediction, sentences
from analysis.correlation import (
    axes_of,
    bca_interval,
    correlation,
    decimals,
    jackknife_interval,
    kendall,
    pearson,
    spearman,
)
from analysis.grid import final, grid
from analysis.table import TableError


def test_published_grid() -> None:
    rows = correlation(PAPER).set_index("statistic")
    assert rows.loc["pearson", "value"] == pytest.approx(-0.9298, abs=5e-5)
    assert rows.loc["pearson", ["low", "high"]].tolist() == pytest.approx(
        [-0.981, -0.763], abs=0.001
    )
    assert rows.loc["spearman", "value"] == pytest.approx(-0.916, abs=5e-4)
    assert rows["n"].tolist() == [12] * 3
    bca = bca_interval(*axes_of(final(PAPER)))
    assert [bca["low"], bca["high"]] == pytest.approx([-0.985, -0.805], abs=0.003)


def test_the_bootstraps_own_error_decides_the_digits() -> None:
    assert [decimals(error) for error in (0.004, 0.006, 0.06, 0.6, np.nan)] == [2, 1, 0, 0, 2]
    x, y = axes_of(final(PAPER))
    several = [bca_interval(x, y, rng=seed)["high"] for seed in range(12)]
    assert np.std(several) == pytest.approx(bca_interval(x, y)["error"], rel=0.7)


def test_statistics_are_scipys_with_ties_too() -> None:
    x, y = np.random.default_rng(0).integers(0, 6, (2, 30)).astype(float)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_too_few_models_are_counted_in_the_message() -> None:
    with pytest.raises(TableError, match="needs 3 models at one step, fid has 1"):
        correlation(digits()[:15])


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


def test_published_power_law_has_the_whole_width_of_a() -> None:
    law = laws.power_law(PAPER).set_index("parameter")
    assert law.loc["a", ["low", "high"]].tolist() == pytest.approx([104, 180], abs=0.5)


def test_published_points_refute_one_line_and_the_page_says_so() -> None:
    rows = fits.exponents(PAPER).set_index("exponent of")
    test = rows.loc["gflops"]
    assert (test["df"], test["df_residual"]) == (4, 6)
    assert test["F"] == pytest.approx(55.7, abs=0.05) and test["p"] == pytest.approx(7e-5, abs=5e-6)
    assert rows.loc["params", "p"] > 0.05


def test_published_slopes_by_patch() -> None:
    slopes = fits.slopes_by_patch(PAPER).set_index("patch")["slope"]
    assert slopes.to_dict() == pytest.approx({8: -0.108, 4: -0.288, 2: -0.427}, abs=5e-4)


def test_published_predictions_of_the_largest_model() -> None:
    rows = prediction.predict(PAPER, "DiT-XL/2").set_index("law")
    assert rows.loc[fits.GFLOPS, "prediction"] == pytest.approx(26.5, abs=0.05)
    product = rows.loc[fits.PRODUCT]
    assert product["error"] == pytest.approx(-0.011, abs=5e-4)
    assert (rows["low"] < rows["truth"]).all() and (rows["truth"] < rows["high"]).all()
    assert product["forms"] > 1
    assert product["forms_low"] < product["prediction"] < product["forms_high"]


def test_published_leave_one_out_and_hold_out_by_range() -> None:
    errors = prediction.leave_one_out(PAPER)
    mean = errors["error"].abs().groupby(errors["law"]).mean()
    assert mean.to_dict() == pytest.approx({fits.GFLOPS: 0.205, fits.PRODUCT: 0.065}, abs=5e-4)
    far = prediction.hold_out(PAPER).query("law == @fits.PRODUCT")
    assert far["model"].tolist() == ["DiT-B/2", "DiT-XL/4", "DiT-L/2", "DiT-XL/2"]
    assert far["error"].tolist() == pytest.approx([-0.198, -0.047, -0.196, -0.204], abs=1e-3)


def test_too_much_and_too_little_count_alike_in_an_error() -> None:
    rows = pd.DataFrame({"truth": [1.0, 1.0], "prediction": [2.0, 0.5]})
    assert prediction.mean_error(rows) == pytest.approx(1.0)


def test_left_out_errors_are_those_of_refits() -> None:
    rows = final(PAPER)
    columns, y = fits.design(rows, fits.PRODUCT), np.log10(rows["value"].to_numpy())
    for i, error in enumerate(forms.left_out_errors(columns, y)):
        kept = np.arange(len(y)) != i
        beta = np.linalg.lstsq(columns[kept], y[kept], rcond=None)[0]
        assert error == pytest.approx(abs(y[i] - columns[i] @ beta))


def test_no_form_has_a_product_or_square_without_its_main_effects() -> None:
    for form in forms.forms():
        assert all((name,) in form for term in form for name in term)


def test_a_model_not_yet_trained_is_given_by_its_scale() -> None:
    scale = {"gflops": 250.0, "params": 1.05e9, "patch": 2.0}
    with pytest.raises(TableError, match=r"beyond the fitted models in gflops 250 .*--beyond"):
        prediction.predict(PAPER, scale=scale, beyond=False)
    rows = prediction.predict(PAPER, scale=scale)
    assert rows["truth"].isna().all() and rows["prediction"].between(12, 24).all()
    without = PAPER[PAPER["model"] != "DiT-B/2"]
    scale = {"gflops": 23.01, "params": 130e6, "patch": 2.0}
    named, given = (
        prediction.predict(without, **of) for of in ({"model": "DiT-B/2"}, {"scale": scale})
    )
    assert given["prediction"].tolist() == pytest.approx(named["prediction"].tolist(), rel=0.01)
    only = prediction.predict(PAPER, scale={"gflops": 20.0}, beyond=False)
    assert only["law"].tolist() == [fits.GFLOPS]


def test_a_model_of_other_data_is_refused() -> None:
    with pytest.raises(TableError, match=r"DiT-XL/2 is a model of imagenet256.* data are digits"):
        prediction.predict(digits(), "DiT-XL/2")
    with pytest.raises(TableError, match="model 'mini-DiT-H/2' is not known"):
        prediction.predict(digits(), "mini-DiT-H/2")


def two_families() -> pd.DataFrame:
    """The measured study, and U-Nets of twice its scores without size, patch and parameters."""
    nets = digits().assign(size="", patch=np.nan, params=np.nan)
    name = "U-Net-" + nets["gflops"].map("{:.3g}".format)
    nets = nets.assign(model=name, run=name, value=nets["value"] * 2)
    return pd.concat([digits(), nets], ignore_index=True)


def test_every_family_has_its_own_law_and_u_nets_have_the_one_in_gflops() -> None:
    table = two_families()
    rows = correlation(table, statistics=["pearson"]).set_index("family")
    assert rows["n"].to_dict() == {"mini-DiT": 12, "U-Net": 12}
    alone = fits.exponents(digits()).query("law == @fits.GFLOPS")["value"].iloc[0]
    found = fits.exponents(table)
    of_gflops = found.query("law == @fits.GFLOPS").set_index("family")["value"]
    assert of_gflops.to_dict() == pytest.approx({"mini-DiT": alone, "U-Net": alone})
    assert set(found.query("law == @fits.PRODUCT")["family"]) == {"mini-DiT"}
    loo = prediction.leave_one_out(table)
    assert loo.groupby("family")["law"].nunique().to_dict() == {"mini-DiT": 2, "U-Net": 1}


def test_a_family_of_two_is_left_out_with_its_reason() -> None:
    table = two_families()
    few = table["model"].isin(table.loc[table["size"].eq(""), "model"].unique()[:2])
    rows = fits.exponents(table[table["size"].ne("") | few])
    assert set(rows["family"]) == {"mini-DiT"}
    assert rows.attrs["problems"] == [
        "U-Net: the law in Gflops needs 3 other models with gflops, there are 2: add sizes to the"
        " sweep's models"
    ]


@pytest.mark.parametrize(("column", "value"), [("gflops", np.nan), ("gflops", 0.0), ("value", 0.0)])
def test_what_has_no_logarithm_is_a_reason_and_no_traceback(column: str, value: float) -> None:
    one = digits()[lambda table: table["metric"].eq("fid")]
    one.loc[one["model"] == "mini-DiT-L/4", column] = value
    for table in (one, one.assign(**{column: value})):
        missing: list[str] = []
        sentences.statistics(table, missing)
        assert missing or (table is one and column == "gflops")


# The published scores are at one step, but for one model's, and have no loss.
ABSENT = ["Families", "FID by loss", "Learning rate", "Running curves"]


def test_the_rows_of_statistics_are_the_sentences() -> None:
    missing: list[str] = []
    rows = sentences.statistics(PAPER, missing)
    assert [reason.partition(":")[0] for reason in missing] == ABSENT
    assert list(rows.columns) == sentences.COLUMNS
    assert set(rows["section"]) == set(sentences.SECTIONS) - {*ABSENT}
    with_interval = rows[rows["interval"].ne("")]
    assert (with_interval["low"] <= with_interval["value"]).all()
    assert (with_interval["value"] <= with_interval["high"]).all()
    text = " ".join(sentences.findings(PAPER))
    assert all(estimate in text for estimate in rows["estimate"])
    assert "refuted: a line per patch fits better, F(4, 6) = 55.7, p = 7e-05" in text


def test_published_jackknives_over_whole_sizes_and_patches() -> None:
    rows = final(PAPER)
    for by, bounds in (("size", [-0.62, -0.11]), ("patch", [-0.64, -0.09])):
        found = jackknife_interval(sentences.slope, rows, by)
        assert [found["low"], found["high"]] == pytest.approx(bounds, abs=0.005)


def test_a_frontier_of_seeds_is_of_their_means() -> None:
    table = digits(seeds=tuple(range(5)), sd=0.3)
    points = laws.frontier(table)
    assert (points["seeds"] == 5).all()
    assert points["value"].min() > table.query("metric == 'fid'")["value"].min()


def test_frontier_is_never_bettered_by_a_cheaper_score() -> None:
    rows, points = grid(digits()), laws.frontier(digits())
    for _, point in points.iterrows():
        assert rows.loc[rows["compute"] < point["compute"], "value"].gt(point["value"]).all()


def test_a_score_that_is_not_above_0_has_no_law_and_is_named() -> None:
    table = digits()
    table.loc[table["model"] == "mini-DiT-S/2", "value"] = -1.0
    for law in (laws.power_law, fits.exponents, fits.slopes_by_patch, prediction.leave_one_out):
        with pytest.raises(TableError, match=r"the score of mini-DiT-S/2 is not above 0"):
            law(table)


@pytest.mark.filterwarnings("error")
def test_scores_without_differences_have_no_correlation() -> None:
    rows = correlation(digits().assign(value=1.0))
    assert rows[["value", "low", "high"]].isna().all(axis=None)
