"""Before training: how many seeds a difference needs, and what training and sampling each add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.grid import SCORED
from analysis.noise import PRIORS, UNKNOWN, noise, published_noise
from analysis.table import RUN, TableError, uncertain

MOST_SEEDS = 1000
NODES = 1000  # of the deviation's distribution


@dataclass(frozen=True)
class Variances:
    """Standard deviations of a log score: of one run with its sampling, and of sampling alone.

    `low` and `high` are the 95 % interval of `run`; `sampling` is NaN where it is not known.
    """

    run: float
    low: float
    high: float
    df: float
    sampling: float
    origin: str
    is_prior: bool = False

    @property
    def training(self) -> float:
        """The share of training alone, NaN where that of sampling is not known."""
        return float(np.sqrt(max(self.run**2 - self.sampling**2, 0)))

    def of_mean(self, seeds: float, samplings: int = 1) -> float:
        """Returns the deviation of a mean over training seeds, each with so many sampling seeds."""
        if samplings == 1 or not np.isfinite(self.sampling):
            return float(self.run / np.sqrt(seeds))
        return float(np.sqrt((self.training**2 + self.sampling**2 / samplings) / seeds))


def variances(
    table: pd.DataFrame | None, metric: str = "fid", protocol: str | None = None
) -> Variances:
    """Returns the noise of a study's own seeds, else a published one that is named as such.

    Without a table, or with one that has no seeds, the published figure is of another network: its
    share of a score, not its size, is taken.
    """
    own = noise(table, metric, protocol) if table is not None else None
    if table is None or own is None or own.origin in (UNKNOWN, published_noise().origin):
        return prior()
    sampling, count, times = sampling_spread(table, metric)
    origin = own.origin + (f"; sampling from {count} checkpoints sampled again" if count else "")
    averaged = protocol is None and count and "sampling_seed" in table
    # A run is then the mean over its sampling seeds: one seed alone adds the rest of its noise.
    added = sampling**2 * (1 - 1 / times) if averaged else 0.0
    run, low, high = (float(np.sqrt(sd**2 + added)) for sd in (own.sd, *own.interval()))
    return Variances(run, low, high, own.df, sampling, origin)


def prior() -> Variances:
    """Returns the published noise."""
    found = published_noise()
    sampling = float(pd.read_csv(PRIORS)["sd_sampling"].iloc[0])
    return Variances(found.sd, *found.interval(), found.df, sampling, found.origin, True)


def sampling_spread(table: pd.DataFrame, metric: str) -> tuple[float, int, float]:
    """Returns the deviation of log scores of one checkpoint under protocols that differ by seed.

    Such protocols have another id and all else alike. With it the number of such checkpoints, and
    how often each was sampled; NaN, 0 and 1 where there are none.
    """
    rows = table[table["metric"].eq(metric) & table["value"].gt(0) & ~uncertain(table)]
    keys = [*RUN, "step", *SCORED, "guidance_channels"]
    groups = np.log(rows["value"]).groupby([rows[key] for key in keys], dropna=False)
    found = groups.agg(["var", "size"])
    found = found[found["size"] > 1]
    if found.empty:
        return float("nan"), 0, 1.0
    weights = found["size"] - 1
    spread = float(np.sqrt((found["var"] * weights).sum() / weights.sum()))
    return spread, len(found), float(found["size"].mean())


def power(difference: float, sd: float, seeds: int, cells: int = 1, alpha: float = 0.05) -> float:
    """Returns the chance that two means over seeds are told apart by a two-sided t test.

    `difference` is of log scores. The noise is estimated from these seeds, pooled over the cells,
    as `compare` does over those of a patch size: 2 (n − 1) degrees of freedom a cell. Each cell is
    tested at alpha / cells, which is what Holm asks of the first.
    """
    df, alpha = 2 * (seeds - 1) * cells, alpha / cells
    if df < 1:
        return 0.0
    centre = abs(difference) / (sd * np.sqrt(2 / seeds))
    bound = stats.t.ppf(1 - alpha / 2, df)
    # scipy's noncentral t is NaN far from its centre: the mean over deviations is as exact.
    spread = np.sqrt(stats.chi2.ppf((np.arange(NODES) + 0.5) / NODES, df) / df)
    told = stats.norm.sf(bound * spread - centre) + stats.norm.cdf(-bound * spread - centre)
    return float(told.mean())


def seeds_needed(difference: float, sd: float, wanted: float = 0.8, cells: int = 1) -> int:
    """Returns the least number of seeds of each of two recipes that tells their scores apart.

    `difference` is a share, 0.02 of 2 %.

    Raises:
        TableError: more than 1,000 would be needed, or the difference is 0.
    """
    if not difference > 0:
        raise TableError(f"a difference of {difference:.3g} cannot be told: give one above 0")
    log = float(np.log1p(difference))
    low, high = 1, 2
    while power(log, sd, high, cells) < wanted:
        low, high = high, 2 * high
        if low > MOST_SEEDS:
            raise TableError(
                f"{100 * difference:.3g} % needs more than {MOST_SEEDS:,} seeds at a noise of"
                f" {sd:.2%}: ask for a larger difference"
            )
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(log, sd, middle, cells) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def smallest_difference(sd: float, seeds: int, wanted: float = 0.8, cells: int = 1) -> float:
    """Returns the least difference, as a share, that so many seeds tell; NaN of one seed."""
    if seeds < 2:
        return float("nan")
    low, high = 0.0, 50 * sd
    for _ in range(60):
        middle = (low + high) / 2
        enough = power(middle, sd, seeds, cells) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return float(np.expm1(high))
