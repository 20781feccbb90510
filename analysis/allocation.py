"""What a budget of hours buys: the best model and steps, and how sure the joint law is of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.diagnostics import diagnosis
from analysis.forecast import points_like
from analysis.joint import GAMMA, Joint, evaluate, fit
from analysis.joint_bootstrap import Draws, bootstrap, hull
from analysis.models import with_family, with_tokens_of
from analysis.optimum import require_trade
from analysis.table import HIGHER_IS_BETTER, TableError, listed

DRAWS = 2_000


def best(
    table: pd.DataFrame,
    candidates: pd.DataFrame,
    hours: float,
    metric: str = "fid",
    protocol: str | None = None,
) -> pd.DataFrame:
    """Returns the candidates that a budget trains, the best first, each trained for all of it.

    `candidates` have model, patch, gflops, params, batch_size, hours_per_image of training, and
    hours_to_serve, which are taken off first. Columns added: steps (whole ones), images,
    prediction, low, high (of the law's mean), p_best (the share of the law's draws in which it is
    the best), beyond (axes outside of the fit). `.attrs["diagnosis"]` says what refutes the law.

    Raises:
        TableError: the joint law does not know what size or images bring, the metric is one that
            rises, or no candidate is left, after serving or of the patch that was studied.
    """
    if metric in HIGHER_IS_BETTER:
        raise TableError(f"{metric} is better when higher, the joint law falls: take fid or a loss")
    rows = with_tokens_of(candidates.assign(size=""), table)
    drawn = drawn_law(table, metric, protocol, rows)
    rows = of_known_tokens(rows, drawn.joint)
    if rows.empty:
        raise TableError("no candidate has the patch of the scored models: add their sizes")
    each = rows["batch_size"] * rows["hours_per_image"]
    rows = rows.assign(steps=np.floor((hours - rows["hours_to_serve"]) / each))
    rows = rows.assign(images=rows["steps"] * rows["batch_size"])
    able = rows[rows["steps"] >= 1].reset_index(drop=True)
    if able.empty:
        least = (rows["hours_to_serve"] + each).min()
        raise TableError(
            f"serving and one step take {least:.3g} h of the cheapest model and the budget is"
            f" {hours:.3g} h: give more --gpu-hours or a smaller --serve"
        )
    found = ranked(drawn, able)
    found.attrs["diagnosis"] = diagnosis(drawn.joint)
    return found


def drawn_law(
    table: pd.DataFrame, metric: str, protocol: str | None, candidates: pd.DataFrame
) -> Draws:
    """Returns the joint law of the candidates' family, if it has a trade between size and images.

    Raises:
        TableError: it has none.
    """
    families = candidates["family"].unique()
    known = set(with_family(table)["family"])
    if not set(families) <= known:
        raise TableError(
            f"no {listed(candidates['family'])} is scored, only {', '.join(sorted(known))}"
        )
    drawn = bootstrap(fit(points_like(table, metric, protocol, str(families[0]))), DRAWS)
    require_trade(drawn)
    return drawn


def of_known_tokens(rows: pd.DataFrame, joint: Joint) -> pd.DataFrame:
    """Returns the rows that the law can tell apart by their tokens.

    A law of one token count has no exponent of tokens: to it a model of another patch would be as
    good, and cheaper.
    """
    if joint.free[GAMMA]:
        return rows
    known = np.isclose(np.log(rows["tokens"].to_numpy(float)), joint.points.centre[1])
    return rows[known].reset_index(drop=True)


def ranked(drawn: Draws, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with what the law says of each, the best first."""
    points = drawn.joint.points
    at = scale_of(rows)
    logs = np.log(evaluate(drawn.joint.theta, points, *at))
    draws = logs + drawn.wider * (np.log(evaluate(drawn.theta, points, *at)) - logs)
    low, high = np.exp(np.quantile(draws, [0.025, 0.975], axis=0))
    winners = np.bincount(draws.argmin(1), minlength=len(rows)) / len(draws)
    beyond = ["; ".join(hull(points, *place)) for place in zip(*at, strict=True)]
    found = rows.assign(prediction=np.exp(logs), low=low, high=high, p_best=winners, beyond=beyond)
    return found.sort_values("prediction", ignore_index=True)


def posterior(found: pd.DataFrame) -> dict[str, Any]:
    """Returns the chance of each patch to be the best, and 95 % intervals of size and steps."""
    by_patch = found.groupby("patch")["p_best"].sum().sort_values(ascending=False)
    ranges = {name: central(found[name], found["p_best"]) for name in ("gflops", "steps")}
    return {"patch": {f"{patch:g}": float(p) for patch, p in by_patch.items()}, **ranges}


def central(values: pd.Series, chance: pd.Series) -> list[float]:
    """Returns the values between which 95 % of the chance lies."""
    order = values.argsort()
    below = chance.iloc[order].cumsum().to_numpy()
    ends = np.searchsorted(below, [0.025, 0.975 * below[-1]])
    return [float(values.iloc[order].iloc[end]) for end in ends]


def scale_of(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns N, T and D of rows with Gflops, tokens and images."""
    tokens = rows["tokens"].to_numpy(float)
    return 1e9 * rows["gflops"].to_numpy(float) / tokens, tokens, rows["images"].to_numpy(float)
