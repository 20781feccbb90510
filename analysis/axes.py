"""Axes of the panels: limits, ticks, labels and titles, at the width that the theme sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from analysis import style
from analysis.grid import axis_label


def text(value: Any) -> str:
    """Returns a word as it is, a number without the zeros of a float."""
    return value if isinstance(value, str) else f"{value:g}"


def log_axis(axis: Axis, low: float, high: float, decades: bool = False) -> None:
    """Makes an axis logarithmic from low to high, with two labelled ticks at least.

    Labels are plain numbers from 0.0001 to 100,000; `decades` names powers of ten alone.
    """
    axis.axes.set_xscale("log") if isinstance(axis, XAxis) else axis.axes.set_yscale("log")
    within = np.floor(np.log10(high)) - np.ceil(np.log10(low))
    if decades and within < 1:
        low, high = (
            min(low, 10 ** np.floor(np.log10(low))),
            max(high, 10 ** np.ceil(np.log10(high))),
        )
    subs = (1.0,) if within > 1 or decades else (1.0, 2.0, 3.0, 5.0) if high > 4 * low else NEAR
    axis.set_major_locator(LogLocator(subs=subs, numticks=most_ticks(axis)))
    axis.set_major_formatter(FuncFormatter(number))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.set_xlim(low, high) if isinstance(axis, XAxis) else axis.axes.set_ylim(low, high)


def most_ticks(axis: Axis) -> int:
    """Returns how many labels of 10,000 an axis has space for, at most 12."""
    ax, fig = axis.axes, axis.get_figure(root=True)
    assert fig is not None
    if not isinstance(axis, XAxis):
        return 12
    return int(np.clip(ax.get_position().width * fig.get_figwidth() / style.em() / 3.6, 3, 12))


# Ticks of a logarithmic axis that spans less than a factor of 4.
NEAR = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)


def number(value: float, place: int | None = None) -> str:
    """Returns 0.01, 25, 10,000, and beyond 1e6: an exponent above the line would be below 6 pt."""
    if 0.9e-4 < value < 1.1e5:
        return f"{value:,.6g}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def score_axis(ax: Axes, values: pd.Series, shape: str = "log") -> None:
    """Sets the limits of the scores, for all panels of a figure alike: log where all are above 0.

    Scores that differ by less than a factor of 1.5 are on a linear axis.
    """
    low, high = float(values.min()), float(values.max())
    if shape == "log" and low > 0 and high > 1.5 * low:
        margin = (high / low) ** 0.1
        log_axis(ax.yaxis, low / margin, high * margin)
    else:
        margin = 0.18 * (high - low) or 0.05 * abs(high) or 1
        ax.set_ylim(low - margin, high + margin)


def compute_axis(ax: Axes, values: pd.Series) -> None:
    """Sets a logarithmic x axis with space for names at both ends."""
    low, high = float(values.min()), float(values.max())
    margin = max((high / low) ** 0.1, 1.5)
    log_axis(ax.xaxis, low / margin, high * margin, decades=True)


def step_axis(ax: Axes, steps: pd.Series, texts: Sequence[str] = ()) -> None:
    """Sets an x axis of steps, from 0, with space for the names at the right."""
    ax.set_xlim(0, float(steps.max()) / (1 - name_share(ax, texts)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    ax.set_xlabel("Training steps")


def set_title(ax: Axes, text: str) -> None:
    """Writes a title, with more lines where it is longer than the panel is wide."""
    fig = ax.get_figure(root=True)
    assert fig is not None
    # 0.64 em of a bold letter or a space; a title may reach into the margin at the right.
    width = int((ax.get_position().width * fig.get_figwidth() / style.em() + 1) / 0.64)
    lines = [fill(line, max(width, 12)) for line in text.split("\n")]
    ax.set_title(style.literal("\n".join(lines)), loc="left")


def name_share(ax: Axes, texts: Sequence[str]) -> float:
    """Returns the part of the axis that the longest name needs, at most 0.4."""
    fig = ax.get_figure(root=True)
    assert fig is not None
    width = ax.get_position().width * fig.get_figwidth() / style.em()
    return float(min((0.56 * max(map(len, texts), default=4) + 0.8) / width, 0.4))


def label_score(ax: Axes, rows: pd.DataFrame) -> None:
    """Names the score at its axis, on two lines where one is longer than the panel is high."""
    text, fig = style.literal(axis_label(rows)), ax.get_figure(root=True)
    assert fig is not None
    height = ax.get_position().height * fig.get_figheight() / style.em()
    ax.set_ylabel(text if 0.6 * len(text) < height else text.replace(" (", "\n("))


def panel_title(only: Mapping[str, Any]) -> str:
    """Returns 'Patch 2', 'Size XL'."""
    parts = [f"{field.capitalize()} {text(value)}" for field, value in only.items()]
    return style.literal(", ".join(parts))
