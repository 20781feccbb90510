"""FID by loss: planted laws come back, and a family left out is predicted by the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from loss_worlds import EXPONENT, LossWorld
from studies import digits

from analysis import loss_to_fid
from analysis.joint_rows import loss_rows
from analysis.table import TableError


def rows(p: float = 1.7, floor: float = 0.14, sd: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    loss = np.tile(floor + np.geomspace(0.01, 0.2, 8), 3)
    value = 900 * (loss - floor) ** p * np.exp(sd * rng.standard_normal(24))
    run = np.repeat(np.arange(6), 4)
    return pd.DataFrame(
        {"family": np.repeat(["a", "b", "c"], 8), "run": run, "loss": loss, "value": value}
    )


def test_a_planted_law_comes_back() -> None:
    law = loss_to_fid.fit(rows())
    assert (law.k, law.p, law.floor) == pytest.approx((900, 1.7, 0.14), rel=1e-3)
    assert law.identified


def test_an_exponential_has_no_floor_to_identify() -> None:
    some = rows()
    law = loss_to_fid.fit(some.assign(value=np.exp(20 * some["loss"])))
    assert not law.identified


def test_where_an_exponential_fits_as_well_the_exponent_has_no_upper_bound() -> None:
    some = rows(sd=0.05)
    noise = np.exp(0.05 * np.random.default_rng(1).standard_normal(24))
    low, high = loss_to_fid.exponent_interval(some.assign(value=np.exp(20 * some["loss"]) * noise))
    assert low > 1.7 and np.isinf(high)
    low, high = loss_to_fid.exponent_interval(some)
    assert low < 1.7 < high < 2


def test_a_pole_above_the_losses_has_no_exponent() -> None:
    beyond = rows().assign(value=lambda some: (0.6 - some["loss"]) ** -2.0)
    with pytest.raises(TableError, match="p is not identified: FID grows faster than any power"):
        loss_to_fid.exponent_interval(beyond)


def test_noise_in_the_loss_does_not_raise_the_exponent() -> None:
    world, rng = LossWorld(runs=12, of_loss=0.3), np.random.default_rng(0)
    found = [loss_to_fid.fit(world.draw(rng)).p for _ in range(20)]
    assert np.mean(found) == pytest.approx(EXPONENT, abs=3 * float(np.std(found)) / 20**0.5 + 0.02)


def test_a_family_left_out_is_predicted_by_the_others() -> None:
    exact = loss_to_fid.left_out(rows(), "family")
    assert loss_to_fid.typical_error(exact) < 1e-3
    offset = rows()
    offset.loc[offset["family"].eq("c"), "value"] *= 2
    assert loss_to_fid.typical_error(loss_to_fid.left_out(offset, "family")) > 0.2


def test_one_family_has_no_error_on_families_and_says_what_would_give_it() -> None:
    one = rows().assign(family="DiT")
    with pytest.raises(TableError, match="needs two, there is DiT: train another family"):
        loss_to_fid.left_out(one, "family")


def with_loss(table: pd.DataFrame) -> pd.DataFrame:
    fid = table[table["metric"].eq("fid")]
    loss = fid.assign(
        metric="val_loss",
        protocol="held_out",
        features="",
        value=0.1 + 0.02 * fid["value"] ** 0.5,
    )
    return pd.concat([table, loss])


def test_the_rows_of_a_table_with_a_loss_state_the_law() -> None:
    found = loss_rows(with_loss(digits(seeds=(0, 1))))
    assert found[0]["value"] == pytest.approx(2, rel=0.02)
    assert "two" in found[1]["note"] and found[2]["value"] < 0.01


def test_without_a_loss_the_remedy_is_named() -> None:
    with pytest.raises(TableError, match="add the validation loss"):
        loss_rows(digits())
