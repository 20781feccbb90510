"""Forecasts: a prediction that is written down before its run is there, and scored once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from analysis import prediction
from analysis.fits import PRODUCT
from analysis.grid import grid
from analysis.joint import Points, fit, points_of
from analysis.joint_bootstrap import bootstrap, hull
from analysis.joint_bootstrap import predict as predict_joint
from analysis.joint_rows import formula
from analysis.rows import attempt
from analysis.table import TableError, digest, listed

JOINT = "size, tokens and images"
SCHEMA = 1
DRAWS = 2_000  # move a bound by 3 % of the half of its interval
# What is added when a forecast is scored, and the digest itself, are not under the digest.
OUTSIDE = ("digest", "outcome")
Forecast = dict[str, Any]


def forecast(
    table: pd.DataFrame,
    model: str,
    metric: str = "fid",
    protocol: str | None = None,
    scale: dict[str, float] | None = None,
    step: int | None = None,
) -> Forecast:
    """Predicts a score that the table does not have: interval, law, and the data it rests on.

    At the study's last step it is the law in N, tokens and their product, or that in Gflops of a
    study too small for it, as `predict` has them; at another step, the joint law.

    Raises:
        TableError: the score is there, the model is not known, or too few others are scored.
    """
    rows = grid(table, metric, protocol)
    last = int(rows.loc[rows["last"], "step"].max())
    step = step or last
    refuse_known(rows, model, step)
    by_last = by_laws if step == last else by_joint
    found = by_last(table, model, metric, protocol, scale, step)
    study = listed(rows["study"])
    return sealed(
        {
            "schema": SCHEMA,
            "study": study,
            "model": model,
            "step": step,
            "metric": metric,
            "protocol": listed(rows["protocol"]),
            "features": listed(rows["features"]),
            **found,
            "fitted": sorted(set(rows["model"]) - {model}),
            "table": digest(table),
        }
    )


def refuse_known(rows: pd.DataFrame, model: str, step: int) -> None:
    """Refuses a forecast of a score that is in the table.

    Raises:
        TableError: the score is in the table, so that it is no forecast any more.
    """
    known = rows[rows["model"].eq(model) & rows["step"].eq(step)]
    if len(known):
        raise TableError(
            f"{model} has its score at step {step:,} ({known['value'].mean():.4g}): a forecast is"
            " written before; harness predict shows what the others say of it"
        )


def by_laws(
    table: pd.DataFrame,
    model: str,
    metric: str,
    protocol: str | None,
    scale: dict[str, float] | None,
    step: int,
) -> Forecast:
    found = prediction.predict(table, model, metric, protocol, scale)
    by_law = found.set_index("law")
    law = PRODUCT if PRODUCT in by_law.index else str(by_law.index[0])
    row = by_law.loc[[law]].iloc[0]
    numbers = {name: float(row[name]) for name in ("prediction", "low", "high")}
    beyond = [] if scale is None else beyond_of(table, model, metric, protocol, scale)
    same = {"formula": row["formula"], "models": int(row["n"]), "beyond": beyond}
    return {"law": law, **numbers, **same}


def beyond_of(
    table: pd.DataFrame, model: str, metric: str, protocol: str | None, scale: dict[str, float]
) -> list[str]:
    """Returns what of the model no fitted one reaches, as a sentence; empty where all is inside."""
    reasons = list[str]()
    inside = partial(prediction.predict, table, model, metric, protocol, scale, beyond=False)
    attempt("", inside, reasons)
    return [reason.removeprefix(": ").partition(", where")[0] for reason in reasons]


def by_joint(
    table: pd.DataFrame,
    model: str,
    metric: str,
    protocol: str | None,
    scale: dict[str, float] | None,
    step: int,
) -> Forecast:
    """Predicts by the joint law of the model's family.

    Raises:
        TableError: a model that is not known, or too few runs.
    """
    rows = grid(table, metric, protocol)
    target = prediction.target_of(rows, listed(rows["data"]), model, scale)
    points = points_like(table, metric, protocol, str(target["family"].iloc[0]))
    batch = points.rows["batch_size"].iloc[0]
    tokens = float(target["tokens"].iloc[0])
    at = (1e9 * float(target["gflops"].iloc[0]) / tokens, tokens, float(batch * step))
    joint = fit(points)
    found = predict_joint(bootstrap(joint, DRAWS), *at)
    beyond = hull(points, *at)
    return {
        "law": JOINT,
        **{name: found[name] for name in ("prediction", "low", "high")},
        "formula": formula(joint),
        "models": int(points.rows["model"].nunique()),
        "beyond": beyond,
    }


def points_like(table: pd.DataFrame, metric: str, protocol: str | None, family: str) -> Points:
    """Returns the points of one family.

    Raises:
        TableError: none of its models is scored.
    """
    known = {str(p.rows["family"].iloc[0]): p for p in points_of(table, metric, protocol)}
    if family not in known:
        raise TableError(f"no {family} is scored, only {', '.join(known)}")
    return known[family]


def sealed(content: Forecast) -> Forecast:
    """Returns the forecast with its digest: of everything but the digest and the outcome."""
    kept = {name: value for name, value in content.items() if name not in OUTSIDE}
    return {**kept, "digest": seal(kept), "outcome": None}


def seal(content: Forecast) -> str:
    """Returns sixteen hex digits that change when anything of the content does."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_intact(found: Forecast) -> bool:
    """Whether nothing that was forecast was changed since, nor what came.

    Outcomes of before they had a digest are taken as they are.
    """
    came = found.get("outcome", "")
    if found.get("digest") != sealed(found)["digest"] or not isinstance(came, dict | None):
        return False
    kept = {"digest": found["digest"], **(came or {})}
    return kept.pop("seal", None) in (None, seal(kept))


def never(found: Forecast, rows: pd.DataFrame) -> bool:
    """Answers for tables alone, which have no dates."""
    return False


def outcome(
    found: Forecast, table: pd.DataFrame, older: Callable[[Forecast, pd.DataFrame], bool] = never
) -> Forecast | None:
    """Returns the score and whether the interval holds it, or None while there is none.

    The mean over seeds counts, of the recipe that a law of the study is made of (`grid`). `older`
    says of a forecast and its scores whether one was measured before the forecast was made.
    """
    try:
        rows = grid(table, found["metric"], found["protocol"])
    except TableError:  # no score under this protocol yet
        return None
    rows = rows.assign(features=rows["features"].replace("", "nothing"))  # of a loss, as `listed`
    for name in ("model", "step", "features"):
        rows = rows[rows[name].eq(found[name])]
    if rows.empty:
        return None
    value = float(rows["value"].mean())
    came = {
        "value": value,
        "hit": bool(found["low"] <= value <= found["high"]),
        "error": float(found["prediction"] / value - 1),
        "seeds": len(rows),
        "table": digest(table),
        **({"older": True} if older(found, rows) else {}),
    }
    return {**came, "seal": seal({"digest": found["digest"], **came})}


def verdict(found: Forecast) -> str:
    """Returns hit, miss, pending, or why the forecast is not counted."""
    if not is_intact(found):
        return "changed since it was written: not counted"
    if not found["outcome"]:
        return "pending"
    if found["outcome"].get("older"):
        return "scored before it was forecast: not counted"
    return "hit" if found["outcome"]["hit"] else "miss"


def hits(found: Sequence[Forecast]) -> list[bool]:
    """Returns whether the interval held the score, of each forecast that counts."""
    verdicts = [verdict(one) for one in found]
    return [one == "hit" for one in verdicts if one in ("hit", "miss")]


def forecasts_table(found: Sequence[Forecast]) -> pd.DataFrame:
    """Returns a row per forecast for the page; of one that was changed, no number is shown."""
    return pd.DataFrame(
        row_of(one) if is_intact(one) else {"Model": str(one.get("model")), "Verdict": verdict(one)}
        for one in found
    ).fillna("")


def row_of(found: Forecast) -> dict[str, str]:
    came = found["outcome"]
    return {
        "Model": found["model"],
        "Step": f"{found['step']:,}",
        "Metric": found["metric"],
        "Forecast": f"{found['prediction']:.4g} [{found['low']:.4g}, {found['high']:.4g}]",
        "Score": f"{came['value']:.4g}" if came else "",
        "Verdict": verdict(found),
        "Law": f"{found['law']}, {found['models']} models",
        "Made": found.get("made", ""),
    }
