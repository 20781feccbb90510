"""The referee's checklist: filled from the table, failing where something is missing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from joint_worlds import WORLDS, points
from studies import PAPER, digits

from analysis import diagnostics, forms, joint
from analysis.grid import final
from analysis.published_laws import of_compute, published_laws
from analysis.referee import checklist
from analysis.table import PUBLISHED, load


def verdict(table: pd.DataFrame, item: str) -> tuple[str, str]:
    row = checklist(table).set_index("item").loc[item]
    return row["verdict"], row["sentence"]


def test_seeds_pass_where_every_patch_has_three_and_name_what_is_missing() -> None:
    assert verdict(digits(seeds=(0, 1, 2)), "seeds")[0] == "pass"
    found = verdict(digits(), "seeds")
    assert found[0] == "fail" and "0 of 3 patch sizes" in found[1] and "seed=0,1,2" in found[1]


def test_the_published_grid_fails_its_form_and_its_hold_out() -> None:
    assert "F(4, 6) = 55.7" in verdict(PAPER, "the form is tested")[1]
    assert verdict(PAPER, "the form is tested")[0] == "fail"
    assert "3 of 4 intervals" in verdict(PAPER, "hold-out by range")[1]


def test_what_a_score_was_made_with_must_be_given() -> None:
    full = digits().assign(labels="balanced", sampler="ddpm")
    assert verdict(full, "score and its protocol")[0] == "pass"
    found = verdict(digits(), "score and its protocol")[1]
    assert "Not given: labels: collect again (`harness collect digits`)." in found


def own_steps() -> pd.DataFrame:
    """A study of equal compute: sizes that end at steps of their own."""
    return load(PUBLISHED.parents[1] / "measured" / "digits_laws.csv")


@pytest.mark.parametrize(
    "table", [digits, own_steps, lambda: PAPER, lambda: digits().query("size == 'S'")]
)
def test_a_failed_item_names_what_supplies_it(table: Callable[[], pd.DataFrame]) -> None:
    found = checklist(table())
    failed = found.loc[found["verdict"].eq("fail"), "sentence"]
    assert len(failed)
    assert failed.str.contains(r"`harness |sweep|look them up").all(), failed.to_list()


def test_runs_with_steps_of_their_own_are_judged_by_the_joint_law() -> None:
    table = own_steps()
    assert "score = " in verdict(table, "equation and free parameters")[1]
    assert verdict(table, "equation and free parameters")[0] == "pass"
    refuted = verdict(table, "the form is tested")
    assert refuted[0] == "fail" and "the gain from size differs by images" in refuted[1]
    assert "runs of the smaller two thirds by compute" in verdict(table, "hold-out by range")[1]
    assert "At one step alone: digit-DiT-w96" in verdict(table, "checkpoints of each run")[1]


def test_a_study_without_fid_is_judged_by_its_loss() -> None:
    as_loss = digits().query("metric == 'fid'").assign(metric="val_loss", features="")
    found = checklist(as_loss).set_index("item")["sentence"]
    assert found["points left out"].startswith("36 of 36 scores of val_loss")
    assert "sampler" not in found["score and its protocol"]


def test_a_dirty_commit_fails() -> None:
    assert verdict(digits().assign(commit="abc"), "code")[0] == "pass"
    assert verdict(digits().assign(commit="abc+dirty"), "code")[0] == "fail"


def test_a_specification_curve_has_every_form_and_its_terms() -> None:
    rows = final(PAPER)
    found = forms.curve(rows.iloc[:-1], rows.tail(1))
    assert len(found) == len(forms.forms())
    assert found["prediction"].is_monotonic_increasing
    bounds = forms.range_of_forms(rows.iloc[:-1], rows.tail(1))
    good = found.loc[found["good"], "prediction"]
    assert (good.min(), good.max()) == (bounds["forms_low"], bounds["forms_high"])
    effects = forms.main_effects(found).set_index("term")
    assert effects.loc["params·tokens", "error_ratio"] < 1  # the product helps


@pytest.mark.parametrize("world", ["12 models, 6 steps", "isoFLOP loss"])
def test_a_true_law_is_seldom_refuted(world: str) -> None:
    rng = np.random.default_rng(0)
    laws = (joint.fit(points(WORLDS[world].draw(rng))) for _ in range(30))
    assert sum(diagnostics.bends(law)["p"].min() < 0.05 for law in laws) <= 5


def test_an_interaction_that_the_law_lacks_is_found() -> None:
    rows = WORLDS["12 models, 6 steps, 3 seeds"].draw(np.random.default_rng(0))
    logs = np.log(rows["N"] / 1e8) * np.log(rows["T"] / 64)
    found = diagnostics.bends(
        joint.fit(points(rows.assign(value=rows["value"] * np.exp(-0.15 * logs))))
    )
    assert found["term"].iloc[0] == "the gain from size differs by tokens"
    assert found["p"].iloc[0] < 0.01


def test_published_laws_keep_their_units_and_their_metric() -> None:
    rows = published_laws()
    assert rows["source"].str.startswith("arXiv ").all() and rows["read"].notna().all()
    assert rows.query("quantity == 'fid'")["metric"].str.contains("no Inception").all()
    budget = 1.5e21
    n, d = (of_compute("liang2024", f"optimal {name}", budget) for name in ("parameters", "tokens"))
    assert 6 * n * d == pytest.approx(budget, rel=0.02)
    assert n == pytest.approx(958.3e6, rel=0.01)  # the paper's own extrapolation
