"""Seeds before training: the power that was asked for, costs of sampling seeds, named priors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import digits

from analysis import noise, power
from analysis.comparison import compare
from analysis.grid import final
from analysis.left_out import left_out
from analysis.table import TableError


def test_the_seeds_needed_have_the_power_in_simulated_studies() -> None:
    rng, sd, share = np.random.default_rng(0), 0.03, 0.05
    seeds = power.seeds_needed(share, sd)
    a = sd * rng.standard_normal((4000, seeds)) + np.log1p(share)
    p = stats.ttest_ind(a, sd * rng.standard_normal((4000, seeds)), axis=1).pvalue
    assert 0.77 < np.mean(p < 0.05) < 0.93
    assert power.power(np.log1p(share), sd, seeds) == pytest.approx(np.mean(p < 0.05), abs=0.025)
    assert power.power(np.log1p(share), sd, seeds - 1) < 0.8


def test_power_of_no_difference_is_the_size_of_the_test() -> None:
    for seeds in (2, 3, 10):
        assert power.power(0, 0.02, seeds) == pytest.approx(0.05, abs=1e-3)


def test_the_smallest_difference_and_the_seeds_needed_are_inverse() -> None:
    for seeds in (3, 5, 12):
        told = power.smallest_difference(0.02, seeds, cells=12)
        assert power.seeds_needed(told * 1.001, 0.02, cells=12) == seeds


def test_one_seed_tells_nothing_and_no_difference_needs_too_many() -> None:
    assert np.isnan(power.smallest_difference(0.02, 1))
    with pytest.raises(TableError, match="above 0"):
        power.seeds_needed(0.0, 0.02)
    with pytest.raises(TableError, match="more than 1,000 seeds"):
        power.seeds_needed(1e-5, 0.02)


def test_noise_is_the_studys_own_where_it_has_seeds_else_a_named_prior() -> None:
    own = power.variances(digits(seeds=(0, 1, 2), sd=0.03))
    assert not own.is_prior
    assert own.low < 0.03 < own.high
    for table in (None, digits()):
        found = power.variances(table)
        assert found.is_prior
        assert "published prior, arXiv 2606.20536" in found.origin


def sampled_again(sd: float, count: int) -> pd.DataFrame:
    """The measured study, each checkpoint under protocols that differ by their seed alone."""
    rng, table = np.random.default_rng(0), digits(seeds=(0, 1, 2))
    return pd.concat(
        [
            table.assign(
                protocol=f"digits1k_{i}",
                value=table["value"] * np.exp(sd * rng.standard_normal(len(table))),
            )
            for i in range(count)
        ]
    )


def test_sampling_is_told_from_training_where_checkpoints_were_sampled_again() -> None:
    table = sampled_again(0.02, 4)
    spread, count, times = power.sampling_spread(table, "fid")
    assert times == 4
    assert spread == pytest.approx(0.02, rel=0.15)
    assert count == table.loc[table["metric"].eq("fid"), "run"].nunique() * 3
    assert power.sampling_spread(digits(seeds=(0, 1, 2)), "fid")[1] == 0


def test_sampling_seeds_are_averaged_and_their_noise_is_kept() -> None:
    table = sampled_again(0.05, 4)
    seeds = table.assign(sampling_seed=table["protocol"].str[-1].astype(float))
    with pytest.raises(TableError, match="protocol differs on one axis"):
        final(table)
    scores = final(seeds).set_index("model")["value"]
    one = final(seeds, protocol="digits1k_0").set_index("model")["value"]
    every = [final(seeds, protocol=f"digits1k_{i}").set_index("model")["value"] for i in range(4)]
    assert scores.to_numpy() == pytest.approx(pd.concat(every, axis=1).mean(axis=1).to_numpy())
    assert left_out(seeds).empty and not (scores == one).any()
    averaged, single = power.variances(seeds), power.variances(seeds, protocol="digits1k_0")
    assert averaged.run == pytest.approx(single.run, rel=0.3)
    assert averaged.run > noise.noise(seeds).sd, "one sampling seed is noisier than four"
    assert not compare(seeds, seeds)["verdict"].isin(["better", "worse"]).any()


def test_protocols_that_differ_in_more_than_the_seed_are_not_averaged() -> None:
    table = sampled_again(0.05, 2)
    seeds = table.assign(sampling_seed=table["protocol"].str[-1].astype(float))
    guided = seeds.assign(guidance=seeds["sampling_seed"] + 1.5)
    assert final(guided).equals(final(guided, protocol="digits1k_0"))
    twice = seeds.assign(sampling_seed=0.0)
    with pytest.raises(TableError, match="protocol differs on one axis"):
        final(pd.concat([twice, seeds.assign(protocol="other_1", sampling_seed=1.0)]))


def test_more_samplings_take_away_the_noise_of_sampling_alone() -> None:
    found = power.Variances(0.05, 0.04, 0.06, 20, 0.03, "")
    assert found.of_mean(1) == 0.05
    assert found.of_mean(1, 10**6) == pytest.approx(0.04)
    assert found.of_mean(4, 1) == pytest.approx(0.025)
