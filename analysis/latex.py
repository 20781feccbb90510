"""A frame of text as a LaTeX table: booktabs, numbers to the right, all signs escaped."""

from __future__ import annotations

import pandas as pd

from analysis.html import Table

# What a LaTeX of 8-bit fonts does not know: signs that the tables and headings use.
SIGNS = {
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "±": r"$\pm$",
    "∞": r"$_\infty$",
    "⁹": r"$^9$",
    "×": r"$\times$",
}


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    r"""Returns a `table` environment to be read with \input, under \usepackage{booktabs}."""
    numeric = Table(frame).numeric
    escaped = frame.rename(columns=str).style.hide(axis="index")
    escaped = escaped.format(escape="latex").format_index(escape="latex", axis=1)
    text = escaped.to_latex(
        column_format="".join("r" if number else "l" for number in numeric),
        hrules=True,
        position="t",
        position_float="centering",
        caption=escape(caption),
        label=label,
    )
    return replaced("% \\usepackage{booktabs}\n" + text)


def escape(text: str) -> str:
    """Escapes a caption, which pandas takes as it is."""
    frame = pd.DataFrame({"text": [text]}).style.format(escape="latex")
    return str(frame.hide(axis=1).hide(axis=0).to_latex()).split("\n")[1].removesuffix(r" \\")


def replaced(text: str) -> str:
    for sign, code in SIGNS.items():
        text = text.replace(sign, code)
    return text
