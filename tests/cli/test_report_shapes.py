"""`harness report` on tables of every shipped sweep's shape, planted by formula."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import run_verb

from harness.models import MODELS
from harness.spec import Protocol, Run, Sweep, grid
from harness.study import compute
from harness.study.collect import COLUMNS, OF_PROTOCOL
from harness.study.sweep_file import load_sweep

MINIS = ("DiT-S/8", "DiT-B/4", "DiT-L/2", "DiT-XL/2")
LR_BY_SEED = Sweep(
    name="rates",
    runs=grid(Run, model=["DiT-S/8", "DiT-B/4"], lr=[1e-4, 3e-4], seed=[0, 1, 2]),
    steps=(50_000, 100_000),
    protocols=(Protocol(name="fid50k"),),
)
# What the page of each must draw, and what it must say; the test below plants its table.
SHAPES: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "dit_grid": ({"08", "09", "06", "02"}, ("falls with compute",)),
    "conditioning": ({"05"}, ("adaLN-Zero",)),
    "decoder": ({"sweeps"}, ("ft-ema",)),
    "guidance": ({"sweeps"}, ("1.375",)),
    "sampler": ({"sweeps"}, ("dpm-solver++",)),
    "sampling_compute": ({"08", "10"}, ("falls with compute",)),
    "resolution": ({"06"}, ("512",)),
    "rates": ({"sweeps", "08"}, ("lr 0.0003", "± ", "(3)")),
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
    for run, step, protocol in itertools.product(sweep.runs, sweep.steps, sweep.protocols):
        gflops, model = compute.gflops(run), MODELS[run.model]
        worse = 1 + abs(protocol.guidance - 1.5) + 5 / protocol.sampling_steps
        score = 100 * gflops**-0.35 * (step / 4e5) ** -0.4 * worse * (1e-4 / run.lr) ** 0.2
        score *= np.exp(0.03 * noise.standard_normal() + 0.1 * len(run.conditioning) / 10)
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


@pytest.mark.parametrize("name", SHAPES)
def test_every_shipped_shape_has_a_page_with_its_own_figures(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = LR_BY_SEED if name == "rates" else mini(load_sweep(name))
    page, text = report_of(sweep, tmp_path, capsys)
    drawn = {path.stem.removeprefix("figure_") for path in page.parent.glob("figure_*.svg")}
    figures, says = SHAPES[name]
    assert figures <= drawn, text[-2000:]
    assert all(words in text + page.read_text() for words in says)
    assert "never trained" not in text
