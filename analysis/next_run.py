"""Which run next: the one that shrinks the interval of a wanted prediction most per hour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.allocation import of_known_tokens
from analysis.correlation import Array
from analysis.fits import PRODUCT, complete, design, is_fitted, one_study, positive
from analysis.forecast import points_like
from analysis.grid import final
from analysis.joint import Joint, Points, Whole, fit
from analysis.joint_bootstrap import bootstrap
from analysis.joint_search import jacobian, terms_of
from analysis.models import with_tokens_of
from analysis.optimum import require_trade
from analysis.table import TableError, listed

DRAWS = 500  # they decide whether α and β are identified, nothing else


@dataclass(frozen=True)
class Knowledge:
    """What the runs of a study tell of a law: their derivatives, by run, and the noise.

    `of_run` and `of_score` are deviations of log scores: what all checkpoints of a run share, and
    what each has of its own.
    """

    slopes: Array  # [points, parameters]
    run: Whole  # [points]
    of_run: float
    of_score: float

    def information(self, slopes: Array, run: Whole) -> Array:
        """Returns the information matrix of points in runs."""
        total = np.zeros((slopes.shape[1],) * 2)
        for name in np.unique(run):
            own = slopes[run == name]
            noise = self.of_score**2 * np.eye(len(own)) + self.of_run**2
            total += own.T @ np.linalg.solve(noise, own)
        return total

    def variance(self, at: Array, more: Array | None = None, run: int = -1) -> float:
        """Returns the variance of a log prediction, also with more points of a run (-1: a new)."""
        slopes, runs = self.slopes, self.run
        if more is not None:
            slopes = np.vstack([slopes, more])
            runs = np.append(runs, np.full(len(more), run))
        inverse = np.linalg.pinv(self.information(slopes, runs), rcond=1e-12, hermitian=True)
        return float(at @ inverse @ at)


def rank(
    table: pd.DataFrame,
    candidates: pd.DataFrame,
    target: pd.DataFrame,
    metric: str = "fid",
    protocol: str | None = None,
) -> pd.DataFrame:
    """Returns the candidates with what each is worth, the most per hour first.

    `candidates` have kind, model, patch, gflops, params, images (a tuple: of each checkpoint) and
    hours; `target` is one row of the same with one number of images. Columns added: shrinks, the
    share that the prediction's variance falls by, and per_hour. By the joint law where it tells
    what images bring, else by the law in N, tokens and their product, for which no run is longer.

    Raises:
        TableError: neither law can be fitted, or it does not know the target's patch.
    """
    rows, aim = (with_tokens_of(one.assign(size=""), table) for one in (candidates, target))
    known = joint_knowledge(table, metric, protocol, str(aim["family"].iloc[0]))
    if known:
        rows, aim = (of_known_tokens(each, known[0]) for each in (rows, aim))
    if aim.empty:
        raise TableError(
            f"{target['model'].iloc[0]} has another patch than every scored model, which no law of"
            " one patch knows: give another --for, or score a second patch"
        )
    gains = by_joint(*known, rows, aim) if known else by_product(table, metric, protocol, rows, aim)
    found = rows.assign(shrinks=gains, law="joint" if known else "product")
    found = found.assign(per_hour=found["shrinks"] / found["hours"])
    return found.sort_values("per_hour", ascending=False, ignore_index=True)


def joint_knowledge(
    table: pd.DataFrame, metric: str, protocol: str | None, family: str
) -> tuple[Joint, Knowledge] | None:
    """Returns the joint law and what is known of it; None where images have no exponent."""
    try:
        joint = fit(points_like(table, metric, protocol, family))
        require_trade(bootstrap(joint, DRAWS))
    except TableError:
        return None
    inside = inner(joint)
    slopes = jacobian(terms_of(joint.theta, joint.points.x), joint.points.x)[:, inside]
    of_run, of_score = noise_parts(joint.residuals, joint.points, int(inside.sum()))
    return joint, Knowledge(slopes, joint.points.run, of_run, of_score)


def inner(joint: Joint) -> Array:
    low, high = joint.limits
    return np.asarray((joint.theta > low + 1e-6) & (joint.theta < high - 1e-6))


def noise_parts(residuals: Array, points: Points, parameters: int) -> tuple[float, float]:
    """Returns the deviations of runs and of scores within runs, by moments."""
    count = np.bincount(points.run)
    means = np.bincount(points.run, residuals) / count
    spare = len(residuals) - len(count)
    within = float(((residuals - means[points.run]) ** 2).sum() / spare) if spare > 0 else 0.0
    between = float((means**2).sum() / max(len(count) - parameters, 1))
    of_run = max(between - within / count.mean(), 0.0)
    # With neither the prediction would be exact: a score is never known better than to 0.1 %.
    return float(np.sqrt(of_run)), float(max(np.sqrt(within), 1e-3))


def by_joint(joint: Joint, known: Knowledge, rows: pd.DataFrame, aim: pd.DataFrame) -> list[float]:
    target = slopes_at(joint, aim.iloc[0], aim["images"].iloc[0])[0]
    before = known.variance(target)
    gains = []
    for _, row in rows.iterrows():
        more = slopes_at(joint, row, row["images"])
        run = run_of(joint.points, row["model"]) if row["kind"] == "longer" else -1
        gains.append(1 - known.variance(target, more, run) / before)
    return gains


def slopes_at(joint: Joint, row: pd.Series, images: object) -> Array:
    """Returns the law's derivatives at a model and its numbers of images."""
    d = np.atleast_1d(np.asarray(images, float))
    n = np.full_like(d, 1e9 * row["gflops"] / row["tokens"])
    x = np.log(np.stack([n, np.full_like(d, row["tokens"]), d])) - joint.points.centre[:, None]
    return np.asarray(jacobian(terms_of(joint.theta, x), x)[:, inner(joint)])


def run_of(points: Points, model: str) -> int:
    """Returns the number of the first run of a model."""
    return int(points.run[points.rows["model"].eq(model).to_numpy()][0])


def by_product(
    table: pd.DataFrame,
    metric: str,
    protocol: str | None,
    rows: pd.DataFrame,
    aim: pd.DataFrame,
) -> list[float]:
    """Returns the gains by the law in N, tokens and their product: a run is one point.

    Raises:
        TableError: too few models.
    """
    models = positive(one_study(final(table, metric, protocol)))
    models = models[models["family"].eq(aim["family"].iloc[0])]
    if not is_fitted(models, PRODUCT):
        raise TableError(
            f"a next run needs a law, and {len(complete(models, PRODUCT))} models"
            f" ({listed(models['model'])}) are too few: train 5 sizes first"
        )
    fitted = complete(models, PRODUCT)
    seen = np.repeat(design(fitted, PRODUCT), fitted["seeds"].to_numpy(int), axis=0)
    known = Knowledge(seen, np.arange(len(seen), dtype=np.int64), 0.0, 1.0)
    target, more = design(aim, PRODUCT)[0], design(rows, PRODUCT)
    before = known.variance(target)
    longer = rows["kind"].eq("longer").to_numpy()
    gains = [1 - known.variance(target, one[None]) / before for one in more]
    return [float(gain) for gain in np.where(longer, 0.0, gains)]
