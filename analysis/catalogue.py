"""Which panels each figure has, and what its caption says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes

from analysis import fits
from analysis.families_panels import family_needs, family_scores
from analysis.figures import (
    figure_02_left,
    figure_02_right,
    figure_05,
    figure_06,
    figure_08,
    figure_09,
    figure_10,
)
from analysis.joint_panels import joint_law, joint_residuals, running_curves
from analysis.learning_rate_panels import rate_panels, rates
from analysis.loss import figure_13
from analysis.mosaic import figure_07
from analysis.panels import Layout, Panel, Rows, by_patch_and_size
from analysis.statistics_panels import (
    figure_12,
    further,
    predicted,
    residuals,
    specification,
    specification_terms,
)
from analysis.sweep_panels import sweep, swept

PAIRS = ("sfid", "inception_score", "precision", "recall")


def panels_by_metric() -> Rows:
    """Returns a row for each further metric: over training compute, and over Gflops."""
    text = "Below, the further metrics over training compute and over the model's Gflops."
    return tuple(
        tuple(
            Panel(further, text, {"panel": panel, "metric": metric}, top=4.6)
            for panel in (figure_09, figure_08)
        )
        for metric in PAIRS
    )


def one(panel: Panel, **layout: Any) -> Layout:
    """Returns the layout of a figure of one panel."""
    return Layout(((panel,),), **layout)


def each_law(draw: Callable[..., Axes], caption: str, height: float) -> Layout:
    """Returns the layout of a figure with a panel for each law, side by side."""
    panels = tuple(Panel(draw, caption, {"law": law}, top=3.5) for law in fits.LAWS)
    return Layout((panels,), height=height)


FIGURES = {
    "figure_02": Layout(
        (
            (
                Panel(figure_02_left, "Every model by size; the area of a bubble is its Gflops."),
                Panel(
                    figure_02_right,
                    "Guided models against U-Nets with known Gflops, each at its best guidance and"
                    " step, under several protocols as in the paper.",
                ),
            ),
        ),
        height=26,
    ),
    "figure_05": one(
        Panel(figure_05, "The ways of conditioning one model."), height=27, sized=False
    ),
    "figure_06": one(
        Panel(figure_06, "The score over training, by patch and by size."),
        height=19,
        split=by_patch_and_size,
        shared=True,
    ),
    "figure_07": one(
        Panel(figure_07, "The same noise and labels through every model."), source="samples"
    ),
    "figure_08": one(
        Panel(
            figure_08,
            "The score over the model's Gflops at the last step, with the least-squares line of"
            " each family and the 95 % band of its mean; a thin line per patch where one line is"
            " refuted (F test, p < 0.01).",
            top=3.5,
        ),
        height=30,
    ),
    "figure_09": one(
        Panel(
            figure_09,
            "The score over training compute. Thick grey: the frontier, the best score that each"
            " compute has bought.",
        ),
        height=30,
    ),
    "figure_10": one(
        Panel(
            figure_10,
            "The score over sampling compute. Dotted: the best score of the second best model, at"
            " any compute.",
        ),
        height=30,
    ),
    "figure_12": Layout(
        (
            (
                Panel(
                    figure_12,
                    "Every metric's Pearson correlation with log Gflops at the last step.",
                    left=9.5,
                    top=3.2,
                ),
            ),
            *panels_by_metric(),
        ),
    ),
    "figure_13": one(
        Panel(
            figure_13,
            "Training loss by patch and by size, the mean of all seeds with its 95 % interval (t,"
            " the spread of a patch size at a step); each point is a local line through a tenth"
            " of its curve.",
        ),
        source="log",
        height=19,
        split=by_patch_and_size,
        shared=True,
    ),
    "figure_sweeps": one(
        Panel(
            sweep,
            "The score over what a sweep varies, all else alike; a ring is the best of a curve.",
        ),
        height=24,
        split=swept,
        sized=False,
    ),
    "figure_rates": one(
        Panel(
            rates,
            "The score over the learning rate, with the parabola near each model's best (ring: its"
            " minimum); last, the best rates by size with 95 % intervals and their power law; a"
            " triangle: the best is at an edge of its grid.",
        ),
        height=24,
        split=rate_panels,
        sized=False,
    ),
    "figure_families": Layout(
        (
            tuple(
                Panel(
                    family_scores,
                    "The last score over training compute, all passes counted, and over"
                    " parameters, with each family's line and its 95 % band; the noise is that of"
                    " all families.",
                    {"axis": axis},
                )
                for axis in ("training compute", "parameters")
            ),
            (
                Panel(
                    family_needs,
                    "Below, what each family needs for the score of the best, with 95 % intervals"
                    " (parallel lines); dotted where no score is in the range of both.",
                    left=9.5,
                    top=4.8,
                ),
            ),
        ),
        height=24,
    ),
    "figure_prediction": each_law(
        predicted,
        "Every model's score, and the 95 % interval and prediction (dash) that a law fitted to all"
        " other models gives it.",
        height=27,
    ),
    "figure_residuals": each_law(
        residuals,
        "Every model's score by what the law fitted to all models says of it.",
        height=24,
    ),
    "figure_joint": Layout(
        (
            (
                Panel(
                    joint_law,
                    "Every checkpoint after the first tenth of its run; lines, the joint law of"
                    " size, tokens and images at each model.",
                    top=3.5,
                ),
                Panel(joint_residuals, "Right, each score by what the law says.", top=3.5),
            ),
        ),
        height=27,
    ),
    "figure_running": one(
        Panel(
            running_curves,
            "The last score of every finished run, and what its first checkpoint and the gains of"
            " all other runs predicted, with the 95 % interval.",
            top=3.5,
        ),
        height=27,
        sized=False,
    ),
    "figure_specification": Layout(
        (
            (
                Panel(
                    specification,
                    "What every form of law fitted to the other models predicts of the largest: the"
                    " polynomials of second order in logs of one or two of Gflops, N and tokens."
                    " Good are those whose errors are not larger than the least (paired t, 5 %).",
                    left=9.5,
                    top=3.5,
                ),
            ),
            (Panel(specification_terms, "Below, the terms of each form.", left=9.5),),
        ),
        height=22,
        sized=False,
    ),
}
