"""The comparison of studies and the noise of one run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from studies import PAPER, digits

from analysis import comparison, comparison_text, noise


def test_noise_is_the_planted_one_and_counts_runs() -> None:
    found = noise.noise(digits(seeds=(0, 1, 2, 3), sd=0.05))
    low, high = found.interval()
    assert low < 0.05 < high and found.df == 36
    assert found.origin == "48 runs of 12 models over seeds"


def test_a_patch_with_more_noise_keeps_it_where_the_runs_tell() -> None:
    table = digits(seeds=tuple(range(6)), sd=0.03)
    loud = (table["patch"] == 8) & table["metric"].eq("fid")
    mean = table[loud].groupby(["model", "step"])["value"].transform("mean")
    table.loc[loud, "value"] = mean * (table.loc[loud, "value"] / mean) ** 5
    found = noise.noise(table)
    assert found.at(8)[0] > 3 * found.at(4)[0]
    sd, df = found.at(8)
    assert found.at(16) == (noise.UNSEEN * sd, df), "no seeds: more than the noisiest patch"


def test_studies_of_one_noise_share_their_seeds_and_others_do_not() -> None:
    a, b = (noise.noise(digits(seeds=(0, 1, 2), draw=draw)) for draw in (1, 2))
    both, same = noise.together(a, b)
    assert both is same and both.df == a.df + b.df
    assert min(a.sd, b.sd) < both.sd < max(a.sd, b.sd)
    loud = noise.noise(digits(seeds=(0, 1, 2), sd=0.2))
    assert noise.together(a, loud) == (a, loud)
    assert noise.together(a, a) == (a, a), "the same runs are counted once"


def louder(table: pd.DataFrame, exponent: float) -> pd.DataFrame:
    """The table with its noise times a power of Gflops within each patch."""
    rows = table[table["metric"].eq("fid")]
    mean = rows.groupby(["model", "step"])["value"].transform("mean")
    centre = rows.groupby("patch")["gflops"].transform(lambda x: np.exp(np.log(x).mean()))
    power = (rows["gflops"] / centre) ** exponent
    return rows.assign(value=mean * (rows["value"] / mean) ** power)


def test_noise_that_grows_with_size_is_that_of_each_size() -> None:
    found = noise.noise(louder(digits(seeds=tuple(range(8)), sd=0.03), 1.0))
    exponent, low, high = found.size
    assert found.differs_by_size and low < 1 < high
    gflops = digits().query("patch == 2")["gflops"]
    small, large = (found.at(2, size)[0] for size in (gflops.min(), gflops.max()))
    assert large / small == pytest.approx((gflops.max() / gflops.min()) ** exponent)
    assert found.at(2)[0] == found.at(2, float("nan"))[0]
    assert "as Gflops^" in comparison_text.noise_text(found)


def test_equal_noise_is_told_by_size_in_one_of_twenty() -> None:
    told = [noise.noise(digits(seeds=(0, 1, 2), draw=draw)).differs_by_size for draw in range(60)]
    assert np.mean(told) < 0.1


def test_runs_with_steps_of_their_own_have_the_noise_of_their_last_ones() -> None:
    table = digits(seeds=(0, 1, 2, 3), sd=0.05).query("metric == 'fid'")
    place = pd.factorize(table["model"])[0]
    own = table.assign(step=table["step"] + place, images=table["images"] + 64 * place)
    assert noise.noise(own).df == noise.noise(table).df == 36
    assert noise.noise(own).sd == pytest.approx(noise.noise(table).sd)


def test_equal_studies_are_never_called_better_and_a_doubled_one_is_worse() -> None:
    a, b = (digits(seeds=(0, 1, 2), draw=draw) for draw in (1, 2))
    assert not comparison.compare(a, b)["verdict"].isin(["better", "worse"]).any()
    b["value"] *= 2
    assert (comparison.compare(a, b)["verdict"] == "better").all()
    assert (comparison.compare(b, a)["verdict"] == "worse").all()


def test_more_is_better_of_precision() -> None:
    ratio, errors = pd.Series([1.2, 0.8]), np.array([[0.01, 30.0]] * 2)
    assert [*comparison.verdicts(ratio, errors, higher_is_better=True)["verdict"]] == [
        "better",
        "worse",
    ]


def test_equivalence_needs_both_ends_of_the_margin_refuted() -> None:
    ratio, errors = (
        pd.Series([1.01, 1.01, 1.2]),
        np.array([[0.01, 30.0], [0.05, 30.0], [0.01, 30.0]]),
    )
    found = comparison.verdicts(ratio, errors)["verdict"]
    assert [*found] == ["equivalent within ±5 %", "inconclusive", "worse"]


def test_studies_at_the_margin_are_called_equivalent_in_one_of_twenty() -> None:
    rng, error, df = np.random.default_rng(0), 0.02, 20
    draws = np.log1p(comparison.MARGIN) + error * rng.standard_normal(1200)
    spread = error * np.sqrt(rng.chisquare(df, 1200) / df)
    called = [
        comparison.verdicts(pd.Series([np.exp(x)]), np.array([[s, df]]))["verdict"][0]
        for x, s in zip(draws, spread, strict=True)
    ]
    assert np.mean([word == comparison.EQUIVALENT for word in called]) == pytest.approx(
        0.05, abs=0.02
    )


def test_without_seeds_the_noise_is_not_known() -> None:
    assert set(comparison.compare(digits(), digits(draw=1))["verdict"]) == {"noise not known"}


def test_scores_of_different_extractors_are_compared_by_rank_alone() -> None:
    rows = comparison.compare(digits(), PAPER)
    assert "ratio" not in rows and len(rows) == 12
    assert (
        "differ in features (digits-cnn-1, inception)"
        in comparison_text.comparison_sentences(digits(), PAPER)[-1]
    )


def test_reruns_without_an_address_do_not_set_the_noise() -> None:
    found = noise.noise(PAPER)
    assert found.sd == pytest.approx(0.030, abs=5e-4) and found.df == 3
    assert found.origin.startswith("5 runs of 2 models")
    assert set(noise.reruns()["model"]) == {"DiT-XL/2", "DiT-B/4"}


def test_a_verdict_is_adjusted_for_the_number_of_cells() -> None:
    assert comparison.holm(np.array([0.01, 0.04, 0.03, 0.5])).tolist() == pytest.approx(
        [0.04, 0.09, 0.09, 0.5]
    )
    a, b = (digits(seeds=(0, 1, 2), draw=draw) for draw in (1, 2))
    b.loc[b["model"] == "mini-DiT-S/8", "value"] *= 1.055
    row = comparison.compare(a, b).set_index("size").loc["S"].query("patch == 8").iloc[0]
    assert not row["low"] <= row["ratio"] <= row["high"] and row["verdict"] == "inconclusive"


DIFFERENT = {
    "features": "other",
    "n": 500.0,
    "data": "other",
    "reference": "other",
    "sampler": "ddim",
    "sampling_steps": 10.0,
    "guidance": 1.5,
    "decoder": "ft-EMA",
    "weights": "raw",
    "step": 300.0,
    "batch_size": 128.0,
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_whatever_changes_a_number_makes_two_studies_incomparable(field: str) -> None:
    a = digits()[lambda table: table["step"] == 600]
    b = a.assign(**{field: DIFFERENT[field]})
    assert [reason.split()[0] for reason in comparison.differences(a, b)] == [field]
    assert "verdict" not in comparison.compare(a, b)


def test_what_one_study_does_not_give_is_no_difference_and_is_said() -> None:
    a, b = digits(seeds=(0, 1)), digits(seeds=(0, 1)).assign(labels="uniform")
    b["reference"] = "digits-0a1b2c3d"
    assert comparison.differences(a, b) == []
    assert comparison.unstated(a, b) == ["labels"]
    assert "taken as equal: labels" in " ".join(comparison_text.comparison_sentences(a, b))


def test_models_of_several_families_meet_their_own_kind() -> None:
    a = pd.concat([digits(), *(digits().assign(family=name) for name in ("X", "Y"))])
    b = pd.concat([digits(draw=1), digits(draw=2).assign(family="X")])
    assert len(comparison.compare(renamed(a), renamed(b))) == 24


def renamed(table: pd.DataFrame) -> pd.DataFrame:
    """Gives the models of a second family names of their own."""
    family = table["family"].fillna("")
    return table.assign(model=table["model"] + family, run=table["run"] + family, family=family)


def test_two_correlations_are_compared_by_their_difference() -> None:
    text = " ".join(comparison_text.comparison_sentences(digits(), PAPER))
    assert "difference of Fisher's z" in text and "overlap" not in text


def test_sampling_noise_is_the_interval_of_fid_infinity() -> None:
    table = digits()[lambda rows: rows["metric"] == "fid"]
    half = 0.02 * noise.FID_INFINITY_T * table["value"]
    bounds = [
        table.assign(metric=f"fid_infinity{end}", value=table["value"] + sign * half)
        for end, sign in (("", 0), ("_low", -1), ("_high", 1))
    ]
    assert noise.sampling_noise(pd.concat(bounds)) == (pytest.approx(0.02), 36)
