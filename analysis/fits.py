"""Correlations with compute, laws in log space and what they predict; each takes the table and returns a frame."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS, RegressionResults

from analysis.tables import final, listed, published

Array = NDArray[np.float64]
DRAWS = 10_000
# Intervals are part of the report, so the draws behind them are the same each time it is written.
SEED = 0


def pearson(x: Array, y: Array, axis: int = -1) -> Array:
    """Over the last axis, without the p-value for which scipy's takes twenty times as long."""
    dx, dy = (v - v.mean(-1, keepdims=True) for v in (x, y))
    return np.asarray((dx * dy).sum(-1) / np.sqrt((dx**2).sum(-1) * (dy**2).sum(-1)))


def spearman(x: Array, y: Array, axis: int = -1) -> Array:
    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


def kendall(x: Array, y: Array, axis: int = -1) -> Array:
    """tau-b over the last axis, all draws at once: scipy's takes one pair of vectors, and 10,000 of them 4 s."""
    dx, dy = (np.sign(v[..., :, None] - v[..., None, :]) for v in (x, y))
    return np.asarray(
        (dx * dy).sum((-1, -2)) / np.sqrt((dx**2).sum((-1, -2)) * (dy**2).sum((-1, -2)))
    )


# The product lets the gain from parameters grow with the tokens, as the slopes by patch do: on the published twelve the
# mean leave-one-out error is 6.5 % with it, 19.8 % without, 20.5 % from Gflops alone.
LAWS = {"one variable": ["gflops"], "two variables": ["params", "tokens", "params·tokens"]}
STATISTICS: dict[str, Callable[..., Array]] = {
    "pearson": pearson,
    "spearman": spearman,
    "kendall": kendall,
}


def correlation(
    table: pd.DataFrame,
    metric: str = "fid",
    protocol: str | None = None,
    statistics: Iterable[str] = STATISTICS,
) -> pd.DataFrame:
    """How a metric follows log10 Gflops at the last step, with intervals over models (BCa) and over whole sizes."""
    studies = final(table, metric, protocol).groupby("study")
    return pd.concat([_correlate(rows, metric, statistics) for _, rows in studies])


def _correlate(rows: pd.DataFrame, metric: str, statistics: Iterable[str]) -> pd.DataFrame:
    if len(rows) < 3:
        raise ValueError(
            f"a correlation needs 3 models at one step, {metric} has {len(rows)}: train and score more"
        )
    x, y = np.log10(rows["gflops"].to_numpy()), rows["value"].to_numpy()
    found = [
        {
            "statistic": name,
            "value": float(of(x, y)),
            **_bca(of, x, y),
            **_over_sizes(of, x, y, rows),
        }
        for name, of in STATISTICS.items()
        if name in statistics
    ]
    return pd.DataFrame(found).assign(
        metric=metric, n=len(rows), step=rows["step"].iloc[0], study=rows["study"].iloc[0]
    )


def _bca(of: Callable[..., Array], x: Array, y: Array) -> dict[str, float]:
    """The 95 % BCa interval; NaN where so few models are left that resamples of one point have no correlation."""
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.bootstrap(
            (x, y),
            of,
            paired=True,
            vectorized=True,
            n_resamples=DRAWS,
            method="BCa",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    return {"low": float(found.low), "high": float(found.high)}


def _over_sizes(
    of: Callable[..., Array], x: Array, y: Array, rows: pd.DataFrame
) -> dict[str, float]:
    """Models of one size are not independent, so sizes are drawn whole; with four sizes the interval is coarse."""
    clusters = [np.flatnonzero(rows["size"] == size) for size in rows["size"].unique()]
    drawn = np.random.default_rng(SEED).integers(len(clusters), size=(DRAWS, len(clusters)))
    # Four sizes give only 35 different draws: each is computed once and counted as often as it came.
    kinds, counts = np.unique(np.sort(drawn), axis=0, return_counts=True)
    picked = [np.concatenate([clusters[i] for i in kind]) for kind in kinds]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.repeat([float(of(x[i], y[i])) for i in picked], counts)
        low, high = np.nanquantile(found, [0.025, 0.975])
    return {"size_low": float(low), "size_high": float(high)}


def in_words(found: pd.DataFrame) -> str:
    """A correlation with its intervals, as under Figure 8; a perfect one has no BCa interval."""
    bounds = [
        f" [{low:.2f}, {high:.2f}]" if low < high else ""
        for low, high in zip(found["low"], found["high"], strict=True)
    ]
    words = [
        f"{name.capitalize()} {value:.2f}"
        for name, value in zip(found["statistic"], found["value"], strict=True)
    ]
    said = ", ".join(word + bound for word, bound in zip(words, bounds, strict=True))
    return f"{said}, n = {found['n'].iloc[0]}".replace("-", "\N{MINUS SIGN}")


def slopes_by_patch(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """The exponent of the metric in Gflops among the models of one patch size, with its 95 % t interval."""
    found = []
    for (study, patch), rows in final(table, metric, protocol).groupby(["study", "patch"]):
        if len(rows) > 2:
            fit = stats.linregress(np.log10(rows["gflops"]), np.log10(rows["value"]))
            half = stats.t.ppf(0.975, len(rows) - 2) * fit.stderr
            found.append((study, patch, fit.slope, fit.slope - half, fit.slope + half, len(rows)))
    return pd.DataFrame(found, columns=["study", "patch", "slope", "low", "high", "n"])


def exponents(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """The exponents of both laws, least squares in log space, with 95 % t intervals."""
    rows = single(final(table, metric, protocol))
    found = []
    for law, terms in LAWS.items():
        fit = _fit(rows, law)
        intervals = fit.conf_int()[1:]
        found += [
            {
                "law": law,
                "exponent of": term,
                "value": value,
                "low": low,
                "high": high,
                "n": len(rows),
            }
            for term, value, (low, high) in zip(terms, fit.params[1:], intervals, strict=True)
        ]
    return pd.DataFrame(found)


def predict(
    table: pd.DataFrame,
    model: str,
    metric: str = "fid",
    protocol: str | None = None,
    target: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """What both laws say of a model from all the others: prediction, 95 % interval, and the truth where it is there.

    `target` gives gflops, params and patch of a model that neither this table nor the published one knows.
    """
    rows = single(final(table, metric, protocol))
    known = pd.concat([rows, published()])[["model", "gflops", "params", "patch"]].dropna()
    at = pd.DataFrame([target]) if target else known[known["model"] == model].head(1)
    if at.empty:
        raise ValueError(
            f"model {model!r} is not known: give its gflops, params and patch, or one of {listed(known['model'])}"
        )
    truth = float(rows.loc[rows["model"] == model, "value"].mean())
    others = rows[rows["model"] != model]
    return pd.DataFrame([_predicted(others, at, law, truth) for law in LAWS]).assign(
        model=model, metric=metric
    )


def leave_one_out(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Each model predicted from all the others; the last row of each law is the largest, the hardest to foresee."""
    rows = final(table, metric, protocol)
    return pd.concat(
        [predict(table, model, metric, protocol) for model in rows["model"]], ignore_index=True
    )


def _predicted(rows: pd.DataFrame, at: pd.DataFrame, law: str, truth: float) -> dict[str, Any]:
    fit = _fit(rows, law)
    found = 10 ** fit.get_prediction(design(at, law)).summary_frame(alpha=0.05).iloc[0]
    terms = " ".join(
        f"{b:+.3f} log {name}" for b, name in zip(fit.params[1:], LAWS[law], strict=True)
    )
    return {
        "law": law,
        "prediction": found["mean"],
        "low": found["obs_ci_lower"],
        "high": found["obs_ci_upper"],
        "truth": truth,
        "error": found["mean"] / truth - 1,
        "n": len(rows),
        "formula": f"log score = {fit.params[0]:.3f} {terms}",
    }


def _fit(rows: pd.DataFrame, law: str) -> RegressionResults:
    least = (
        len(LAWS[law]) + 2
    )  # one more than there are coefficients, or there is no error left to estimate
    if len(rows) < least:
        raise ValueError(
            f"the law in {law} needs {least} other models, there are {len(rows)}: train more"
        )
    return OLS(np.log10(rows["value"].to_numpy()), design(rows, law)).fit()


def design(rows: pd.DataFrame, law: str) -> Array:
    """Logs, about 100M parameters and patch 4, so that each exponent is the one at that point.

    Tokens are (input / patch)², and all models on one axis have the same input.
    """
    logs = {
        "gflops": np.log10(rows["gflops"]),
        "params": np.log10(rows["params"] / 1e8),
        "tokens": 2 * np.log10(4 / rows["patch"]),
    }
    logs["params·tokens"] = logs["params"] * logs["tokens"]
    return np.column_stack([np.ones(len(rows)), *(logs[name] for name in LAWS[law])])


def single(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, if they are of one study: a law across two would mix their scores."""
    if rows["study"].nunique() > 1:
        raise ValueError(
            f"one law for several studies ({listed(rows['study'])}): give the rows of one"
        )
    return rows
