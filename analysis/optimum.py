"""The best size and data for a training budget: from the joint law, and from isoFLOP parabolas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.correlation import Array
from analysis.joint import ALPHA, BETA, GAMMA, A, B, E, Joint, Points, evaluate
from analysis.joint_bootstrap import Draws, bootstrap, intervals
from analysis.table import RUN, TableError, listed

BUDGETS = 5  # a table of more rows is not read
# A parabola needs three sizes; one more tells how well it fits.
SIZES = 3
# An exponent of 0 has its best size at 0 or at infinity: far from any study, and still a number.
LEAST_EXPONENT = 1e-2
MET = np.log(1.01)  # a run of whole steps meets a budget to 1 %, as harness isoflop has it


def flop_per_image(points: Points) -> float:
    """Returns training operations per image, unit of size and token: 6 of multiply-adds per token.

    A backward pass costs two forward ones, and a multiply-add is two operations. Of parameters it
    is the geometric mean over the models: adaLN's run once per image, attention has none.
    """
    rows = points.rows
    return float(np.exp(np.log(6e9 * rows["gflops"] / (rows["N"] * rows["T"])).mean()))


@dataclass(frozen=True)
class Optimum:
    """The optimum of many laws at one token count: N* = n C^a, D* = d C^b, score* = E + k C^-c."""

    a: Array
    b: Array
    c: Array
    log_n: Array  # log of N* at a compute of 1, [draws]
    log_d: Array
    tokens: float


def optimum(theta: Array, points: Points, tokens: float) -> Optimum:
    """Returns the sizes and images with the least score at each compute C = κ N T D.

    Closed form of A N^-α + B D^-β under N D = C / (κ T) (Hoffmann et al., arXiv 2203.15556).
    """
    n0, t0, d0 = points.centre
    gamma = theta[..., GAMMA]
    alpha, beta = (np.maximum(theta[..., i], LEAST_EXPONENT) for i in (ALPHA, BETA))
    log_a = theta[..., A] + alpha * n0 - gamma * (np.log(tokens) - t0)
    log_b = theta[..., B] + beta * d0
    both = alpha + beta
    ratio = (np.log(alpha) + log_a - np.log(beta) - log_b) / both
    a, b, c = beta / both, alpha / both, alpha * beta / both
    unit = -np.log(flop_per_image(points) * tokens)
    return Optimum(a, b, c, ratio + a * unit, -ratio + b * unit, tokens)


def at_budgets(draws: Draws, tokens: float, budgets: Array) -> pd.DataFrame:
    """Returns N*, D* and the score there by budget, each with its 95 % interval.

    `inside` tells whether the optimum is among the fitted sizes and images.

    Raises:
        TableError: the scores do not tell what size or what images bring.
    """
    joint, points = draws.joint, draws.joint.points
    require_trade(draws)
    best, spread = (optimum(theta, points, tokens) for theta in (joint.theta, draws.theta))
    rows = []
    for budget in budgets:
        row = {"tokens": tokens, "compute": budget}
        for name, value, values in quantities(joint, draws, best, spread, budget):
            low, high = draws.bounds(values, value)
            row |= {name: np.exp(value), f"{name}_low": np.exp(low), f"{name}_high": np.exp(high)}
        place = np.log([row["size"], row["images"]]) - points.centre[[0, 2]]
        axes = points.x[[0, 2]]
        row["inside"] = bool(((axes.min(1) <= place) & (place <= axes.max(1))).all())
        rows.append(row)
    return pd.DataFrame(rows)


def quantities(
    joint: Joint, draws: Draws, best: Optimum, spread: Optimum, budget: float
) -> list[tuple[str, float, Array]]:
    """Returns (name, log value, log values of the draws) of N*, D* and the score at a budget."""
    log_c, points = np.log(budget), joint.points
    logs = [
        (found.log_n + found.a * log_c, found.log_d + found.b * log_c) for found in (best, spread)
    ]
    thetas = (joint.theta[None], draws.theta)
    scores = [
        np.log(at_optimum(theta, points, np.exp(n), np.exp(d), best.tokens))
        for theta, (n, d) in zip(thetas, logs, strict=True)
    ]
    return [
        ("size", float(logs[0][0]), logs[1][0]),
        ("images", float(logs[0][1]), logs[1][1]),
        ("score", float(scores[0][0]), scores[1]),
    ]


def at_optimum(theta: Array, points: Points, n: Array, d: Array, tokens: float) -> Array:
    """Returns the score of each law at its own optimum."""
    n0, t0, d0 = points.centre
    log_t = np.log(tokens) - t0
    size = theta[:, A] - theta[:, ALPHA] * (np.log(n) - n0) - theta[:, GAMMA] * log_t
    data = theta[:, B] - theta[:, BETA] * (np.log(d) - d0)
    return np.asarray(np.exp(theta[:, E]) + np.exp(size) + np.exp(data))


def known_tokens(points: Points, patch: float) -> float:
    """Returns the tokens of an image, as the table counts them, at this patch.

    Raises:
        TableError: the study has no model of this patch.
    """
    rows = points.rows[points.rows["patch"].eq(patch)]
    if rows.empty:
        known = listed(points.rows["patch"])
        raise TableError(f"no model of the study has a patch of {patch:g}: its patches are {known}")
    return float(rows["tokens"].iloc[0])


def gflops_at(joint: Joint, tokens: float, draws: int) -> Callable[[float], float]:
    """Returns the Gflops of the best model as a function of compute.

    Raises:
        TableError: the scores do not tell what size or what images bring.
    """
    require_trade(bootstrap(joint, draws))
    best = optimum(joint.theta, joint.points, tokens)
    return lambda budget: float(np.exp(best.log_n + best.a * np.log(budget)) * tokens / 1e9)


def require_trade(draws: Draws) -> None:
    """Refuses draws in which size or images bring nothing.

    Raises:
        TableError: the scores do not tell what size or what images bring, so that there is no
            trade between them.
    """
    known = intervals(draws)
    if "α" not in known:
        raise TableError("a best size needs several sizes, there is one: train other sizes")
    if "β" not in known:
        raise TableError(
            "a best size for a budget needs scores at several steps: all are at one, so that what"
            " more images bring is not known; score earlier checkpoints, or train some runs longer"
        )
    unknown = [name for name in ("α", "β") if not known[name][2]]
    if unknown:
        verb, remedy = ("are" if len(unknown) > 1 else "is"), "score more steps of each run"
        if "β" not in unknown:
            remedy = "train more sizes (`harness isoflop` writes their sweep)"
        raise TableError(
            f"{' and '.join(unknown)} {verb} not identified, so that no size is best for a budget:"
            f" {remedy}"
        )


def budgets_of(points: Points, tokens: float) -> Array:
    """Returns budgets at even steps of the log over those that several sizes of it have reached."""
    rows = points.rows[np.isclose(points.rows["T"], tokens)]
    reached = rows.assign(C=compute_of(rows)).groupby("model")["C"].agg(["min", "max"])
    low, high = np.sort(reached["min"])[:SIZES][-1], np.sort(reached["max"])[-SIZES:][0]
    if len(reached) < SIZES or not high > low:
        return np.quantile(compute_of(rows), [0.5])
    return np.asarray(np.geomspace(low, high, BUDGETS))


def compute_of(rows: pd.DataFrame) -> pd.Series:
    """Returns training operations, 6 for a forward multiply-add."""
    return 6e9 * rows["gflops"] * rows["D"]


def parabolas(joint: Joint, tokens: float, budgets: Array) -> pd.DataFrame:
    """Returns the minimum of a parabola of log score in log N at each budget, and its bias.

    Scores at a budget are interpolated along each run, in logs. The bias is that of the same
    parabola through the joint law's own scores at the same sizes, which have no noise, from the
    law's optimum: a parabola is not the law's shape (arXiv 2603.22339). Columns: compute, sizes,
    size (NaN where the minimum is not inside), range (largest size / smallest), bias.
    """
    points = joint.points
    rows = points.rows[np.isclose(points.rows["T"], tokens)]
    best = optimum(joint.theta, points, tokens)
    found = []
    for budget in budgets:
        sizes, scores = at_compute(rows, budget)
        row = {"tokens": tokens, "compute": budget, "sizes": len(np.unique(sizes))}
        if row["sizes"] >= SIZES:
            images = budget / (flop_per_image(points) * tokens * sizes)
            law = evaluate(joint.theta, points, sizes, np.full_like(sizes, tokens), images)
            truth = np.exp(best.log_n + best.a * np.log(budget))
            row |= {
                "size": minimum(sizes, scores),
                "range": sizes.max() / sizes.min(),
                "bias": minimum(sizes, law) / truth - 1,
            }
        found.append(row)
    return pd.DataFrame(found, columns="tokens compute sizes size range bias".split())


def at_compute(rows: pd.DataFrame, budget: float) -> tuple[Array, Array]:
    """Returns sizes and scores of the runs that have reached a budget, interpolated in logs."""
    sizes, scores = list[float](), list[float]()
    by = [name for name in RUN if name in rows]
    for _, run in rows.groupby(by, dropna=False):
        run = run.sort_values("D")
        reached = np.log(compute_of(run).to_numpy())
        if reached[0] - MET <= np.log(budget) <= reached[-1] + MET:
            at = np.interp(np.log(budget), reached, np.log(run["value"].to_numpy()))
            sizes.append(float(run["N"].iloc[0]))
            scores.append(float(np.exp(at)))
    return np.array(sizes), np.array(scores)


def minimum(sizes: Array, scores: Array) -> float:
    """Returns where a parabola of log score in log size is least; NaN if not inside the sizes."""
    x = np.log(sizes)
    middle = x.mean()
    curve, slope, _ = np.polyfit(x - middle, np.log(scores), 2)
    if not curve > 0:
        return float("nan")
    at = middle - slope / (2 * curve)
    return float(np.exp(at)) if x.min() <= at <= x.max() else float("nan")
