"""Tables: what is averaged, how it is ordered, and their LaTeX."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from studies import PAPER, digits

from analysis.latex import latex
from analysis.paper_tables import caption_of, paper_table, table_numbers


def recipes(**fields: object) -> pd.DataFrame:
    """Two seeds of every model, and the same again with other fields."""
    table = digits(seeds=(0, 1))
    other = table.assign(**fields, run=table["run"] + "-other", value=2 * table["value"])
    return pd.concat([table, other], ignore_index=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", 0.001), ("batch_size", 16), ("conditioning", "adaLN"), ("guidance", 1.5),
     ("sampler", "ddim"), ("protocol", "other"), ("weights", "raw"), ("reference", "train")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["table_2", "table_4"])
def test_only_seeds_are_averaged(name: str, field: str, value: object) -> None:
    alone = table_numbers(name, digits(seeds=(0, 1)))
    mixed = table_numbers(name, recipes(**{field: value}))
    assert len(mixed) == 2 * len(alone) and field in mixed and (mixed["seeds"] == 2).all()
    assert sorted(mixed["value"]) == pytest.approx(sorted([*alone["value"], *2 * alone["value"]]))


def test_seeds_are_shown_as_mean_and_standard_deviation() -> None:
    table = digits(seeds=(0, 1, 2))
    own = table.query("model == 'mini-DiT-B/4' and metric == 'fid' and step == 600")["value"]
    cell = (
        paper_table("table_4", table).set_index("Model").loc["mini-DiT-B/4", "FID (digits-cnn-1)"]
    )
    assert cell == f"{own.mean():.2f} ± {own.std():.2f} (3)"
    assert "over seeds" in caption_of("table_4", table)
    assert "over seeds" not in caption_of("table_4", digits())


def test_models_stand_in_order_of_gflops() -> None:
    shown = table_numbers("table_4", digits()[::-1])
    assert shown["gflops"].is_monotonic_increasing and len(shown) == 12


def test_what_is_alike_in_all_rows_is_in_the_caption() -> None:
    assert "batch size 64, learning rate 0.003" in caption_of("table_4", digits())
    assert "Learning rate" not in paper_table("table_4", digits()).columns
    assert "Learning rate" in paper_table("table_4", recipes(lr=0.001)).columns


def test_bounds_are_in_the_numbers_alone() -> None:
    table = digits()
    low = table[table["metric"].eq("fid")].assign(metric="fid_infinity_low")
    table = pd.concat([table, low])
    assert "fid_infinity_low" in set(table_numbers("table_2", table)["metric"])
    assert not any("low" in heading for heading in paper_table("table_2", table).columns)


def test_latex_has_a_cell_for_every_cell_and_escapes_all_signs() -> None:
    frame = pd.DataFrame(
        {"Model_1": ["a & b", "50 %", "$x$"], "FID∞": ["1.0 ± 0.1 (3)", "–", "−2"]}
    )
    text = latex(frame, "A caption of 5 % & more.", "tab:one")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert body.count(r"\\") == 3 and body.replace(r"\&", "").count("&") == 3
    assert r"\begin{tabular}{lr}" in text and r"Model\_1" in text
    assert r"\caption{A caption of 5 \% \& more.}" in text and r"\$x\$" in text
    assert r"$\pm$" in text and r"FID$_\infty$" in text and text.isascii()


@pytest.mark.parametrize("number", range(1, 7))
def test_every_table_of_the_paper_has_latex_in_ascii(number: int) -> None:
    name = f"table_{number}"
    assert latex(paper_table(name, PAPER), caption_of(name, PAPER), f"tab:{name}").isascii()


def test_latex_says_once_what_widens_most_columns() -> None:
    names = ["FID", "sFID", "Recall"]
    cells = {f"{name} (digits-cnn-1)": ["1.00 ± 0.10 (3)"] for name in names}
    text = latex(pd.DataFrame({"Model": ["a"], **cells}), "Over seeds (number of runs).", "tab:x")
    assert "Model & FID* & sFID* & Recall*" in text and r"a & 1.00 $\pm$ 0.10 &" in text
    assert r"\caption{Over seeds (3 runs). *: through digits-cnn-1.}" in text


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="needs pdflatex: texlive-latex-recommended"
)
def test_every_table_compiles_and_fits_a_page(tmp_path: Path) -> None:
    names = [f"table_{number}" for number in range(1, 7)]
    for name in names:
        text = latex(paper_table(name, PAPER), caption_of(name, PAPER), f"tab:{name}")
        (tmp_path / f"{name}.tex").write_text(text)
    inputs = "".join(rf"\input{{{name}}}\clearpage" for name in names)
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage[margin=1in]{geometry}"
    (tmp_path / "all.tex").write_text(rf"{head}\begin{{document}}{inputs}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0 and "Overfull" not in made.stdout, made.stdout
