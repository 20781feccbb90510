"""The best learning rate of each size: what was planted comes back, what is not known does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rate_worlds import WORLDS, RateWorld

from analysis.learning_rate_law import fit
from analysis.learning_rate_rows import rate_law, rate_rows
from analysis.learning_rates import HIGHEST, LOWEST, optima, rated
from analysis.table import TableError

WORLD = WORLDS["4 models"]
BATCHES = WORLDS["3 models by 3 batches"]


def drawn(world: RateWorld = WORLD, draw: int = 0) -> pd.DataFrame:
    return world.draw(np.random.default_rng(draw))


@pytest.mark.parametrize("world", [WORLD, BATCHES], ids=["sizes", "batches"])
def test_exponents_without_noise_are_those_planted(world: RateWorld) -> None:
    found = optima(drawn(replace(world, sd=0.0)), "val_loss")
    best = [world.best(n, b) for n, b in zip(found["params"], found["batch_size"], strict=True)]
    assert found["lr"].to_numpy() == pytest.approx(best, rel=1e-6)
    law = fit(found)
    assert law.exponent("params")[0] == pytest.approx(world.exponent, abs=1e-6)
    if world is BATCHES:
        assert law.exponent("batch_size")[0] == pytest.approx(0.5, abs=1e-6)


def test_a_common_skew_takes_the_bias_of_parabolas() -> None:
    found = optima(drawn(replace(WORLDS["4 models, skew"], sd=0.0)), "val_loss")
    best = found["params"].map(WORLD.best)
    assert np.abs(np.log2(found["lr"] / best)).max() < 0.05, "parabolas alone: 0.25 octaves"


def test_a_best_rate_at_an_edge_of_its_grid_is_no_optimum_and_in_no_law() -> None:
    table = drawn()
    small, large = table["params"].eq(1e5), table["params"].eq(6.4e6)
    cut = table[~(small & table["lr"].gt(0.008)) & ~(large & table["lr"].lt(0.0029))]
    found = optima(cut, "val_loss").set_index("params")
    assert found.loc[1e5, "edge"] == HIGHEST and found.loc[6.4e6, "edge"] == LOWEST
    assert found.loc[[1e5, 6.4e6], ["low", "high"]].isna().all(axis=None)
    with pytest.raises(TableError, match=r"needs 3 optima .* there are 2; no optimum inside"):
        fit(found.reset_index())
    rows = {row["statistic"]: row for row in rate_rows(cut)}
    (law,) = (row for name, row in rows.items() if "law of" in name)
    assert law["estimate"] == "not known" and "DiT-6.4e+06 at 0.0039" in law["note"]


def test_three_rates_of_one_seed_have_an_optimum_and_no_interval_and_seeds_give_it() -> None:
    few = tuple(2.0**-k for k in (8, 7, 6))
    one = optima(drawn(replace(WORLD, rates=few, params=(2e5, 4e5))), "val_loss")
    assert one["edge"].eq("").all() and one["low"].isna().all()
    three = optima(drawn(replace(WORLD, rates=few, params=(2e5, 4e5), seeds=3)), "val_loss")
    assert (three["low"] < three["lr"]).all() and (three["lr"] < three["high"]).all()


def test_two_rates_are_refused_with_the_sweep_that_would_tell() -> None:
    table = drawn(replace(WORLD, rates=(0.001, 0.002)))
    with pytest.raises(
        TableError, match=r"at 3 learning rates \(there is 0.001, 0.002\): sweep lr"
    ):
        optima(table, "val_loss")


def test_batches_that_grow_with_the_size_are_refused() -> None:
    table = drawn(replace(WORLD, batches=(16.0, 64.0, 256.0, 1024.0)))
    diagonal = table["batch_size"] / 16 == table["params"] / 1e5
    with pytest.raises(TableError, match="vary together: sweep both batches at one size"):
        fit(optima(table[diagonal], "val_loss"))


def test_each_setting_has_its_own_law_side_by_side() -> None:
    mup = drawn(replace(WORLD, exponent=0.0), 1).assign(others="parametrization mup")
    both = pd.concat([drawn(), mup])
    text = rate_law(both)
    assert "standard: falls as parameters^\N{MINUS SIGN}0." in text
    assert "parametrization mup: is not shown to change, parameters^" in text
    assert rated(both, "val_loss")["setting"].nunique() == 2


def test_widths_are_an_axis_where_names_differ_in_nothing_else() -> None:
    table = drawn()
    width = (8 * np.sqrt(table["params"] / 1e5)).astype(int).astype(str)
    found = optima(table.assign(size="w" + width + "-d2-h8"), "val_loss")
    assert fit(found, "width").exponent("width")[0] == pytest.approx(-0.6, abs=0.1)
    mixed = table.assign(size="w" + width + "-d" + width + "-h8")
    with pytest.raises(TableError, match="no width of these models"):
        fit(optima(mixed, "val_loss"), "width")
