"""Damaged tables and samples: a TableError or a result, never another exception.

`PYTHONPATH=.:tests python tests/analysis/test_fuzz.py 0 1000` tries a thousand of each.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from studies import digits, save_samples, saved, steps_of

from analysis import catalogue, comparison_text, layout, sentences
from analysis.captions import left_out, provenance, situation
from analysis.log import load_log
from analysis.paper_tables import PAPER_TABLES, paper_table
from analysis.rows import attempt
from analysis.samples import check_samples, load_samples
from analysis.table import TableError, load

CELLS = ["", "0", "-1", "inf", "-inf", "nan", "1e308", "1e-308", "9" * 400, "x", "$^$", "S", "fid"]
CELLS += ["True", "2", "1", "measured", "a, Table 1", "decoder", "\u0663", "other", "1_0", "0x1"]


def damaged(text: str, rng: np.random.Generator) -> str:
    """Replaces cells, and repeats, cuts or removes lines or columns."""
    lines = [line.split(",") for line in text.splitlines()]
    for _ in range(rng.integers(1, 12)):
        line = lines[
            rng.integers(len(lines)) if rng.random() < 0.1 else rng.integers(1, len(lines))
        ]
        line[rng.integers(len(line))] = str(rng.choice(CELLS))
    if rng.random() < 0.5:
        column, cell = rng.integers(len(lines[0])), str(rng.choice(CELLS))
        share = rng.choice([0.1, 0.5, 1.0])
        for line in lines[1:]:
            if rng.random() < share and column < len(line):
                line[column] = cell
    if rng.random() < 0.3:
        first, last = sorted(rng.integers(1, len(lines), 2))
        lines = lines[:first] + lines[last:] if rng.random() < 0.5 else lines + lines[first:last]
    damage = "\n".join(map(",".join, lines))
    return damage[: rng.integers(len(damage))] if rng.random() < 0.05 else damage


def small(rng: np.random.Generator) -> pd.DataFrame:
    """A few models of the measured study, with two metrics."""
    table = digits(seeds=(0, 1)[: rng.integers(1, 3)])
    sizes = ["S", "B", "L"][: rng.integers(1, 4)]
    patches = [8, 4, 2][: rng.integers(1, 4)]
    metrics = ["fid", "recall"]
    kept = table["size"].isin(sizes) & table["patch"].isin(patches)
    return table[kept & table["metric"].isin(metrics)]


def try_table(seed: int, folder: Path) -> None:
    """All that a report does with a damaged table, but for saving its figures."""
    rng = np.random.default_rng(seed)
    path = saved(small(rng), folder)
    path.write_text(damaged(path.read_text(), rng))
    reasons: list[str] = []
    table = attempt("Table", partial(load, path), reasons)
    if table is None:
        return
    situation(table), left_out(table), provenance(table)
    for name in PAPER_TABLES:
        attempt(name, partial(paper_table, name, table), reasons)
    sentences.statistics(table, reasons)
    attempt("Noise", partial(comparison_text.comparison_sentences, table, digits()), reasons)
    for name, figure in catalogue.FIGURES.items():
        if figure.source == "table":
            fig = Figure()
            if attempt(name, partial(layout.draw, name, table, fig), reasons) is not None:
                fig.draw_without_rendering()


def try_log(seed: int, folder: Path) -> None:
    rng = np.random.default_rng(seed)
    log = steps_of(30)[::17].assign(conditioning="", batch_size=64, gflops=1.0)
    (folder / "log.csv").write_text(damaged(log.to_csv(index=False), rng))
    reasons: list[str] = []
    read = attempt("Log", partial(load_log, folder / "log.csv"), reasons)
    if read is not None:
        fig = Figure()
        if attempt("Figure 13", partial(layout.draw, "figure_13", read, fig), reasons) is not None:
            fig.draw_without_rendering()


def try_samples(seed: int, folder: Path) -> None:
    rng = np.random.default_rng(seed)
    path = save_samples(folder / "samples.npz")
    content = bytearray(path.read_bytes())
    for place in rng.integers(len(content), size=rng.integers(1, 20)):
        # Most damage goes where it matters: the headers at both ends.
        near = place % 400 - (200 if rng.random() < 0.5 else 0)
        content[near if rng.random() < 0.8 else place] = rng.integers(256)
    path.write_bytes(content[: rng.integers(len(content))] if rng.random() < 0.1 else content)
    try:
        samples = load_samples(path)
    except TableError:
        return
    layout.draw("figure_07", samples, Figure())
    attempt("Samples", partial(check_samples, samples, digits()), [])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_table_is_reported_and_never_a_traceback(seed: int, tmp_path: Path) -> None:
    try_table(seed, tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_log_is_reported_and_never_a_traceback(seed: int, tmp_path: Path) -> None:
    try_log(seed, tmp_path)


@pytest.mark.parametrize("seed", range(12))
def test_damaged_samples_are_reported_and_never_a_traceback(seed: int, tmp_path: Path) -> None:
    try_samples(seed, tmp_path)


def main(first: int, last: int) -> None:
    warnings.simplefilter("ignore")
    for seed in range(first, last):
        for what in (try_table, try_log, try_samples):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    what(seed, Path(folder))
                except Exception as error:
                    print(f"{what.__name__}({seed}): {error!r:.200}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
