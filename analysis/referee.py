"""The referee's page: a checklist of scaling-law reports, filled from the table, pass or fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from analysis.grid import axis_label, ends, grid, has_own_steps, main_metric, means
from analysis.noise import UNKNOWN, noise
from analysis.referee_fit import Item, equation, held_out, objective, well_specified
from analysis.rows import attempt
from analysis.table import RUN, listed

# After Li, Kudugunta and Zettlemoyer, (Mis)Fitting (arXiv 2502.18969): form, training, data
# collection and fit. A sentence can be pasted; of a failed item it names what is missing, and the
# sweep or the command that supplies it.
SCORED_WITH = "n features reference sampler sampling_steps guidance decoder weights labels".split()
OF_IMAGES = "sampler sampling_steps guidance decoder labels features".split()  # no loss has them
# Of the training set; of a split a fifth is held out.
IMAGES = dict.fromkeys(("imagenet256", "imagenet512"), 1_281_167)
IMAGES |= dict.fromkeys(("digits", "digits8"), 1_797)
IMAGES |= dict.fromkeys(("digits-split", "digits8-split"), 1_437)
MODELS = 6  # a law in N, tokens and their product, and two more that test it
SEEDS = 3


def checklist(table: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """Returns a row per item: part, item, verdict (pass or fail), sentence.

    The score is FID, or where there is none the loss.

    Raises:
        TableError: no scores on one axis.
    """
    metric = metric or main_metric(table)
    rows = grid(table, metric)
    found = []
    for (part, item), judge in ITEMS.items():
        reasons = list[str]()
        judged = attempt("", partial(judge, table, rows, metric), reasons)
        passed, sentence = judged or (False, reasons[0].removeprefix(": "))
        verdict = "pass" if passed else "fail"
        found.append({"part": part, "item": item, "verdict": verdict, "sentence": sentence})
    return pd.DataFrame(found)


def again(rows: pd.DataFrame, words: str) -> str:
    """Returns the command that adds to a study; of published scores there is none."""
    if rows["source"].ne("measured").any():
        return "a sweep of your own (sweeps/dit_grid.py)"
    return f"`harness run {rows['study'].iloc[0]}{words}`"


def units(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    absent = [name for name in ("params", "batch_size") if not rows[name].gt(0).all()]
    if absent:
        models = listed(rows.loc[~rows[absent].gt(0).all(axis=1), "model"])
        return False, (
            f"{' and '.join(absent)} are not given for {models}: {collect(rows)}; without them N"
            " and D cannot be counted."
        )
    text = (
        "N counts all trained parameters, with those of adaLN; Gflops are forward multiply-adds of"
        " one image / 1e9 (operations are twice as many); D counts images seen, repeats included;"
        " training compute C is 6 × multiply-adds × images operations (the figures' axis: 3 ×, in"
        " multiply-adds), without the autoencoder and the EMA."
    )
    data = listed(rows["data"])
    if data in IMAGES:
        last = (rows["batch_size"] * rows["step"])[ends(rows)].max()
        text += f" The longest run sees {last / IMAGES[data]:.3g} epochs of {data}."
    return True, text


def collect(rows: pd.DataFrame) -> str:
    if rows["source"].ne("measured").any():
        return "look them up in the source"
    return f"collect again (`harness collect {rows['study'].iloc[0]}`)"


def sizes(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    models = means(rows[ends(rows)])
    low, high = models["gflops"].min(), models["gflops"].max()
    text = f"{len(models)} models from {low:.3g} to {high:.3g} Gflops ({listed(models['model'])})."
    if len(models) >= MODELS:
        return True, text
    return False, (
        f"{text} A law with a test of it needs {MODELS}: add {MODELS - len(models)} sizes to the"
        f" sweep's models (`harness isoflop {rows['study'].iloc[0]}` plans sizes by budget)."
    )


def recipe(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    unknown = rows[~rows["lr"].gt(0)]
    if len(unknown):
        return False, f"No learning rate is given of {listed(unknown['model'])}: {collect(rows)}."
    batch = listed(rows["batch_size"])
    if rows["lr"].nunique() == 1:
        rate = listed(rows["lr"])
        return True, (
            f"One recipe for all sizes, not tuned by size: learning rate {rate}, batch {batch}."
        )
    return True, f"Learning rates by model: {listed(rows['lr'])}; batch {batch}."


def seeds(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    last = rows[ends(rows)]
    models = last.groupby(["patch", "model"], dropna=False)
    found = models.agg(seeds=("seed", "nunique"), gflops=("gflops", "first")).reset_index()
    several = found[found["seeds"] >= SEEDS]
    noises = noise(table, metric)
    known = "" if noises.origin == UNKNOWN else f" One run's noise is {noises.sd:.1%} of a score."
    bare = found[~found["patch"].isin(several["patch"])]
    if bare.empty:
        return True, f"{len(several)} of {len(found)} models have three seeds or more.{known}"
    cheapest = bare.sort_values("gflops").drop_duplicates("patch")["model"]
    patches = found["patch"].nunique(dropna=False)
    return False, (
        f"{patches - len(cheapest)} of {patches} patch sizes have a model with {SEEDS} seeds: train"
        f" a cheap one of each other, {again(rows, command_of(cheapest))}.{known}"
    )


def command_of(models: pd.Series) -> str:
    return f" seed=0,1,2 --models {' '.join(models)}"


def code(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    commits = rows["commit"]
    clean = commits.ne("") & ~commits.str.contains("dirty")
    if clean.all():
        return True, f"Scored by the code of {listed(commits.str[:12])}."
    text = f"{(~clean).sum()} of {len(rows)} scores name no clean commit of the code"
    if rows["source"].ne("measured").any():
        return False, f"{text}: published values have none, {again(rows, '')} has."
    return False, f"{text}: commit it, remove their records, and {again(rows, '')}."


def steps_text(own: pd.Series) -> str:
    return ", ".join(f"{step:g}" for step in sorted(set(own)))


def checkpoints(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    runs = rows.groupby(RUN, dropna=False)["step"].agg(steps_text)
    text = f"{len(rows)} scores of {len(runs)} runs at steps {listed(rows['step'].sort_values())}."
    once, kinds = runs[~runs.str.contains(",")], runs.nunique()
    if once.empty and has_own_steps(rows):
        return True, f"{text} Each run is scored at several steps of its own."
    if once.empty and kinds == 1:
        return True, f"{text} Every run is scored at all of them."
    if len(once):
        models = listed(once.reset_index()["model"])
        lacks = f"At one step alone: {models}. Add earlier `steps`"
    else:
        usual = runs.value_counts().index[0]
        models = listed(runs[runs.ne(usual)].reset_index()["model"])
        lacks = f"At other steps than most: {models}. Score them at {usual}"
    return False, f"{text} {lacks}, by {again(rows, '')}."


def scoring(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    fields = [name for name in SCORED_WITH if metric == "fid" or name not in OF_IMAGES]
    absent = [name for name in fields if rows[name].isna().any() or rows[name].eq("").any()]
    known = [f"{name} {listed(rows[name])}" for name in fields if name not in absent]
    text = f"{axis_label(rows)}, protocol {listed(rows['protocol'])}: {', '.join(known)}."
    lacks = f" Not given: {', '.join(absent)}: {collect(rows)}." if absent else ""
    return not absent, text + lacks


def excluded(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    dropped = table.attrs.get("problems", [])
    every = int(table["metric"].eq(metric).sum())
    text = f"{len(rows)} of {every} scores of {metric} are on this axis."
    return (
        not dropped,
        f"{text} {' '.join(dropped)}" if dropped else f"{text} None was dropped as an outlier.",
    )


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
