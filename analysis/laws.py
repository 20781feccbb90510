"""Laws beyond a straight line: a power law with a floor, the compute frontier, isoFLOP parabolas."""

import numpy as np
import pandas as pd
from scipy import stats

from analysis.fits import Array, single
from analysis.tables import HIGHER_IS_BETTER, final, grid

CELLS, MARGIN, ZOOMS = 61, 4, 6
LEAST_SQUARES = 1e9  # a Huber scale that no residual reaches
# The floor is searched as its share of the largest model's score, which is bounded whatever the units are.
LIMITS = {False: [(-1.0, 3.0), (0.0, 0.0)], True: [(0.01, 3.0), (0.0, 0.99)]}


def power_law(
    table: pd.DataFrame, metric: str = "fid", floor: bool = False, protocol: str | None = None
) -> pd.DataFrame:
    """score = a / Gflops^b + c, Huber loss in log space, each parameter with its 95 % profile interval.

    Given b and the floor the best a is a location (variable projection), so the search is a grid over those two, each
    node a start, zoomed into the region that fits as well as the best. The extent of that region is the interval.
    """
    rows = single(final(table, metric, protocol))
    spare = len(rows) - (3 if floor else 2)
    if spare < 2:
        raise ValueError(
            f"a power law {'with a floor ' * floor}needs {len(rows) + 2 - spare} models, not {len(rows)}"
        )
    log_g, log_y = np.log(rows["gflops"].to_numpy()), np.log(rows["value"].to_numpy())
    threshold = 1 + stats.f.ppf(0.95, 1, spare) / spare
    # How far an outlier is can be told only from the residuals of a first, plain pass.
    b, share = _nodes(LIMITS[floor])
    _, loss, spread = _project(log_g, log_y, b, share, LEAST_SQUARES)
    scale = max(1.345 * 1.4826 * spread, 1e-9)
    for _ in range(ZOOMS):
        log_a, loss, _ = _project(log_g, log_y, b, share, scale)
        inside = loss <= loss.min() * threshold
        last, (b, share) = (log_a, b, share), _nodes(_zoom(b, share, inside))
    return _profile(*last, loss, inside, log_g, floor).assign(n=len(rows), metric=metric)


def _nodes(box: list[tuple[float, float]]) -> tuple[Array, Array]:
    b, share = (np.linspace(low, high, CELLS if high > low else 1) for low, high in box)
    return b[:, None], share[None, :]


def _project(
    log_g: Array, log_y: Array, b: Array, share: Array, scale: float
) -> tuple[Array, Array, float]:
    """At each node the best log a, by reweighting, the Huber loss there, and the best node's median residual."""
    shape = np.exp(-b[..., None] * log_g) + _floor(b, share, log_g)[..., None]
    target = log_y - np.log(shape)
    log_a = target.mean(-1, keepdims=True)
    for _ in range(10 if scale < LEAST_SQUARES else 0):
        weight = scale / np.maximum(np.abs(target - log_a), scale)
        log_a = (weight * target).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
    far = np.abs(target - log_a)
    loss = np.where(far <= scale, far**2, 2 * scale * far - scale**2).sum(-1)
    return log_a[..., 0], loss, float(np.median(far.reshape(-1, len(log_g))[loss.argmin()]))


def _floor(b: Array, share: Array, log_g: Array) -> Array:
    """c / a, from the floor's share of the score at the largest model."""
    return np.asarray(share / (1 - share) * np.exp(-b * log_g.max()))


def _zoom(b: Array, share: Array, inside: Array) -> list[tuple[float, float]]:
    """The box around the nodes that fit, and some more: b and the floor trade along a ridge that a coarse grid cuts."""
    box = []
    for axis, kept in ((b[:, 0], inside.any(1)), (share[0], inside.any(0))):
        first, last = np.flatnonzero(kept)[[0, -1]]
        box.append(
            (float(axis[max(first - MARGIN, 0)]), float(axis[min(last + MARGIN, len(axis) - 1)]))
        )
    return box


def _profile(
    log_a: Array, b: Array, share: Array, loss: Array, inside: Array, log_g: Array, floor: bool
) -> pd.DataFrame:
    best = np.unravel_index(loss.argmin(), loss.shape)
    nodes = {"a": np.exp(log_a), "b": b + 0 * share, "c": np.exp(log_a) * _floor(b, share, log_g)}
    rows = [
        {
            "parameter": name,
            "value": node[best],
            "low": node[inside].min(),
            "high": node[inside].max(),
        }
        for name, node in nodes.items()
    ]
    b_open, c_open = (
        floor_or_b and bool(np.isclose(node[inside][:, None], limits, atol=1e-6).any())
        for floor_or_b, node, limits in (
            (True, nodes["b"], LIMITS[floor][0]),
            (floor, share + 0 * b, LIMITS[floor][1]),
        )
    )
    found = pd.DataFrame(rows).assign(identified=[not (b_open or c_open), not b_open, not c_open])
    return found if floor else found[found["parameter"] != "c"]


def statement(found: pd.DataFrame) -> str:
    """A power law in words, which say plainly what the points do not determine."""
    words = [
        f"{row['parameter']} = {row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
        + (
            ""
            if row["identified"]
            else ", not identified, these points fit any value in the interval"
        )
        for _, row in found.iterrows()
    ]
    form = "a / Gflops^b + c" if "c" in set(found["parameter"]) else "a / Gflops^b"
    return f"{form} over {found['n'].iloc[0]} models: {'; '.join(words)}."


def frontier(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """The best score that each training compute has bought so far, over all models and steps."""
    rows = single(grid(table, metric, protocol)).sort_values("compute")
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    best = (sign * rows["value"]).cummin()
    return rows.loc[best.diff().ne(0), ["compute", "value", "model", "step", "gflops", "params"]]


def isoflop(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None, levels: int = 6
) -> pd.DataFrame:
    """The best number of parameters at equal training compute, per patch, from a parabola in log parameters.

    A curve is interpolated between its own scores, never beyond; a compute with fewer than three sizes is left out.
    """
    rows, found = single(grid(table, metric, protocol)), []
    for patch, part in rows.groupby("patch"):
        for compute in np.geomspace(part["compute"].min(), part["compute"].max(), levels):
            points = [
                _at(run.sort_values("compute"), compute)
                for _, run in part.groupby(["model", "seed"], dropna=False)
            ]
            covered = np.array([point for point in points if np.isfinite(point).all()])
            if len(covered) and len(np.unique(covered[:, 0])) > 2:
                found.append(
                    (patch, compute, *_vertex(covered, metric in HIGHER_IS_BETTER), len(covered))
                )
    return pd.DataFrame(found, columns=["patch", "compute", "params", "value", "inside", "n"])


def _at(run: pd.DataFrame, compute: float) -> tuple[float, float]:
    """log params and log score of one run at a training compute between its first and last score."""
    x, y = np.log(run["compute"].to_numpy()), np.log(run["value"].to_numpy())
    return float(np.log(run["params"].iloc[0])), float(
        np.interp(np.log(compute), x, y, np.nan, np.nan)
    )


def _vertex(points: Array, highest: bool) -> tuple[float, float, bool]:
    """The parabola's best point, and whether it is a best one among the sizes: outside of them it is a guess."""
    fit = np.polynomial.Polynomial.fit(points[:, 0], points[:, 1], 2).convert()
    at = -fit.coef[1] / (2 * fit.coef[2])
    inside = points[:, 0].min() < at < points[:, 0].max() and (fit.coef[2] < 0) == highest
    return float(np.exp(at)), float(np.exp(fit(at))), bool(inside)
