"""Running curves, next runs and budgets: honest intervals, and orders that brute force confirms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from joint_worlds import WORLDS, JointWorld
from studies import PAPER, SHARED, digits

from analysis import allocation, next_run, running
from analysis.fits import PRODUCT, design
from analysis.grid import final
from analysis.joint import evaluate, fit, points_of
from analysis.models import with_family
from analysis.table import NUMBER_COLUMNS, TEXT_COLUMNS, TableError, load


def test_intervals_of_last_scores_hold_19_of_20_planted_ones() -> None:
    tables = [digits(seeds=(0, 1, 2), draw=draw) for draw in range(6)]
    found = pd.concat([running.running(table) for table in tables])
    held = found["truth"].between(found["low"], found["high"])
    assert 0.91 < held.mean() < 0.99


def test_a_run_is_predicted_without_its_own_last_score() -> None:
    table = digits(seeds=(0, 1, 2))
    one = table["run"].eq("mini-DiT-B/4-0")
    changed = table.assign(value=table["value"].where(~(one & table["step"].eq(600)), 1000.0))
    cut = table[~(one & table["step"].gt(200))]

    def predicted(rows: pd.DataFrame) -> list[float]:
        found = running.running(rows)
        return [*found[found["run"].eq("mini-DiT-B/4-0") & found["step"].eq(200)]["prediction"]]

    assert predicted(table) == predicted(changed) == predicted(cut)


def test_one_step_or_few_finished_runs_say_what_is_missing() -> None:
    with pytest.raises(TableError, match="at two steps, there is one"):
        running.running(PAPER)
    few = digits()[lambda rows: rows["size"].eq("S")]
    with pytest.raises(TableError, match="3 runs are finished, 4 of a family tell"):
        running.running(few)


def study_of(world: JointWorld) -> pd.DataFrame:
    """A tidy table with the world's scores."""
    rows = world.draw(np.random.default_rng(0))
    model = [f"DiT-{x}" for x in pd.factorize(rows["run"])[0] % 12]
    table = rows.assign(model=model, step=rows["D"] / 64, images=rows["D"], params=rows["N"])
    table = table.assign(**SHARED, metric="fid", size="", family="DiT", seed=0, tokens=rows["T"])
    columns = [*TEXT_COLUMNS, *NUMBER_COLUMNS, "others", "family", "tokens"]
    return table.assign(patch=32 / np.sqrt(rows["T"])).reindex(columns=columns)


STUDY = study_of(WORLDS["12 models, 6 steps, 3 seeds"]).drop_duplicates(["model", "step"])


def candidates() -> pd.DataFrame:
    models = STUDY.drop_duplicates("model")[["model", "patch", "gflops", "params"]]
    per_image = models["gflops"] * 1e-9
    priced = {"hours_per_image": per_image, "hours_to_serve": 0.0, "batch_size": 64}
    return models.assign(**priced).reset_index(drop=True)


def test_the_best_of_a_budget_is_the_least_score_of_the_law() -> None:
    found = allocation.best(STUDY, candidates(), hours=1.0)
    law = fit(points_of(STUDY)[0])
    at = allocation.scale_of(found)
    assert [*found["prediction"]] == pytest.approx([*evaluate(law.theta, law.points, *at)])
    assert found["prediction"].is_monotonic_increasing
    assert found["p_best"].sum() == pytest.approx(1)
    assert found["p_best"].idxmax() == 0
    assert (found["low"] <= found["prediction"]).all() and (
        found["prediction"] <= found["high"]
    ).all()
    assert (at[2] * found["gflops"] * 1e-9).to_numpy() == pytest.approx(1, rel=1e-4)
    assert (64 * found["steps"]).tolist() == found["images"].tolist()


def test_the_posterior_over_patch_size_and_steps_is_that_of_the_models() -> None:
    found = allocation.best(STUDY, candidates(), hours=1.0)
    seen = allocation.posterior(found)
    assert sum(seen["patch"].values()) == pytest.approx(1)
    first = found.iloc[found["p_best"].argmax()]
    for name in ("gflops", "steps"):
        low, high = seen[name]
        assert low <= first[name] <= high
    sure = found.assign(p_best=found["model"].eq(first["model"]).astype(float))
    assert allocation.posterior(sure)["gflops"] == [first["gflops"]] * 2


def test_a_law_of_one_patch_says_nothing_of_another() -> None:
    """To it a model of another patch is as good, and cheaper: it would be the best of all."""
    study = load(ROOT / "results" / "measured" / "digits_laws_mup.csv")
    own = study.drop_duplicates("model")[["model", "patch", "gflops", "params"]]
    other = own.assign(patch=4.0, model=own["model"].str.replace("/2", "/4"))
    rows = pd.concat([own, other], ignore_index=True)
    priced = rows.assign(hours_per_image=rows["gflops"], hours_to_serve=0.0, batch_size=64)
    found = allocation.best(study, priced, hours=10.0, metric="val_loss")
    assert {*found["patch"]} == {2.0} and len(found) == len(own)
    images = pd.Series([(1e5,)] * len(rows), dtype=object)
    more = rows.assign(kind="size", images=images, hours=1.0)
    target = more.head(1).assign(images=1e5)
    assert {*next_run.rank(study, more, target, "val_loss")["patch"]} == {2.0}
    with pytest.raises(TableError, match="has another patch than every scored model"):
        next_run.rank(study, more, more.tail(1).assign(images=1e5), "val_loss")


def test_serving_many_images_favours_a_smaller_model_and_too_many_leave_nothing() -> None:
    free = allocation.best(STUDY, candidates(), hours=1.0)
    served = candidates().assign(hours_to_serve=lambda rows: 0.009 * rows["gflops"])
    found = allocation.best(STUDY, served, hours=1.0)
    assert found["gflops"].iloc[0] <= free["gflops"].iloc[0]
    assert len(found) < len(free)
    with pytest.raises(TableError, match="serving and one step take"):
        allocation.best(STUDY, candidates().assign(hours_to_serve=2.0), hours=1.0)


def test_a_table_at_one_step_has_no_best_budget() -> None:
    with pytest.raises(TableError, match="score more steps"):
        allocation.best(PAPER, candidates().assign(model="DiT-S/8"), hours=1.0)


def next_candidates(table: pd.DataFrame) -> pd.DataFrame:
    models = table[table["gflops"].gt(0) & table["params"].gt(0)].drop_duplicates("model")
    rows = models[models["model"].str.startswith("DiT-")][["model", "patch", "gflops", "params"]]
    images = [(1e8,)] * len(rows)
    return rows.assign(kind="seed", images=images, hours=rows["gflops"]).reset_index(drop=True)


def test_what_a_next_run_is_worth_is_the_variance_that_least_squares_gives() -> None:
    rows = next_candidates(PAPER)
    target = rows[rows["model"].eq("DiT-XL/2")].assign(images=1e8)
    found = next_run.rank(PAPER, rows, target)
    assert set(found["law"]) == {"product"}
    x = design(final(PAPER), PRODUCT)
    at = design(with_family(target.assign(size="")), PRODUCT)[0]
    more = np.vstack([x, at])
    expected = 1 - (at @ np.linalg.inv(more.T @ more) @ at) / (at @ np.linalg.inv(x.T @ x) @ at)
    own = found.set_index("model").loc["DiT-XL/2", "shrinks"]
    assert own == pytest.approx(expected)
    assert found["shrinks"].max() == own  # of one's own score nothing tells more
    assert found["per_hour"].is_monotonic_decreasing


def test_the_joint_law_ranks_longer_runs_too() -> None:
    rows = next_candidates(STUDY)
    rows["images"] = [tuple(np.unique(STUDY["images"]))] * len(rows)
    longer = rows.assign(
        kind="longer", images=pd.Series([(2 * STUDY["images"].max(),)] * len(rows))
    )
    target = rows.tail(1).assign(images=2 * STUDY["images"].max())
    found = next_run.rank(STUDY, pd.concat([rows, longer], ignore_index=True), target)
    assert set(found["law"]) == {"joint"}
    assert found["shrinks"].between(0, 1).all()
    assert set(found["kind"]) == {"seed", "longer"}
