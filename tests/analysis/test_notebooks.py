"""The notebooks, run one after another in one kernel on planted studies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import jupytext
import nbformat
from helpers import ROOT
from nbclient import NotebookClient
from studies import PAPER, digits, protocols, save_samples, steps_of

import analysis

NOTEBOOKS = sorted((Path(analysis.__file__).parent / "notebooks").glob("*.py"))
# The notebooks read the tables of this folder and no others.
ELSEWHERE = """
from pathlib import Path
from analysis import files
files.study_table.__defaults__ = (Path({!r}),)
"""


def planted_results(folder: Path) -> Path:
    """A results folder with every file that a notebook reads."""
    (folder / "published").mkdir(parents=True)
    digits().to_csv(folder / "digits.csv", index=False)
    steps_of(100).to_csv(folder / "digits_log.csv", index=False)
    protocols((16, 64)).to_csv(folder / "sampling_compute.csv", index=False)
    PAPER.to_csv(folder / "published" / "peebles2023.csv", index=False)
    save_samples(folder / "digits_samples.npz")
    return folder


def test_notebooks_run_and_each_draws_and_saves_its_figure(tmp_path: Path) -> None:
    """A kernel for each would take ten times as long."""
    books = [jupytext.read(path) for path in NOTEBOOKS]
    first = nbformat.v4.new_code_cell(ELSEWHERE.format(str(planted_results(tmp_path / "results"))))
    cells = [first, *(cell for book in books for cell in book.cells)]
    together = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(together, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    images = [
        out
        for cell in together.cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    assert len(images) >= len(NOTEBOOKS)
    for path in NOTEBOOKS:
        if path.stem != "study":
            assert (tmp_path / f"{path.stem}.pdf").stat().st_size > 1000


def test_notebooks_define_nothing_and_name_their_study_in_a_parameters_cell() -> None:
    assert len(NOTEBOOKS) == 10
    for path in NOTEBOOKS:
        text = path.read_text()
        assert not re.search(r"^\s*(def|class) |lambda", text, re.MULTILINE)
        assert re.search(r'# %% tags=\["parameters"\]\nSTUDY = "\w+"', text)


def test_make_rebuilds_a_notebook_whose_table_is_newer(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    book, table, page = (
        tmp_path / name
        for name in (
            "analysis/notebooks/figure_09.py",
            "results/measured/digits.csv",
            "results/notebooks/figure_09.html",
        )
    )
    for age, path in ((20, book), (20, table), (10, page)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    command = ["make", "--question", "results/notebooks/figure_09.html"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    os.utime(table, (1e9, 1e9))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1
