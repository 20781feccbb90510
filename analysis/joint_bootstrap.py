"""Intervals of the joint law by a bootstrap over runs: of its parameters and of new scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.correlation import Array
from analysis.joint import (
    ALPHA,
    BETA,
    GAMMA,
    PARAMETERS,
    A,
    B,
    E,
    Joint,
    Points,
    evaluate,
)
from analysis.joint_search import jacobian, refine, terms_of

DRAWS, SEED = 10_000, 20_260
CHUNK = 200_000  # points of one batch of laws: 2,700 laws of 72 points, 100 MB
ITERATIONS = 30


@dataclass(frozen=True)
class Draws:
    """Laws refitted to scores of other noise: theta [draws, 6].

    `noise` are the log residuals [points], corrected for what the fit took of them.
    """

    joint: Joint
    theta: Array
    noise: Array

    @property
    def df(self) -> int:
        """The degrees of freedom between runs: checkpoints of one run are not independent."""
        return self.joint.points.runs - int(self.joint.free.sum())

    @property
    def wider(self) -> float:
        """By how much the spread of the draws is widened: to t, and by the degrees of freedom.

        Hesterberg, The American Statistician 69, 2015: of 12 runs the plain quantiles of an
        exponent cover 84 % to 90 %.
        """
        runs = self.joint.points.runs
        return float(stats.t.ppf(0.975, self.df) / stats.norm.ppf(0.975) * np.sqrt(runs / self.df))

    def bounds(self, values: Array, estimate: float) -> tuple[float, float]:
        """Returns the 95 % interval of a quantity: its estimate, and its value at each draw.

        It is that of the quantiles, their distances from the estimate widened.
        """
        low, high = np.quantile(values, [0.025, 0.975])
        return (
            float(estimate - self.wider * max(estimate - low, 0)),
            float(estimate + self.wider * max(high - estimate, 0)),
        )


def bootstrap(joint: Joint, draws: int = DRAWS, seed: int = SEED) -> Draws:
    """Refits the law to its own scores with the residuals of whole runs, each with a random sign.

    Checkpoints of one run share its noise, so that they keep or change their sign together (wild
    cluster bootstrap: Cameron, Gelbach and Miller, Review of Economics and Statistics 90, 2008).
    The sizes and steps of a study are chosen, not drawn, and stay; runs drawn with replacement
    would lose the largest model in every third draw. Residuals are those of a fit without their
    run, in first order.
    """
    points, rng = joint.points, np.random.default_rng(seed)
    noise = corrected(joint)
    law, theta = points.y - joint.residuals, np.empty((draws, 6))
    size = max(CHUNK // len(law), 1)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        signs = rng.choice([-1.0, 1.0], (count, points.runs))
        scores = law + signs[:, points.run] * noise
        begin = np.tile(joint.theta, (count, 1))
        theta[start : start + count] = refine(
            begin, points.x, scores, joint.scale, joint.limits, ITERATIONS
        )[0]
    return Draws(joint, theta, noise)


def corrected(joint: Joint) -> Array:
    """Returns the residuals of each run from a fit without it, by its leverage (CR3)."""
    points = joint.points
    slope = jacobian(terms_of(joint.theta, points.x), points.x)
    inside = (joint.theta > joint.limits[0]) & (joint.theta < joint.limits[1])
    slope = slope[:, inside]
    inverse = np.linalg.pinv(slope.T @ slope, rcond=1e-10)
    noise = joint.residuals.copy()
    for run in range(points.runs):
        own = np.flatnonzero(points.run == run)
        values, vectors = np.linalg.eigh(np.eye(len(own)) - slope[own] @ inverse @ slope[own].T)
        # A run that alone determines a direction has no residual there, and no bound.
        values = np.maximum(values, 0.05)
        noise[own] = vectors @ (vectors.T @ noise[own] / values)
    return noise


def intervals(draws: Draws) -> dict[str, tuple[float, float, bool]]:
    """Returns (low, high, identified) of E, A, B at the centre and of the exponents.

    A parameter is not identified where its interval reaches a limit of the search: the points fit
    as well with any value beyond. A floor, or a term, at its lower limit is 0.
    """
    joint, found = draws.joint, dict[str, tuple[float, float, bool]]()
    open_ended = confounded(joint)
    for i, name in enumerate(PARAMETERS):
        if not joint.free[i]:
            continue
        bounds = draws.bounds(draws.theta[:, i], joint.theta[i])
        if i in open_ended:
            bounds = (float(joint.limits[0][i]), float(joint.limits[1][i]))
        ends = joint.limits[0][i] + 1e-6, joint.limits[1][i] - 1e-6
        low, high = np.clip(bounds, joint.limits[0][i], joint.limits[1][i])
        identified = ends[0] < low and high < ends[1]
        if i < 3:
            low, high = 0.0 if low <= ends[0] else np.exp(low), np.exp(high)
        found[name] = (float(low), float(high), bool(identified))
    return found


def confounded(joint: Joint) -> set[int]:
    """Returns the parameters that the number of sizes, or of images, cannot tell from each other.

    Two sizes determine E + A N^-α at these two alone, whatever the noise: three parameters of
    them are not identified. So it is with images.
    """
    sizes, images = (
        np.unique(np.round(joint.points.x[axes], 6), axis=1).shape[1] for axes in ([0, 1], [2])
    )
    of_size = [i for i in (E, A, ALPHA, GAMMA) if joint.free[i]]
    of_images = [i for i in (E, B, BETA) if joint.free[i]]
    found = set(of_size) if sizes < len(of_size) else set[int]()
    return found | (set(of_images) if images < len(of_images) else set())


def predict(draws: Draws, n: float, t: float, d: float) -> dict[str, float]:
    """Predicts the score of a new run: value, 95 % interval of the law and of the new score.

    The interval of the score (`low`, `high`) has the law's uncertainty and the noise of one run;
    that of the law (`law_low`, `law_high`) is what a mean over many seeds would lie in. Neither
    knows of a law of another form.
    """
    joint, at = draws.joint, (np.array([n]), np.array([t]), np.array([d]))
    value = float(np.log(evaluate(joint.theta, joint.points, *at)[0]))
    laws = np.log(evaluate(draws.theta, joint.points, *at)[:, 0])
    law = np.array(draws.bounds(laws, value))
    reach = np.sqrt((law - value) ** 2 + noise_of_a_run(draws) ** 2)
    low, high = value - reach[0], value + reach[1]
    names = ("prediction", "low", "high", "law_low", "law_high")
    return dict(zip(names, map(float, np.exp([value, low, high, *law])), strict=True))


def noise_of_a_run(draws: Draws) -> float:
    """Returns how far a log score may lie from its law: t times the residuals' deviation."""
    runs, residuals = draws.joint.points.runs, draws.joint.residuals
    spread = np.sqrt((residuals**2).mean() * runs / draws.df)
    return float(stats.t.ppf(0.975, draws.df) * spread)


def hull(points: Points, n: float, t: float, d: float) -> list[str]:
    """Lists the axes in which a target is outside of the fitted points."""
    at = np.log([n, t, d]) - points.centre
    names = ("size", "tokens", "images")
    return [
        f"{name} {value:.3g} (fitted: {np.exp(axis.min() + c):.3g} to {np.exp(axis.max() + c):.3g})"
        for name, value, place, axis, c in zip(
            names, (n, t, d), at, points.x, points.centre, strict=True
        )
        if place < axis.min() - 1e-3 or place > axis.max() + 1e-3
    ]
