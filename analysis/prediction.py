"""What the laws say of a model they have not seen, and how far that is from the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.fits import (
    GFLOPS,
    LAWS,
    PRODUCT,
    complete,
    design,
    fit_law,
    is_fitted,
    one_study,
    per_family,
    positive,
)
from analysis.forms import range_of_forms
from analysis.grid import final, grid
from analysis.models import with_family, with_tokens_of
from analysis.table import TableError, listed, published

# Hold-out by range: models up to this share of the count, by Gflops, are fitted.
FITTED = 2 / 3


def predict(
    table: pd.DataFrame,
    model: str = "",
    metric: str = "fid",
    protocol: str | None = None,
    scale: dict[str, float] | None = None,
    beyond: bool = True,
) -> pd.DataFrame:
    """Predicts a model's score by both laws from the others of its family: 95 % interval, truth.

    `scale` are the gflops, params and patch (or tokens) of a model that the table does not hold;
    of a name in the published table with the same data they are known. `beyond=False` refuses a
    model without a score whose scale no fitted model reaches. Columns `forms_low` and `forms_high`
    bound the predictions of all `forms` that do as well.

    Raises:
        TableError: the model is not known or of other data, too few others, several studies,
            values without a logarithm, or a model beyond the fitted ones.
    """
    rows = positive(one_study(final(table, metric, protocol)))
    data = listed(grid(table, metric, protocol)["data"])
    target = target_of(rows, data, model, scale)
    is_target = rows["model"].eq(target["model"].iloc[0]) & (scale is None)
    truth = float(rows.loc[is_target, "value"].mean())
    others = rows[rows["family"].eq(target["family"].iloc[0]) & ~is_target]
    if not beyond and np.isnan(truth):
        within_range(target, others)
    found = by_every_law(others, target, truth)
    found = found.assign(model=target["model"].iloc[0], metric=metric)
    if not found["law"].eq(PRODUCT).any():
        return found
    forms = range_of_forms(complete(others, PRODUCT), target)
    return found.assign(**{name: found["law"].map({PRODUCT: x}) for name, x in forms.items()})


def target_of(
    rows: pd.DataFrame, data: str, model: str, scale: dict[str, float] | None
) -> pd.DataFrame:
    """Returns one row: the model with its family, Gflops, parameters and tokens.

    Raises:
        TableError: the model is not known, or its family is not in the table.
    """
    columns = ["model", "family", "gflops", "params", "tokens"]
    if scale is not None:
        name = {"model": [model or "the model"], "size": [""], "patch": [np.nan]}
        target = with_tokens_of(pd.DataFrame({**name, "params": [np.nan], **scale}), rows)
        if not model or rows["family"].nunique() == 1:
            target = target.assign(family=rows["family"].iloc[0])
    else:
        paper = with_family(published())
        elsewhere = paper[paper["data"].ne(data)]
        candidates = pd.concat([rows, paper[paper["data"].eq(data) & paper["gflops"].gt(0)]])
        target = candidates[candidates["model"] == model].head(1)
        if target.empty and model in set(elsewhere["model"]):
            trained = listed(elsewhere.loc[elsewhere["model"].eq(model), "data"])
            raise TableError(
                f"{model} is a model of {trained} and this study's data are {data}: give its"
                " --gflops, --params and --patch on these data"
            )
        if target.empty:
            raise TableError(
                f"model {model!r} is not known: name one of {listed(candidates['model'])}, or give"
                " its --gflops, --params and --patch"
            )
    if target["family"].iloc[0] not in set(rows["family"]):
        raise TableError(
            f"no {target['family'].iloc[0]} is scored, only {listed(rows['family'])}: one family's"
            " law does not hold for another's models"
        )
    return target[columns]


def within_range(target: pd.DataFrame, others: pd.DataFrame) -> None:
    """Raises TableError where the target's scale is outside of the fitted models'."""
    outside = [
        f"{name} {value:.4g} (fitted: {low:.4g} to {high:.4g})"
        for name in ("gflops", "params", "tokens")
        for value, low, high in [(target[name].iloc[0], others[name].min(), others[name].max())]
        if value < low * 0.999 or value > high * 1.001
    ]
    if outside:
        raise TableError(
            f"{target['model'].iloc[0]} is beyond the fitted models in {', '.join(outside)}, where"
            " no score tests a law: add --beyond to extrapolate"
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
        "n": int(fit.nobs),
        "formula": f"log score = {fit.params[0]:.3f} {terms}",
    }


def by_every_law(others: pd.DataFrame, target: pd.DataFrame, truth: float) -> pd.DataFrame:
    """Predicts by every law whose needs the target and enough others have.

    Raises:
        TableError: there is none.
    """
    able = [law for law in LAWS if len(complete(target, law)) and is_fitted(others, law)]
    laws = able or [GFLOPS]  # whose fit says how many models it needs
    return pd.DataFrame([predict_by(law, others, target, truth) for law in laws])


def leave_one_out(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Predicts each model from all others of its family; columns as of `predict`, and family.

    Raises:
        TableError: too few models in every family, several studies, or values without a logarithm.
    """
    return per_family(table, metric, protocol, leave_one_out_of)


def leave_one_out_of(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(
        [
            held_out(rows[rows["model"] != model], rows[rows["model"] == model])
            for model in rows["model"]
        ]
    )


def hold_out(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """Predicts the upper third of each family's models, by Gflops, from the lower two thirds.

    It is what a law is for: to leave one out of a grid is mostly interpolation.

    Raises:
        TableError: too few models in every family, several studies, or values without a logarithm.
    """
    return per_family(table, metric, protocol, hold_out_of)


def hold_out_of(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.sort_values("gflops")
    count = int(np.ceil(FITTED * len(rows)))
    if count == len(rows):
        raise TableError(
            f"a hold-out by range needs 3 models, there are {len(rows)}: add sizes to the sweep's"
            " models"
        )
    places = range(count, len(rows))
    return pd.concat([held_out(rows.iloc[:count], rows.iloc[[place]]) for place in places])


def held_out(others: pd.DataFrame, target: pd.DataFrame) -> pd.DataFrame:
    predictions = by_every_law(others, target, float(target["value"].iloc[0]))
    return predictions.assign(model=target["model"].iloc[0])


def mean_error(rows: pd.DataFrame) -> float:
    """Returns the typical relative error of predictions, exp(mean |log(prediction / truth)|) − 1.

    Half as much and twice as much count alike, which the mean of |prediction / truth − 1| does not.
    """
    return float(np.expm1(np.abs(np.log(rows["prediction"] / rows["truth"])).mean()))
