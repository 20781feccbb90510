"""The README's first picture, results/measured/digits.png: scores over Gflops, and samples.

`python docs/digits_picture.py` after `make demo`: the scores are those of results/measured, the
samples those of ./store.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from analysis import figures, style
from analysis.table import load, published
from harness.study.compute import gflops
from harness.study.samples import read_preview
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "results" / "measured"
INCHES = 9.6, 5.0
SHOWN = 4  # models
LABELS = 10  # the protocol asks for 0 to 9 in turn


def mosaic(store: Store, ax: Axes) -> Axes:
    """Draws a row per label; SHOWN models, evenly from fewest to most Gflops, at every step."""
    sweep = load_sweep("digits")
    runs, (protocol,) = sorted(sweep.runs, key=gflops), sweep.protocols
    shown = [runs[round(place)] for place in np.linspace(0, len(runs) - 1, SHOWN)]
    cells = [
        read_preview(store.preview(run, step, protocol))["images"][:LABELS, ..., 0]
        for run in shown
        for step in sweep.steps
    ]
    # [columns, labels, height, width]; a dark frame keeps neighbours apart.
    images = np.pad(np.stack(cells), (*2 * [(0, 0)], *2 * [(1, 1)]))
    columns, labels, height, width = images.shape
    ax.imshow(images.transpose(1, 2, 0, 3).reshape(labels * height, columns * width), cmap="gray")
    steps = len(sweep.steps)
    names = [f"{step:,}\n" for step in sweep.steps] * SHOWN
    for k, run in enumerate(shown):
        names[k * steps + steps // 2] += run.model.removeprefix("digit-DiT-")
        ax.axvline(k * steps * width - 0.5, color="white", linewidth=2)
    ax.set_xticks((np.arange(columns) + 0.5) * width - 0.5, names)
    ax.set_yticks((np.arange(labels) + 0.5) * height - 0.5, [str(label) for label in range(labels)])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xlabel="Training steps of four models, more Gflops to the right", ylabel="Label")
    return ax


def picture(path: Path, store: Store) -> None:
    """Draws the digits study over the published one, and the digits' samples beside both."""
    with style.theme():
        fig = plt.figure(figsize=INCHES, layout="constrained")
        left, right = fig.subfigures(1, 2, width_ratios=(4, 5))
        above, below = left.subplots(2, 1)
        figures.figure_08(load(MEASURED / "digits.csv"), above)
        figures.figure_08(published(), below)
        mosaic(store, right.subplots())
        fig.savefig(path, dpi=160)


if __name__ == "__main__":
    picture(MEASURED / "digits.png", Store(ROOT / "store"))
