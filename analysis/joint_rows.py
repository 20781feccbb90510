"""The joint law as rows of the statistics: exponents, what refutes it, the best size and data."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from analysis.diagnostics import diagnosis
from analysis.grid import axis_label, grid
from analysis.joint import ALPHA, PARAMETERS, A, Joint, Points, fit, points_from, points_of
from analysis.joint_bootstrap import Draws, bootstrap, intervals
from analysis.loss_to_fid import (
    exponent_interval,
    left_out,
    pairs,
    typical_error,
)
from analysis.loss_to_fid import fit as fit_loss
from analysis.optimum import at_budgets, budgets_of, optimum, parabolas, require_trade
from analysis.published_laws import exponents as published_exponents
from analysis.rows import Row, attempt, row_of
from analysis.table import LOSSES, TableError, listed

# Of a page; `harness laws` draws 10,000. A bound then moves by 4 % of the interval's half.
PAGE_DRAWS = 1_000
MEANINGS = {
    "E": "E, the floor",
    "A": "A, the part of size at the centre",
    "B": "B, the part of images at the centre",
    "α": "α, exponent of size",
    "γ": "γ, exponent of tokens",
    "β": "β, exponent of images",
}
BEST_SIZE = ": exponent of N* in compute"
METHOD = "wild bootstrap over runs, widened to t"
OPEN = "not identified: these scores fit all of it and what is beyond"


def joint_rows(
    table: pd.DataFrame, draws: int = PAGE_DRAWS, protocol: str | None = None
) -> list[Row]:
    """States the joint law of FID and of each loss, per family, with the optimum it gives.

    `protocol` is that of FID, where several scored every model.

    Raises:
        TableError: no family of no score can be fitted.
    """
    rows, reasons = list[Row](), list[str]()
    for metric in ("fid", *(name for name in LOSSES if table["metric"].eq(name).any())):
        chosen = protocol if metric == "fid" else None
        make = partial(rows_of_metric, table, metric, draws, chosen)
        rows += attempt(metric, make, reasons) or []
    if not rows:
        raise TableError("; ".join(reasons).rstrip("."))
    return rows


def rows_of_metric(table: pd.DataFrame, metric: str, draws: int, protocol: str | None) -> list[Row]:
    rows, reasons = list[Row](), list[str]()
    label = axis_label(grid(table, metric, protocol))
    for points in points_of(table, metric, protocol):
        family = str(points.rows["family"].iloc[0])
        joint = attempt(family, partial(fit, points), reasons)
        if joint:
            drawn = bootstrap(joint, draws)
            found = [*law_rows(drawn, label), *params_row(points, label, draws)]
            found += optimum_rows(drawn, label)
            rows += [{**row, "family": family} for row in found]
    if not rows:
        raise TableError("; ".join(reasons).rstrip("."))
    return rows


def law_rows(drawn: Draws, label: str) -> list[Row]:
    """States each parameter that the study can tell, and how far its scores are from the law."""
    joint, rows = drawn.joint, list[Row]()
    runs, text = joint.points.runs, diagnosis(joint)
    refuted = "the law is refuted, see its residual" if text.startswith("refuted") else ""
    for name, (low, high, identified) in intervals(drawn).items():
        place, theta = PARAMETERS.index(name), joint.theta
        value = float(theta[place] if place > 2 else np.exp(theta[place]))
        value = joint.constants()["E"] if name == "E" else value
        form = ".3g" if place <= 2 else ".3f"
        note = refuted if identified else OPEN
        statistic = f"{label}: {MEANINGS[name]}"
        rows.append(row_of(statistic, value, (low, high), form, METHOD, runs, note))
    spread = float(np.sqrt((joint.residuals**2).mean() * runs / drawn.df))
    note = f"{text}; Huber scale {joint.scale:.2g} in log; {formula(joint)}"
    method = "root mean square of log residuals"
    return [*rows, row_of(f"{label}: residual", spread, None, ".1%", method, runs, note)]


def formula(joint: Joint) -> str:
    """Returns the law with its numbers, and how N, T and D are counted."""
    at, rows = joint.constants(), joint.points.rows
    terms, counted = [f"{at['E']:.3g}"], ["N multiply-adds per token"]
    tokens = f" T^-{at['γ']:.3g}" if at["γ"] else ""
    if joint.free[A]:
        terms.append(f"{at['A']:.3g} N^-{at['α']:.3g}{tokens}")
    if at["B"]:
        terms.append(f"{at['B']:.3g} D^-{at['β']:.3g}")
    absent = [text for text, axis in constant_axes(joint)]
    alone = f"; E holds what does not vary ({', '.join(absent)})" if absent else ""
    if tokens:
        counted.append("T tokens of an image (of 32 × 32 latents where the table gives none)")
    return (
        f"score = {' + '.join(terms)}, {', '.join(counted)}, D images"
        f" seen{alone}; {len(rows)} scores of {joint.points.runs} runs, {listed(rows['protocol'])}"
    )


def constant_axes(joint: Joint) -> list[tuple[str, int]]:
    names = ("one size", "one token count", "one number of images")
    return [(name, i) for i, name in enumerate(names) if np.ptp(joint.points.x[i]) <= 1e-6]


def params_row(points: Points, label: str, draws: int) -> list[Row]:
    """States α where N counts all parameters, adaLN's among them; nothing where it is not known."""

    def made() -> list[Row]:
        rows = points.rows
        if not rows["params"].gt(0).all():
            raise TableError("a model has no parameters in the table")
        drawn = bootstrap(fit(points_from(rows.assign(N=rows["params"]))), draws)
        low, high, identified = intervals(drawn)["α"]
        value, note = float(drawn.joint.theta[ALPHA]), "" if identified else OPEN
        name = f"{label}: α where N is all parameters, adaLN's included"
        return [row_of(name, value, (low, high), ".3f", METHOD, points.runs, note)]

    return attempt("", made, []) or []


def optimum_rows(drawn: Draws, label: str) -> list[Row]:
    """States N*(C), D*(C) and the score there: exponents, and values at the largest budget."""
    reasons, runs = list[str](), drawn.joint.points.runs
    if not attempt("", partial(has_trade, drawn), reasons):
        absent = row_of(f"{label}: best size for a budget", np.nan, None, "g", "", runs)
        return [{**absent, "estimate": "not known", "note": reasons[0].removeprefix(": ")}]
    tokens = np.unique(drawn.joint.points.rows["T"])
    return [
        *exponent_rows(drawn, label),
        *(r for t in tokens for r in budget_rows(drawn, t, label)),
    ]


def has_trade(drawn: Draws) -> bool:
    require_trade(drawn)
    return True


def exponent_rows(drawn: Draws, label: str) -> list[Row]:
    joint, tokens = drawn.joint, float(drawn.joint.points.rows["T"].iloc[0])
    best, spread = (optimum(theta, joint.points, tokens) for theta in (joint.theta, drawn.theta))
    rows = []
    for name, quantity in (("a", "N*"), ("b", "D*"), ("c", "score* \N{MINUS SIGN} E")):
        value = float(getattr(best, name))
        bounds = np.clip(drawn.bounds(getattr(spread, name), value), 0, None if name == "c" else 1)
        sign = -1 if name == "c" else 1
        low, high = sorted(sign * float(bound) for bound in bounds)
        statistic, note = f"{label}: exponent of {quantity} in compute", published_note(quantity)
        runs = joint.points.runs
        rows.append(row_of(statistic, sign * value, (low, high), ".3f", METHOD, runs, note))
    return rows


def published_note(quantity: str) -> str:
    """States the published exponents beside one of this study: another task, metric and range."""
    name = {"N*": "optimal parameters", "D*": "optimal tokens"}.get(quantity, "")
    rows = published_exponents()
    texts = [f"{r['b']:g} ({r['law']})" for _, r in rows[rows["quantity"].eq(name)].iterrows()]
    return f"published, text to image: {', '.join(texts)}" if texts else ""


def budget_rows(drawn: Draws, tokens: float, label: str) -> list[Row]:
    """States the optimum at the largest budget that several sizes reached, and the parabola's.

    A size is given by its Gflops, N T: they do not depend on how tokens are counted.
    """
    joint, runs = drawn.joint, drawn.joint.points.runs
    budgets = budgets_of(joint.points, tokens)[-1:]
    found = at_budgets(drawn, tokens, budgets).iloc[0]
    where = f"{label}: at {found['compute']:.2g} operations, {tokens:g} tokens"
    note = "" if found["inside"] else "outside of the fitted sizes or images: no score tests it"
    rows = list[Row]()
    for name, text, unit in (
        ("size", "Gflops of the best size", tokens / 1e9),
        ("images", "D*, images", 1),
        ("score", "score", 1),
    ):
        low, high = unit * found[f"{name}_low"], unit * found[f"{name}_high"]
        value = unit * found[name]
        rows.append(row_of(f"{where}, {text}", value, (low, high), ".3g", METHOD, runs, note))
    parabola = parabolas(joint, tokens, budgets).iloc[0]
    name, value = f"{where}, Gflops by a parabola", tokens / 1e9 * parabola["size"]
    row = row_of(name, value, None, ".3g", "isoFLOP parabola", int(parabola["sizes"]))
    return [*rows, {**row, **parabola_text(parabola)}]


def parabola_text(parabola: pd.Series) -> dict[str, str]:
    """Returns the estimate and the note of a parabola: its bias, or why it has no minimum."""
    if not np.isfinite(parabola["size"]):
        few = f"{parabola['sizes']:g} sizes reach this budget, a parabola needs three"
        lacks = few if parabola["sizes"] < 3 else "its minimum is not inside the sizes"
        return {"estimate": "none", "note": lacks}
    bias = parabola["bias"]
    known = (
        f"{bias:+.0%}" if np.isfinite(bias) else "not known, the law's own has no minimum inside"
    )
    return {
        "note": f"over sizes {parabola['range']:.2g} × apart; without noise its bias is {known}"
    }


def loss_rows(table: pd.DataFrame, protocol: str | None = None) -> list[Row]:
    """States FID = k (L − L0)^p, and its typical error on families and on runs left out.

    Raises:
        TableError: no loss at the checkpoints of FID, or too few.
    """
    rows = pairs(table, protocol=protocol)
    law, runs = fit_loss(rows), rows["run"].nunique()
    reasons = list[str]()
    bounds = attempt("", partial(exponent_interval, rows), reasons)
    note = f"FID = {law.k:.3g} (L \N{MINUS SIGN} {law.floor:.4g})^{law.p:.3g}"
    bounded = law.identified and not (bounds and np.isinf(bounds[1]))
    note += "" if bounded else "; L0 is not identified: these scores fit any that is lower"
    note += "".join(f"; {reason.removeprefix(': ').rstrip('.')}" for reason in reasons)
    found = [row_of("p", law.p, bounds, ".3g", "jackknife-t over runs, of 1 / p", runs, note)]
    return [*found, *(error_row(rows, by) for by in ("family", "run"))]


def error_row(rows: pd.DataFrame, by: str) -> Row:
    """States the error on groups left out, or what would make it possible."""
    reasons, groups = list[str](), rows[by].nunique()
    name = f"typical error on a {by} left out"
    out = attempt("", partial(left_out, rows, by), reasons)
    if out is None:
        row = row_of(name, np.nan, None, "g", "", groups)
        return {**row, "estimate": "not known", "note": reasons[0].removeprefix(": ")}
    unseen = int(out["prediction"].isna().sum())
    note = f"{unseen} losses are below the others' L0 and have no prediction" if unseen else ""
    return row_of(
        name, typical_error(out), None, ".1%", "exp(mean |log|) \N{MINUS SIGN} 1", groups, note
    )
