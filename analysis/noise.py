"""How much two runs of one recipe differ: a spread by patch size, with its degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.grid import ends, final, grid
from analysis.models import with_family
from analysis.table import PUBLISHED, published

# A published rerun sets the noise only if its source can be looked up: a page or owner/repository.
ADDRESS = r"https?://|^[\w.-]+/[\w.-]+"
PRIORS = PUBLISHED.with_name("noise.csv")
# The recorded interval of FID∞ is 2.16 standard errors to a side: t at 13 degrees of freedom.
FID_INFINITY_T = float(stats.t.ppf(0.975, 13))
# A patch size without seeds may be noisier than any with them: published noise of one metric is 1 %
# to 2 % of the score over sizes and steps (arXiv 2606.20536).
UNSEEN = 2.0
UNKNOWN = "no seeds, so the noise is not known: train one model with three"
BY_PATCH = ["patch", "log_gflops", "runs", "sd", "df"]


@dataclass(frozen=True)
class Noise:
    """The standard deviation of the log score of one run, training and sampling together.

    `by_patch` has patch, log_gflops, runs, sd and df of each patch size with seeds; `sd` and `df`
    are those of all runs pooled, NaN and 0 where nothing is known. `prior` is what is taken of a
    patch size without seeds: twice the noisiest with them. `size` is the exponent of the spread in
    Gflops within a patch, with its 95 % interval; NaN where too few models tell. `replicates` has
    the models that it was measured on.
    """

    origin: str
    by_patch: pd.DataFrame
    sd: float = float("nan")
    df: float = 0.0
    prior: tuple[float, float] = (float("nan"), 0.0)
    size: tuple[float, float, float] = (float("nan"),) * 3
    replicates: pd.DataFrame | None = None

    @property
    def differs_by_size(self) -> bool:
        _, low, high = self.size
        return low > 0 or high < 0

    def at(self, patch: float, gflops: float = float("nan")) -> tuple[float, float]:
        """Returns the standard deviation and degrees of freedom at a patch size.

        It is that of a size where one is given and the runs tell sizes apart. The runs of other
        patches are not in it: with few of them no test tells that a patch is noisier, and bands by
        the spread of all cover 83 % to 90 % there (docs/statistics.md).
        """
        own = self.of_patch(patch)
        if own.empty:
            return self.prior
        row = own.iloc[0]
        known = self.differs_by_size and np.isfinite(gflops)
        away = self.size[0] * (np.log(gflops) - row["log_gflops"]) if known else 0.0
        return float(row["sd"] * np.exp(away)), float(row["df"])

    def of_patch(self, patch: float) -> pd.DataFrame:
        """Returns the row of a patch size, empty where it has no seeds; NaN is one of its own."""
        patches = self.by_patch["patch"]
        return self.by_patch[patches.isna() if patch != patch else patches.eq(patch)]

    def interval(self) -> tuple[float, float]:
        """Returns the 95 % interval of the pooled standard deviation, by χ²."""
        return interval(self.sd, self.df)


def interval(sd: float, df: float) -> tuple[float, float]:
    """Returns the 95 % interval of a standard deviation, by χ²."""
    low, high = stats.chi2.ppf([0.975, 0.025], df)
    return float(sd * np.sqrt(df / low)), float(sd * np.sqrt(df / high))


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
    return Noise(UNKNOWN, pd.DataFrame(columns=BY_PATCH))


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
    return Noise(origin, pd.DataFrame(columns=BY_PATCH), sd, df, (sd, df))


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
    """Pools the spread of several models, of each patch size apart."""
    found = found.assign(df=found["runs"] - 1).assign(squares=lambda f: f["df"] * f["sd"] ** 2)
    groups = found.groupby("patch", dropna=False)
    by_patch = groups[["runs", "df", "squares"]].sum().reset_index()
    by_patch["log_gflops"] = groups["log_gflops"].mean().to_numpy()
    by_patch["sd"] = np.sqrt(by_patch["squares"] / by_patch["df"])
    noisiest = by_patch.sort_values("sd").iloc[-1]
    prior = (UNSEEN * float(noisiest["sd"]), float(noisiest["df"]))
    text = f"{found['runs'].sum()} runs of {len(found)} models {origin}"
    total = float(found["df"].sum())
    sd = float(np.sqrt(found["squares"].sum() / total))
    columns = found.drop(columns=["df", "squares"])
    return Noise(text, by_patch.drop(columns="squares"), sd, total, prior, by_size(found), columns)


def together(a: Noise, b: Noise) -> tuple[Noise, Noise]:
    """Returns the noise of two studies of one kind, each from the seeds of both.

    Where their spreads differ (F test at 1 %) each has its own.
    """
    if a.replicates is None or b.replicates is None:
        return (a, a) if a.origin == b.origin else (a, b)
    if a.replicates.equals(b.replicates):
        return a, a
    ratio = (a.sd / b.sd) ** 2 if b.sd > 0 else float("inf")
    tails = stats.f.cdf(ratio, a.df, b.df), stats.f.sf(ratio, a.df, b.df)
    if min(tails) < 0.005:
        return a, b
    known = pd.concat([a.replicates, b.replicates], ignore_index=True)
    both = pooled(known, "over seeds of both studies")
    return both, both


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
