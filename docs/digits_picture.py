"""The README's first picture, results/measured/digits.png: scores over Gflops, and samples."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import figures, style
from analysis.samples import Samples, load_samples
from analysis.table import load, published

MEASURED = Path(__file__).parents[1] / "results" / "measured"
INCHES = 9.6, 5.0


def mosaic(samples: Samples, table: pd.DataFrame, ax: Axes) -> Axes:
    """Draws a column per model, from fewest to most Gflops, and a row per label."""
    gflops = table.drop_duplicates("model").set_index("model")["gflops"]
    order = np.argsort(gflops[samples["model"]].to_numpy())
    labels, first = np.unique(samples["labels"], return_index=True)
    images = np.pad(samples["images"][order][:, first, ..., 0], ((0, 0), (0, 0), (1, 1), (1, 1)))
    columns, rows, height, width = images.shape
    shown = images.transpose(1, 2, 0, 3).reshape(rows * height, columns * width)
    ax.imshow(shown, cmap="gray", interpolation="nearest")
    names = [str(model).removeprefix("digit-DiT-") for model in samples["model"][order]]
    ax.set_xticks((np.arange(columns) + 0.5) * width - 0.5, names)
    ax.set_yticks((np.arange(rows) + 0.5) * height - 0.5, [str(label) for label in labels])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xlabel="Model, more Gflops to the right", ylabel="Label that was asked for")
    return ax


def picture(path: Path) -> None:
    """Draws the digits study over the published one, and the digits' samples beside both."""
    table = load(MEASURED / "digits.csv")
    with style.theme():
        fig = plt.figure(figsize=INCHES, layout="constrained")
        left, right = fig.subfigures(1, 2, width_ratios=(4, 5.6))
        above, below = left.subplots(2, 1)
        figures.figure_08(table, above)
        figures.figure_08(published(), below)
        mosaic(load_samples(MEASURED / "digits_samples.npz"), table, right.subplots())
        fig.savefig(path, dpi=160)


if __name__ == "__main__":
    picture(MEASURED / "digits.png")
