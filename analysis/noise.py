"""How much two runs of one recipe differ: a spread by patch size, with its degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from analysis.correlation import Array
from analysis.grid import ends, final, grid
from analysis.models import with_family
from analysis.table import PUBLISHED, published

# A published rerun sets the noise only if its source can be looked up: a page or owner/repository.
ADDRESS = r"https?://|^[\w.-]+/[\w.-]+"
PRIORS = PUBLISHED.with_name("noise.csv")
# The recorded interval of FID∞ is 2.16 standard errors to a side: t at 13 degrees of freedom.
FID_INFINITY_T = float(stats.t.ppf(0.975, 13))
UNKNOWN = "no seeds, so the noise is not known: train one model with three"


@dataclass(frozen=True)
class Noise:
    """The standard deviation of the log score of one run, training and sampling together.

    `by_patch` has patch, log_gflops, runs, own_sd, own_df, and sd and df after shrinkage
    (`shrunk`); `sd` and `df` are those of all runs pooled, NaN and 0 where nothing is known.
    `prior` is what is known of a patch size without runs of its own. `size` is the exponent of the
    spread in Gflops within a patch, with its 95 % interval; NaN where too few models tell.
    """

    origin: str
    by_patch: pd.DataFrame
    sd: float = float("nan")
    df: float = 0.0
    prior: tuple[float, float] = (float("nan"), 0.0)
    size: tuple[float, float, float] = (float("nan"),) * 3

    @property
    def differs_by_size(self) -> bool:
        _, low, high = self.size
        return low > 0 or high < 0

    def at(self, patch: float, gflops: float = float("nan")) -> tuple[float, float]:
        """Returns the standard deviation and degrees of freedom at a patch size.

        It is that of a size where one is given and the runs tell sizes apart.
        """
        own = self.by_patch[self.by_patch["patch"].eq(patch)]
        if own.empty:
            return self.prior
        row = own.iloc[0]
        known = self.differs_by_size and np.isfinite(gflops)
        away = self.size[0] * (np.log(gflops) - row["log_gflops"]) if known else 0.0
        return float(row["sd"] * np.exp(away)), float(row["df"])

    def interval(self) -> tuple[float, float]:
        """Returns the 95 % interval of the pooled standard deviation, by χ²."""
        low, high = stats.chi2.ppf([0.975, 0.025], self.df)
        return float(self.sd * np.sqrt(self.df / low)), float(self.sd * np.sqrt(self.df / high))


def noise(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> Noise:
    """Measures the noise of one run on models with several seeds, at their last step alone.

    Checkpoints of one run are not independent. Without seeds, FID of the paper's models through
    Inception has their public reruns, and that of others a published prior.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    rows = grid(table, metric, protocol)
    found = replicates(rows[ends(rows)])
    if len(found):
        return pooled(found, "over seeds")
    if (
        metric == "fid"
        and set(rows["features"]) == {"inception"}
        and set(rows["family"]) == {"DiT"}
    ):
        return pooled(replicates(reruns()), "of the paper's models, its own and public reruns")
    if metric == "fid" and set(rows["features"]) == {"inception"}:
        return published_noise()
    return Noise(UNKNOWN, pd.DataFrame(columns=["patch", "sd", "df"]))


def published_noise() -> Noise:
    """Returns the published spread of FID over seeds, of another network, which is named.

    Its share of a score is taken, and its degrees of freedom from its training seeds.
    """
    row = pd.read_csv(PRIORS).iloc[0]
    sd, df = float(row["sd_run"]), float(row["training_seeds"] - 1)
    origin = (
        f"a published prior, {row['source']}: {row['model']} on {row['data']}, FID through"
        f" {row['features']} ({row['setting']}); no seeds of this study, train one model with three"
    )
    return Noise(origin, pd.DataFrame(columns=["patch", "sd", "df"]), sd, df, (sd, df))


def reruns() -> pd.DataFrame:
    """Returns the paper's score and the public reruns with an address, of models that have both."""
    table = with_family(published())
    found = table[table["protocol"].eq("rerun") & table["source"].str.contains(ADDRESS)]
    paper = final(table)
    return pd.concat([paper[paper["model"].isin(found["model"])], found])


def replicates(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns model, patch, runs, log Gflops, deviation of log score, of models with several runs.

    A score that is not above 0 has no logarithm, and its run is left out.
    """
    rows = rows[rows["value"].gt(0)].assign(log=lambda kept: np.log(kept["value"]))
    groups = rows.groupby(["model", "patch"], dropna=False, sort=False)
    found = groups.agg(runs=("log", "size"), sd=("log", "std"), gflops=("gflops", "first"))
    found = found[found["runs"] > 1].reset_index()
    return found.assign(log_gflops=np.log(found["gflops"])).drop(columns="gflops")


def pooled(found: pd.DataFrame, origin: str) -> Noise:
    """Pools the spread of several models, by patch size where the runs tell patches apart."""
    found = found.assign(df=found["runs"] - 1).assign(squares=lambda f: f["df"] * f["sd"] ** 2)
    groups = found.groupby("patch", dropna=False)
    by_patch = (
        groups[["runs", "df", "squares"]]
        .sum()
        .assign(log_gflops=groups["log_gflops"].mean())
        .reset_index()
    )
    total = float(found["df"].sum())
    variance = float(found["squares"].sum() / total)
    own_df = by_patch["df"].to_numpy(float)
    own = by_patch["squares"].to_numpy() / own_df
    prior_variance, prior_df = shrinkage(own, own_df, variance)
    variances, dfs = shrunk(own, own_df, prior_variance, prior_df, total)
    by_patch = by_patch.assign(
        own_sd=np.sqrt(own), own_df=own_df, sd=np.sqrt(variances), df=dfs
    ).drop(columns="squares")
    text = f"{found['runs'].sum()} runs of {len(found)} models {origin}"
    prior = (float(np.sqrt(prior_variance)), min(prior_df, total))
    return Noise(text, by_patch, float(np.sqrt(variance)), total, prior, by_size(found))


def by_size(found: pd.DataFrame) -> tuple[float, float, float]:
    """Returns the exponent of the spread in Gflops and its interval: NaN of too few models.

    Log variances of normal scores have known means and variances (digamma and trigamma of half
    their degrees of freedom), and are regressed on log Gflops within patches; where they lie
    further from the line than that, the interval is wider.
    """
    rows = found[found["sd"].gt(0)]
    df = len(rows) - rows["patch"].nunique(dropna=False) - 1
    half = rows["df"] / 2
    weight = 1 / pd.Series(special.polygamma(1, half), rows.index)
    parts = {"x": rows["log_gflops"], "y": 2 * np.log(rows["sd"]) - special.digamma(half)}
    centred = pd.DataFrame({name: within(part, weight, rows) for name, part in parts.items()})
    spread = float((weight * centred["x"] ** 2).sum())
    if df < 2 or not spread > 0:
        return (float("nan"),) * 3
    slope = float((weight * centred["x"] * centred["y"]).sum() / spread)
    away = float((weight * (centred["y"] - slope * centred["x"]) ** 2).sum())
    reach = float(stats.t.ppf(0.975, df) * np.sqrt(max(1.0, away / df) / spread))
    return slope / 2, (slope - reach) / 2, (slope + reach) / 2


def within(values: pd.Series, weight: pd.Series, rows: pd.DataFrame) -> pd.Series:
    """Returns values less the weighted mean of their patch."""
    groups = rows["patch"].fillna(0)
    mean = (weight * values).groupby(groups).transform("sum") / weight.groupby(groups).transform(
        "sum"
    )
    return values - mean


def shrunk(
    own: Array, own_df: Array, prior: float, prior_df: float, total: float
) -> tuple[Array, Array]:
    """Returns variances drawn towards the prior, and their degrees of freedom, never above all."""
    if np.isinf(prior_df):
        return np.full_like(own, prior), np.full_like(own, total)
    variances = (prior_df * prior + own_df * own) / (prior_df + own_df)
    return variances, np.minimum(prior_df + own_df, total)


def shrinkage(own: Array, df: Array, variance: float) -> tuple[float, float]:
    """Estimates the prior of variances, an inverse χ²: (its variance, its degrees of freedom).

    The degrees of freedom are infinite where the variances do not differ by more than they would
    by chance: then all are one. Few runs per patch do not make a test of equality tell, and without
    the prior t has few degrees of freedom. Smyth, Statistical Applications in Genetics and
    Molecular Biology 3 (2004), section 6.2.
    """
    if len(own) < 2 or not (own > 0).all():
        return variance, float("inf")
    e = np.log(own) - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(ddof=1) - special.polygamma(1, df / 2).mean()
    if not excess > 1e-6:
        return variance, float("inf")
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - excess, 1e-3, 2e6)
    return float(np.exp(e.mean() + special.digamma(half) - np.log(half))), 2 * half


def sampling_noise(table: pd.DataFrame, protocol: str | None = None) -> tuple[float, int]:
    """Returns the median relative standard error of FID∞, and of how many scores: images alone.

    Training and seeds are not in it. It says how well a line through overlapping subsets fits, so
    that it is no bound of the noise of new images.

    Raises:
        TableError: FID∞ or its bounds were not scored, or rows that cannot share an axis.
    """
    names = ("fid_infinity", "fid_infinity_low", "fid_infinity_high")
    keys = ["run", "model", "seed", "step"]
    value, low, high = (
        grid(table, name, protocol).set_index(keys)["value"].groupby(level=keys).first()
        for name in names
    )
    relative = ((high - low) / (2 * FID_INFINITY_T * value)).dropna()
    return float(relative.median()), len(relative)
