"""Families on one axis: planted offsets and exponents come back, with intervals that cover them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from studies import PAPER, digits

from analysis import style
from analysis.families import (
    family_exponents,
    models_of,
    offsets,
    parallel_test,
    placed,
    seen_from,
)
from analysis.families_panels import family_needs
from analysis.families_rows import family_rows, scales, summary
from analysis.layout import draw
from analysis.models import with_family
from analysis.table import PUBLISHED, TableError, load

GFLOPS = np.geomspace(1, 8, 4)


def planted(
    worth: float = 2.0, steeper: float = 0.0, sd: float = 0.0, draw: int = 0
) -> pd.DataFrame:
    """Models of `U`, of which a Gflop is worth several of `T`'s, and which scale so steeper."""
    rng, rows = np.random.default_rng(draw), []
    for family, factor, exponent in (("T", 1.0, 0.4), ("U", worth, 0.4 + steeper)):
        score = 100 * (factor * GFLOPS) ** -exponent * np.exp(sd * rng.standard_normal(4))
        scale = {"gflops": GFLOPS, "params": 1e6 * GFLOPS, "compute": GFLOPS, "sampling": GFLOPS}
        rows.append(pd.DataFrame({"family": family, "patch": 2.0, "value": score, **scale}))
    return pd.concat(rows, ignore_index=True)


def two_families(factor: float = 1.5) -> pd.DataFrame:
    """A measured study beside a family of the same sizes with other scores, two passes a step."""
    other = digits(draw=1).assign(passes=2.0)
    other["value"] = factor * other["value"]
    names = other[["model", "run"]].replace("DiT", "MDT", regex=True)
    return pd.concat([digits().assign(passes=1.0), other.assign(**names)])


def test_the_planted_multiple_and_exponents_come_back() -> None:
    found = offsets(planted(worth=2.0), "Gflops").iloc[0]
    assert (found["family"], found["other"]) == ("T", "U")
    assert found[["multiple", "low", "high"]].to_list() == pytest.approx([2, 2, 2])
    assert found["common"]
    assert family_exponents(planted(), "Gflops")["value"].tolist() == pytest.approx([-0.4, -0.4])


def test_seen_from_the_other_family_a_multiple_and_its_interval_are_inverse() -> None:
    found = offsets(planted(sd=0.1), "Gflops")
    there, back = seen_from(found, "U").iloc[0], seen_from(found, "T").iloc[0]
    assert there[["multiple", "low", "high"]].to_list() == pytest.approx(
        [1 / back["multiple"], 1 / back["high"], 1 / back["low"]]
    )


def test_the_interval_of_the_multiple_covers_it_and_equal_exponents_are_rarely_refuted() -> None:
    draws = [planted(2.0, sd=0.1, draw=i) for i in range(200)]
    found = pd.concat([offsets(models, "Gflops") for models in draws])
    known = found["low"].notna()
    held = (found["low"] <= 2) & (found["high"] >= 2)
    refuted = np.mean([parallel_test(models, "Gflops")["p"] < 0.05 for models in draws])
    assert known.mean() > 0.95 and 0.9 < held[known].mean() < 0.99 and 0.01 < refuted < 0.1


def test_a_common_exponent_that_may_be_0_leaves_the_multiple_open() -> None:
    flat = planted().assign(value=[3.0, 1.0, 2.0, 3.0, 1.0, 3.0, 2.0, 1.5])
    found = offsets(flat, "Gflops").iloc[0]
    assert np.isnan(found["low"]) and np.isnan(found["high"])


def test_steeper_families_are_told_from_equal_ones() -> None:
    assert parallel_test(planted(steeper=0.3, sd=0.02), "Gflops")["p"] < 0.01
    assert parallel_test(planted(sd=0.02), "Gflops")["p"] > 0.05


def test_at_equal_training_compute_all_passes_count() -> None:
    models = models_of(two_families(factor=1.0))
    gflops, training = (
        seen_from(offsets(models, axis), "mini-DiT")["multiple"].iloc[0]
        for axis in ("Gflops", "training compute")
    )
    assert training == pytest.approx(2 * gflops, rel=1e-6)


def test_the_sentence_says_who_leads_at_equal_what_and_whether_it_scales_better() -> None:
    sentence = summary(two_families())
    start = "At equal Gflops and sampling compute mini-DiT is ahead: mini-MDT needs"
    assert sentence.startswith(start) and "at equal parameters" in sentence
    assert "at equal training compute, all passes" in sentence
    assert "no family is shown to scale better" in sentence
    rows = pd.DataFrame(family_rows(two_families()))
    assert rows["statistic"].str.startswith("exponent of Gflops").sum() == 2
    assert rows["method"].eq("Fieller, parallel lines").sum() == 3


def test_one_family_is_compared_with_none() -> None:
    with pytest.raises(TableError, match=r"one family of models \(mini-DiT\)"):
        summary(digits())


def test_guided_scores_are_on_no_axis_with_others() -> None:
    guided = two_families().assign(study="guided", guidance=1.5, value=1.0)
    mixed = guided.assign(study="mixed", guidance=guided["guidance"].where(guided.index < 9, 1.0))
    table = pd.concat([two_families(), guided, mixed])
    assert set(placed(table)["study"]) == {"digits"} and set(placed(guided)["study"]) == {"guided"}
    left = "; guided or on no axis, and left out: guided, mixed."
    assert summary(table) == summary(two_families()).removesuffix(".") + left


def test_what_one_axis_lacks_costs_the_others_nothing() -> None:
    table = two_families()
    known = table["model"].str.contains("DiT")
    sentence = summary(table.assign(params=table["params"].where(known)))
    assert "at equal training compute" in sentence and "equal parameters" not in sentence
    unsampled = summary(table.assign(sampling_steps=np.nan))
    assert unsampled.startswith("At equal Gflops mini-DiT is ahead")
    with style.theme():
        family_needs(table.assign(params=table["params"].where(known)), Figure().add_subplot())


def test_a_family_of_one_model_is_placed_and_its_exponent_is_not_compared() -> None:
    table = two_families()
    table = table[table["model"].str.contains("DiT") | table["model"].eq("mini-MDT-B/4")]
    sentence = summary(table)
    assert "mini-MDT needs" in sentence and "exponents not compared: lines of families" in sentence
    statistics = pd.DataFrame(family_rows(table))["statistic"]
    assert statistics.str.startswith("mini-MDT, ").all() and len(statistics) == 3


def test_scores_that_are_all_one_give_no_multiple() -> None:
    with pytest.raises(TableError, match="all models score 3"):
        offsets(planted().assign(value=3.0), "Gflops")


def test_a_family_scales_best_where_it_is_told_from_every_other() -> None:
    models, steep = planted(steeper=0.3, sd=0.02), planted(steeper=0.6, sd=0.02, draw=1)
    third = steep[steep["family"].eq("U")].assign(family="V")
    assert "differ: V scales best" in scales(pd.concat([models, third]), "fid")
    twin = third.assign(value=models.loc[models["family"].eq("U"), "value"] * 1.01)
    assert "differ: U scales better than T" in scales(pd.concat([models, twin]), "fid")
    worse = models.assign(value=1 / models["value"])
    assert "differ: T scales best" in scales(worse, "fid")
    assert "differ: U scales best" in scales(worse, "inception_score")


def test_families_that_saw_other_numbers_of_images_are_said_to() -> None:
    table = two_families()
    longer = table["model"].str.contains("MDT")
    batch = table["batch_size"].where(~longer, 128)
    assert "images in training: mini-DiT 38,400, mini-MDT 76,800" in summary(
        table.assign(batch_size=batch)
    )
    assert "images in training" not in summary(table)


def test_published_families_meet_on_the_patch_sizes_that_all_have() -> None:
    sit = load(PUBLISHED.with_name("sit2024.csv"))
    table = pd.concat([with_family(PAPER), with_family(sit)])
    models = models_of(table)
    sizes = ("S", "B", "L", "XL")
    assert set(models["model"]) == {f"{name}-{size}/2" for name in ("DiT", "SiT") for size in sizes}
    needs = seen_from(offsets(models, "Gflops"), "SiT").iloc[0]
    assert 1 < needs["low"] < needs["multiple"] < needs["high"] < 2.5 and needs["p"] < 0.05
    with style.theme():
        draw("figure_families", table, fig := Figure())
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert set(legend) == {"DiT", "SiT", *(f"size {size}" for size in sizes), "published"}


def test_studies_with_other_images_or_extractors_are_not_one_axis() -> None:
    with pytest.raises(TableError, match=r"one axis cannot hold different data .* and features"):
        models_of(pd.concat([with_family(PAPER), with_family(digits())]))


def test_families_without_a_patch_are_compared_by_gflops() -> None:
    table = two_families()
    table.loc[table["model"].str.contains("MDT"), "patch"] = np.nan
    with style.theme():
        ax = family_needs(table, Figure().add_subplot())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["mini-DiT", "mini-MDT"]
