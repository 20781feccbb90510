"""The referee's page: a checklist of scaling-law reports, filled from the table, pass or fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from analysis import fits, prediction
from analysis.fits import GFLOPS, PRODUCT
from analysis.grid import axis_label, ends, final, grid, has_own_steps, means
from analysis.noise import UNKNOWN, noise
from analysis.rows import attempt
from analysis.table import RUN, TableError, listed

# After Li, Kudugunta and Zettlemoyer, (Mis)Fitting (arXiv 2502.18969): form, training, data
# collection and fit. A sentence can be pasted; of a failed item it says what would supply it.
SCORED_WITH = "n features reference sampler sampling_steps guidance decoder weights labels".split()
IMAGES = {"imagenet256": 1_281_167, "imagenet512": 1_281_167}  # of the training set
Item = tuple[bool, str]


def checklist(table: pd.DataFrame, metric: str = "fid") -> pd.DataFrame:
    """Returns a row per item: part, item, verdict (pass or fail), sentence.

    Raises:
        TableError: no scores on one axis.
    """
    rows = grid(table, metric)
    found = []
    for (part, item), judge in ITEMS.items():
        reasons = list[str]()
        judged = attempt("", partial(judge, table, rows, metric), reasons)
        passed, sentence = judged or (False, reasons[0].removeprefix(": "))
        verdict = "pass" if passed else "fail"
        found.append({"part": part, "item": item, "verdict": verdict, "sentence": sentence})
    return pd.DataFrame(found)


def equation(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    family, own = largest_family(final(table, metric))
    law = PRODUCT if fits.is_fitted(own, PRODUCT) else GFLOPS
    fit = fits.fit_law(own, law)
    terms = " ".join(
        f"{value:+.3f} log {name}"
        for value, name in zip(fit.params[1:], fits.LAWS[law], strict=True)
    )
    return True, (
        f"For {family}, log10 {axis_label(rows)} = {fit.params[0]:.3f} {terms} (params by 1e8,"
        f" tokens by 64), {len(fit.params)} free parameters, from {int(fit.nobs)} models."
    )


def largest_family(rows: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    name = str(rows["family"].value_counts().index[0])
    return name, rows[rows["family"].eq(name)]


def units(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    known = rows["params"].gt(0).all() and rows["batch_size"].gt(0).all()
    text = (
        "N counts all trained parameters, with those of adaLN; Gflops are forward multiply-adds of"
        " one image / 1e9 (operations are twice as many); D counts images seen, repeats included;"
        " training compute C is 6 × multiply-adds × images operations (the figures' axis: 3 ×, in"
        " multiply-adds), without the autoencoder and the EMA."
    )
    data = listed(rows["data"])
    if data in IMAGES and known:
        last = (rows["batch_size"] * rows["step"])[ends(rows)].max()
        text += f" The longest run sees {last / IMAGES[data]:.3g} epochs of {data}."
    return bool(known), text if known else "params or batch_size is not given for every model."


def sizes(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    models = means(rows[ends(rows)])
    low, high = models["gflops"].min(), models["gflops"].max()
    enough = len(models) >= len(fits.LAWS[PRODUCT]) + 3
    text = f"{len(models)} models from {low:.3g} to {high:.3g} Gflops ({listed(models['model'])})."
    return enough, text if enough else f"{text} Train more: a law with a test of it needs 6."


def recipe(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    given = rows["lr"].gt(0).all()
    text = (
        f"One recipe for all sizes, not tuned by size: learning rate {listed(rows['lr'])}, batch"
        f" {listed(rows['batch_size'])}."
        if rows["lr"].nunique() == 1
        else f"Learning rates by model: {listed(rows['lr'])}; batch {listed(rows['batch_size'])}."
    )
    return bool(given), text if given else "The learning rate is not given for every run."


def seeds(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    counts = rows[ends(rows)].groupby(["model", "patch"], dropna=False).size()
    several = counts[counts >= 3]
    patches = rows["patch"].nunique(dropna=False)
    with_seeds = several.index.get_level_values("patch").nunique()
    found = noise(table, metric)
    known = "" if found.origin == UNKNOWN else f" One run's noise is {found.sd:.1%} of a score."
    if with_seeds == patches:
        return True, f"{len(several)} of {len(counts)} models have three seeds or more.{known}"
    return False, (
        f"{with_seeds} of {patches} patch sizes have a model with three seeds: train one of each"
        f" patch size with seed=0,1,2.{known}"
    )


def code(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    commits = rows["commit"]
    clean = commits.ne("") & ~commits.str.contains("dirty")
    if clean.all():
        return True, f"Scored by the code of {listed(commits.str[:12])}."
    return False, f"{(~clean).sum()} of {len(rows)} scores name no clean commit of the code."


def checkpoints(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    runs = rows.groupby(RUN, dropna=False)["step"]
    steps = [tuple(sorted(own)) for _, own in runs]
    same = len(set(steps)) == 1
    text = f"{len(rows)} scores of {len(steps)} runs at steps {listed(rows['step'].sort_values())}."
    if has_own_steps(rows) and min(map(len, steps)) > 1:
        return True, f"{text} Each run is scored at several steps of its own."
    if same and len(steps[0]) > 1:
        return True, f"{text} Every run is scored at all of them."
    lacks = "All at one step: score earlier checkpoints too." if same else "Runs differ in steps."
    return False, f"{text} {lacks}"


def scoring(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    absent = [name for name in SCORED_WITH if rows[name].isna().any() or rows[name].eq("").any()]
    fields = [f"{name} {listed(rows[name])}" for name in SCORED_WITH if name not in absent]
    text = f"{axis_label(rows)}, protocol {listed(rows['protocol'])}: {', '.join(fields)}."
    return not absent, text + (f" Not given: {', '.join(absent)}." if absent else "")


def objective(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    return True, (
        "Exponents by least squares of log scores, with t intervals; power law and joint law by a"
        " Huber loss in log, scale 1.345 robust deviations of a first pass, from a grid of starts,"
        " intervals by profile and by a wild bootstrap over runs."
    )


def excluded(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    dropped = table.attrs.get("problems", [])
    every = int(table["metric"].eq(metric).sum())
    text = f"{len(rows)} of {every} scores of {metric} are on this axis."
    return (
        not dropped,
        f"{text} {' '.join(dropped)}" if dropped else f"{text} None was dropped as an outlier.",
    )


def well_specified(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    family, own = largest_family(final(table, metric))
    test = fits.misspecification(own, GFLOPS)
    if not test["p"] >= 0:
        raise TableError("too few models to test a law against another: train more sizes")
    text = (
        f"{test['alternative']} against one exponent of Gflops for {family}:"
        f" F({test['df']:g}, {test['df_residual']:g}) = {test['F']:.1f}, p = {test['p']:.2g}."
    )
    if test["p"] >= 0.05:
        return True, f"Not refuted: {text}"
    return False, f"Refuted: {text} Quote the law in N and tokens, or exponents by patch."


def held_out(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    found = prediction.hold_out(table, metric)
    law = PRODUCT if found["law"].eq(PRODUCT).any() else GFLOPS
    own = found[found["law"].eq(law)]
    held = own["truth"].between(own["low"], own["high"])
    text = (
        f"Fitted to the smaller two thirds by Gflops, the law in {law} predicts the others with a"
        f" typical error of {prediction.mean_error(own):.1%}; {held.sum()} of {len(own)} intervals"
        " hold the score."
    )
    return bool(held.all()), text


def multiplicity(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    return True, (
        "Verdicts between studies are adjusted for the number of cells (Holm); intervals of single"
        " statistics are not adjusted for how many the page has."
    )


ITEMS: dict[tuple[str, str], Callable[[pd.DataFrame, pd.DataFrame, str], Item]] = {
    ("Form", "equation and free parameters"): equation,
    ("Form", "how N, D and C are counted"): units,
    ("Training", "number and sizes of models"): sizes,
    ("Training", "hyper-parameters by size"): recipe,
    ("Training", "seeds"): seeds,
    ("Training", "code"): code,
    ("Data", "checkpoints of each run"): checkpoints,
    ("Data", "score and its protocol"): scoring,
    ("Data", "points left out"): excluded,
    ("Fit", "objective and algorithm"): objective,
    ("Fit", "the form is tested"): well_specified,
    ("Fit", "hold-out by range"): held_out,
    ("Fit", "multiplicity"): multiplicity,
}
