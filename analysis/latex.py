"""A frame of text as a LaTeX table: booktabs, numbers to the right, all signs escaped."""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd

from analysis.html import Table

# More columns than these are set smaller, on pages of 6.5 in; an ending of so many headings is
# said once, and what is in brackets in a longer one stands in the caption.
CENTRED = "\\centering\n"
SMALLER, SHARED, LONG = {6: "small", 7: "footnotesize"}, 3, 24

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
    frame, caption = said_once(frame, caption)
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
    for size in [size for most, size in SMALLER.items() if len(numeric) > most][-1:]:
        text = text.replace(CENTRED, rf"{CENTRED}\{size}\setlength{{\tabcolsep}}{{3pt}}", 1)
    return replaced("% \\usepackage{booktabs}\n" + text)


def said_once(frame: pd.DataFrame, caption: str) -> tuple[pd.DataFrame, str]:
    """Moves into the caption what sets the width: an extractor in most headings, equal runs."""
    endings = Counter(re.findall(r" \(([^()]*)\)$", "\n".join(map(str, frame)), re.MULTILINE))
    for ending, count in endings.most_common(1):
        if count >= SHARED:
            names = {name: str(name).replace(f" ({ending})", "*") for name in frame}
            frame, caption = frame.rename(columns=names), f"{caption} *: through {ending}."
    for name in [name for name in map(str, frame) if len(name) > LONG and name.endswith(")")]:
        short, _, rest = name.removesuffix(")").partition(" (")
        frame, caption = frame.rename(columns={name: short}), f"{caption} {short}: {rest}."
    cells = pd.Series(frame.astype(str).to_numpy().ravel())
    runs = cells[cells.str.contains("±")].str.extract(r" \((\d+)\)$")[0].unique()
    if len(runs) == 1 and isinstance(runs[0], str):
        frame = frame.replace(rf"(±.*) \({runs[0]}\)$", r"\1", regex=True)
        caption = caption.replace("(number of runs)", f"({runs[0]} runs)")
    return frame, caption


def escape(text: str) -> str:
    """Escapes a caption, which pandas takes as it is."""
    frame = pd.DataFrame({"text": [text]}).style.format(escape="latex")
    return str(frame.hide(axis=1).hide(axis=0).to_latex()).split("\n")[1].removesuffix(r" \\")


def replaced(text: str) -> str:
    for sign, code in SIGNS.items():
        text = text.replace(sign, code)
    return text
