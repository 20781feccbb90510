"""Laws of a score in log space, by least squares, and what they predict of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.linear_model import OLS, RegressionResults

from analysis.correlation import Array
from analysis.grid import final
from analysis.table import TableError, listed, published

# The product lets the gain from parameters grow with the tokens, as the slopes by patch do: on the
# published twelve the mean leave-one-out error is 6.5 % with it, 19.8 % without, 20.5 % from Gflops
# alone.
LAWS = {"one variable": ["gflops"], "two variables": ["params", "tokens", "params·tokens"]}


def slopes_by_patch(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Fits the exponent of a metric in Gflops per patch size, with its 95 % t interval.

    Raises:
        TableError: no such score, rows that cannot share an axis, or values without a logarithm.
    """
    slopes = []
    rows = positive(final(table, metric, protocol))
    for (study, patch), part in rows.groupby(["study", "patch"]):
        if len(part) > 2 and part["gflops"].nunique() > 1:
            fit = stats.linregress(np.log10(part["gflops"]), np.log10(part["value"]))
            half = stats.t.ppf(0.975, len(part) - 2) * fit.stderr
            slopes.append((study, patch, fit.slope, fit.slope - half, fit.slope + half, len(part)))
    return pd.DataFrame(slopes, columns=["study", "patch", "slope", "low", "high", "n"])


def exponents(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Fits the exponents of both laws by least squares in log space, with 95 % t intervals.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    rows = one_study(final(table, metric, protocol))
    found = []
    for law, terms in LAWS.items():
        fit = fit_law(rows, law)
        for term, value, (low, high) in zip(terms, fit.params[1:], fit.conf_int()[1:], strict=True):
            exponent = {"law": law, "exponent of": term, "value": value, "low": low, "high": high}
            found.append({**exponent, "n": len(rows)})
    return pd.DataFrame(found)


def predict(
    table: pd.DataFrame, model: str, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Predicts a model's score by both laws from all others: 95 % interval, truth where scored.

    Raises:
        TableError: the model is in neither this table nor the published one, too few others,
            several studies, or values without a logarithm.
    """
    rows = one_study(final(table, metric, protocol))
    candidates = pd.concat([rows, published()])[["model", "gflops", "params", "patch"]].dropna()
    target = candidates[candidates["model"] == model].head(1)
    if target.empty:
        raise TableError(f"model {model!r} is not known: name one of {listed(candidates['model'])}")
    truth = float(rows.loc[rows["model"] == model, "value"].mean())
    others = rows[rows["model"] != model]
    predictions = [predict_by(law, others, target, truth) for law in LAWS]
    return pd.DataFrame(predictions).assign(model=model, metric=metric)


def leave_one_out(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Predicts each model from all the others; the last row of a law is the largest model.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    models = final(table, metric, protocol)["model"]
    return pd.concat(
        [predict(table, model, metric, protocol) for model in models], ignore_index=True
    )


def predict_by(law: str, rows: pd.DataFrame, target: pd.DataFrame, truth: float) -> dict[str, Any]:
    fit = fit_law(rows, law)
    frame = fit.get_prediction(design(target, law)).summary_frame(alpha=0.05)
    prediction = 10 ** frame.iloc[0]
    exponents = zip(fit.params[1:], LAWS[law], strict=True)
    terms = " ".join(f"{value:+.3f} log {name}" for value, name in exponents)
    return {
        "law": law,
        "prediction": prediction["mean"],
        "low": prediction["obs_ci_lower"],
        "high": prediction["obs_ci_upper"],
        "truth": truth,
        "error": prediction["mean"] / truth - 1,
        "n": len(rows),
        "formula": f"log score = {fit.params[0]:.3f} {terms}",
    }


def fit_law(rows: pd.DataFrame, law: str) -> RegressionResults:
    least = len(LAWS[law]) + 2  # one more than coefficients, or no error is left to estimate
    if len(rows) < least:
        raise TableError(
            f"the law in {law} needs {least} other models, there are {len(rows)}: train more"
        )
    return OLS(np.log10(positive(rows)["value"].to_numpy()), design(rows, law)).fit()


def design(rows: pd.DataFrame, law: str) -> Array:
    """Returns the law's regressors [N, 1 + terms]: logs about 100M parameters and patch 4.

    Tokens are (input / patch)², and all models on one axis have the same input.
    """
    logs = {
        "gflops": np.log10(rows["gflops"]),
        "params": np.log10(rows["params"] / 1e8),
        "tokens": 2 * np.log10(4 / rows["patch"]),
    }
    logs["params·tokens"] = logs["params"] * logs["tokens"]
    return np.column_stack([np.ones(len(rows)), *(logs[name] for name in LAWS[law])])


def one_study(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows.

    Raises:
        TableError: they are of several studies; a law across them would mix their scores.
    """
    if rows["study"].nunique() > 1:
        raise TableError(
            f"one law for several studies ({listed(rows['study'])}): give the rows of one"
        )
    return rows


def positive(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows.

    Raises:
        TableError: a value is not above 0 and has no logarithm.
    """
    other = rows[~rows["value"].gt(0)]
    if len(other):
        raise TableError(
            f"the score of {listed(other['model'])} is not above 0, so that it has no logarithm:"
            " score it again"
        )
    return rows
