"""Laws beyond a line: a power law with a floor, and the compute frontier."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from analysis.correlation import Array
from analysis.fits import one_study, per_family
from analysis.grid import grid, means
from analysis.table import HIGHER_IS_BETTER, TableError

# Nodes of the search on each axis, nodes kept around the best region, and how often it zooms in.
NODES, MARGIN, ZOOMS = 61, 4, 6
LEAST_SQUARES = 1e9  # a Huber scale that no residual reaches
# Ranges of b and of the floor, by whether there is a floor. The floor is searched as its share of
# the largest model's score, which is bounded whatever the units are.
LIMITS = {False: [(-1.0, 3.0), (0.0, 0.0)], True: [(0.01, 3.0), (0.0, 0.99)]}


def power_law(
    table: pd.DataFrame, metric: str = "fid", floor: bool = False, protocol: str | None = None
) -> pd.DataFrame:
    """Fits score = a / Gflops^b + c per family by a Huber loss in log space.

    Given b and the floor the best a is a location (variable projection), so the search is a grid
    over those two, each node a start, zoomed into the region that fits as well as the best. The
    extent of that region is the 95 % profile interval; of a and c it includes how far a may move
    at each node.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    return per_family(table, metric, protocol, partial(power_law_of, floor=floor))


def power_law_of(rows: pd.DataFrame, floor: bool) -> pd.DataFrame:
    parameters = 3 if floor else 2
    spare = len(rows) - parameters
    if spare < 2:
        law = "a power law with a floor" if floor else "a power law"
        raise TableError(f"{law} needs {parameters + 2} models, not {len(rows)}")
    log_g, log_y = np.log(rows["gflops"].to_numpy()), np.log(rows["value"].to_numpy())
    threshold = 1 + stats.f.ppf(0.95, 1, spare) / spare
    # What is an outlier follows from the residuals of a first, plain pass.
    b, share = nodes_of(LIMITS[floor])
    _, loss, spread = project(log_g, log_y, b, share, LEAST_SQUARES)
    scale = max(1.345 * 1.4826 * spread, 1e-9)
    for _ in range(ZOOMS):
        log_a, loss, _ = project(log_g, log_y, b, share, scale)
        slack = loss.min() * threshold - loss
        last, (b, share) = (log_a, b, share), nodes_of(zoom(b, share, slack >= 0))
    return profile(*last, slack, log_g, floor).assign(n=len(rows))


def nodes_of(box: list[tuple[float, float]]) -> tuple[Array, Array]:
    """Returns the nodes of b [B, 1] and of the floor's share [1, S]."""
    b, share = (np.linspace(low, high, NODES if high > low else 1) for low, high in box)
    return b[:, None], share[None, :]


def project(
    log_g: Array, log_y: Array, b: Array, share: Array, scale: float
) -> tuple[Array, Array, float]:
    """Returns at each node the best log a and its Huber loss, and the best node's median residual.

    The best log a is found by reweighting.
    """
    shape = np.exp(-b[..., None] * log_g) + floor_by_a(b, share, log_g)[..., None]
    target = log_y - np.log(shape)
    log_a = target.mean(-1, keepdims=True)
    for _ in range(10 if scale < LEAST_SQUARES else 0):
        weight = scale / np.maximum(np.abs(target - log_a), scale)
        log_a = (weight * target).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
    far = np.abs(target - log_a)
    loss = np.where(far <= scale, far**2, 2 * scale * far - scale**2).sum(-1)
    residual = np.median(far.reshape(-1, len(log_g))[loss.argmin()])
    return log_a[..., 0], loss, float(residual)


def floor_by_a(b: Array, share: Array, log_g: Array) -> Array:
    """Returns c / a from the floor's share of the score at the largest model."""
    return np.asarray(share / (1 - share) * np.exp(-b * log_g.max()))


def zoom(b: Array, share: Array, inside: Array) -> list[tuple[float, float]]:
    """Returns the box around the nodes that fit, with a margin.

    Without it a coarse grid cuts the ridge along which b and the floor trade.
    """
    box = []
    for axis, fits in ((b[:, 0], inside.any(1)), (share[0], inside.any(0))):
        first, last = np.flatnonzero(fits)[[0, -1]]
        low, high = max(first - MARGIN, 0), min(last + MARGIN, len(axis) - 1)
        box.append((float(axis[low]), float(axis[high])))
    return box


def profile(
    log_a: Array, b: Array, share: Array, slack: Array, log_g: Array, floor: bool
) -> pd.DataFrame:
    """Returns a, b and c of the best node, their intervals, and whether these end within limits.

    `slack` [B, S] is how much each node's loss is below the threshold: those of at least 0 fit. At
    a node the loss grows as n (log a)² about its best a, so that log a may move by √(slack / n);
    the floor is a share of the curve and moves with it.
    """
    best, inside = np.unravel_index(slack.argmax(), slack.shape), slack >= 0
    width = np.sqrt(np.maximum(slack, 0) / len(log_g))
    a, shares = np.exp(log_a), share + 0 * b
    nodes = {
        "a": (a, width),
        "b": (b + 0 * share, 0 * width),
        "c": (a * floor_by_a(b, share, log_g), width),
    }
    rows = [
        {
            "parameter": name,
            "value": node[best],
            "low": (node * np.exp(-half))[inside].min(),
            "high": (node * np.exp(half))[inside].max(),
        }
        for name, (node, half) in nodes.items()
    ]
    b_limits, share_limits = LIMITS[floor]
    b_open = touches(nodes["b"][0][inside], b_limits)
    c_open = floor and touches(shares[inside], share_limits)
    law = pd.DataFrame(rows).assign(identified=[not (b_open or c_open), not b_open, not c_open])
    return law if floor else law[law["parameter"] != "c"]


def touches(values: Array, limits: tuple[float, float]) -> bool:
    return bool(np.isclose(values[:, None], limits, atol=1e-6).any())


def frontier(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """Returns the best score that each training compute has bought, over all models and steps.

    Scores are means over seeds: the best of several seeds would favour the model that has more.

    Raises:
        TableError: several studies, no such score, or rows that cannot share an axis.
    """
    rows = means(one_study(grid(table, metric, protocol)))
    rows = rows[rows["compute"].notna()]
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    # Of equal computes the best comes first, and alone is on the frontier.
    rows = rows.sort_values(["compute", "value"], ascending=[True, sign > 0])
    best = (sign * rows["value"]).cummin()
    return rows.loc[
        best.diff().ne(0), ["compute", "value", "model", "step", "gflops", "params", "seeds"]
    ]
