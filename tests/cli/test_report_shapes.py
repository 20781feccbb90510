"""`harness report` on tables of every shipped sweep's shape, planted by formula."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import run_verb
from matplotlib.figure import Figure

from analysis import layout
from analysis.parts import parts
from analysis.rows import attempt
from analysis.table import load
from harness.models import MODELS
from harness.spec import Protocol, Run, Sweep, grid
from harness.study import compute
from harness.study.columns import COLUMNS, OF_PROTOCOL
from harness.study.sweep_file import load_sweep

MINIS = ("DiT-S/8", "DiT-B/4", "DiT-L/2", "DiT-XL/2")
LR_BY_SEED = Sweep(
    name="rates",
    runs=grid(Run, model=["DiT-S/8", "DiT-B/4"], lr=[1e-4, 3e-4], seed=[0, 1, 2]),
    steps=(50_000, 100_000),
    protocols=(Protocol(name="fid50k"),),
)
# What the page of each must draw; the tests below plant its table.
SHAPES = {
    "dit_grid": {"08", "09", "06", "02"},
    "conditioning": {"05"},
    "decoder": {"sweeps"},
    "guidance": {"sweeps"},
    "sampler": {"sweeps"},
    "sampling_compute": {"08", "10"},
    "resolution": {"06"},
    "sit_grid": {"09"},
    "rates": {"sweeps", "08"},
}
# What the whole page of some must say: a page takes seconds.
PAGES = {
    "sampling_compute": ("falls with compute",),
    "rates": ("lr 0.0003", "± ", "(3)"),
}


def mini(sweep: Sweep) -> Sweep:
    """The sweep with at most four of its models and two of its steps."""
    runs = tuple(run for run in sweep.runs if run.model in MINIS)
    return dataclasses.replace(sweep, runs=runs, steps=sweep.steps[-2:])


def planted(sweep: Sweep) -> pd.DataFrame:
    """The table that collect would write of scores that follow compute and every varied field."""
    return pd.DataFrame(rows_of(sweep)).reindex(columns=COLUMNS)


def rows_of(sweep: Sweep) -> Iterator[dict[str, Any]]:
    noise = np.random.default_rng(0)
    for run, step, protocol in itertools.product(sweep.runs, sweep.steps, sweep.sampling):
        gflops, model = compute.gflops(run), MODELS[run.model]
        worse = 1 + abs(protocol.guidance - 1.5) + 5 / protocol.sampling_steps
        score = 100 * gflops**-0.35 * (step / 4e5) ** -0.4 * worse * (1e-4 / run.lr) ** 0.2
        score *= np.exp(0.03 * noise.standard_normal() + 0.1 * len(run.conditioning or "") / 10)
        yield {
            **{name: getattr(protocol, name) for name in OF_PROTOCOL},
            **{name: getattr(run, name) for name in COLUMNS if hasattr(run, name)},
            **{"study": sweep.name, "source": "measured", "run": run.id, "size": model.size},
            **{"patch": model.patch, "params": compute.parameters(run), "gflops": gflops},
            **{"step": step, "images": step * run.batch_size, "protocol": protocol.id},
            **{"metric": "fid", "value": score, "n": protocol.images, "schema": 1},
            "reference": protocol.reference,
        }


def report_of(sweep: Sweep, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """Plants the table, reports it by its CSV, and returns the page's path and its text."""
    table = folder / f"{sweep.name}.csv"
    planted(sweep).to_csv(table, index=False)
    status, out, err = run_verb(capsys, "report", table, "--results", folder)
    page = folder / "report" / sweep.name / "index.html"
    assert (status, err) == (0, "") and out.endswith(f"the report: {page}\n")
    return page, visible(page)


def visible(page: Path) -> str:
    text = re.sub(r"<(svg|style).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def sweep_of(name: str) -> Sweep:
    return LR_BY_SEED if name == "rates" else mini(load_sweep(name))


def drawable(name: str, table: pd.DataFrame) -> bool:
    """Whether a figure draws the whole table, or every part of it."""
    whole, *_ = tables = [table, *(part.table for part in parts(table))]
    refused = list[str]()

    def tried(rows: pd.DataFrame) -> object:
        return attempt(name, partial(layout.draw, f"figure_{name}", rows, Figure()), refused)

    return tried(whole) is not None or all(tried(rows) is not None for rows in tables[1:])


@pytest.mark.parametrize("name", SHAPES)
def test_every_shipped_shape_has_its_own_figures(name: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    planted(sweep_of(name)).to_csv(path, index=False)
    table = load(path)
    assert {figure for figure in SHAPES[name] if drawable(figure, table)} == SHAPES[name]


@pytest.mark.usefixtures("svg_alone")
@pytest.mark.parametrize("name", PAGES)
def test_a_shape_has_a_page_that_says_what_it_varies(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, text = report_of(sweep_of(name), tmp_path, capsys)
    drawn = {path.stem.removeprefix("figure_") for path in page.parent.glob("figure_*.svg")}
    assert SHAPES[name] <= drawn, text[-2000:]
    assert all(words in text + page.read_text() for words in PAGES[name])
    assert "never trained" not in text
