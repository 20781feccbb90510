"""The figures of a report: drawn whole or by part, for the page, for a phone, and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis import html, style
from analysis.catalogue import FIGURES
from analysis.files import Files, figure_files, image
from analysis.layout import draw
from analysis.parts import Part
from analysis.rows import attempt
from analysis.samples import Samples, check_samples, load_samples
from analysis.table import TableError

# The order on the page: what was found, how it came about, what was checked.
CHECKED = "prediction residuals joint running specification 12 13".split()
BY_MODEL = ["08", "families", *"09 10 sweeps rates 05 07 06 02".split(), *CHECKED]
BY_RECIPE = ["sweeps", "rates", "05", "10", "08", "families", *"09 07 06 02".split(), *CHECKED]
PHONE = "icml-column"  # 312 px wide: text of 6 pt is then 9 px on a phone of 390


def render_figures(
    shown: Sequence[Part], sources: Mapping[str, Any], stamp: str, reasons: list[str]
) -> tuple[list[html.Figure], Files]:
    """Draws every figure that the sources allow; appends to `reasons` why not the others.

    A figure that cannot hold the whole table is drawn once for each part.
    """
    figures, files = list[html.Figure](), Files()
    whole = Part("", sources["table"])
    for name in sorted(FIGURES, key=partial(place, story=story(shown))):
        for tried in [[whole], *([shown] if shown[0].name else [])]:
            refused = list[str]()
            made = [render_figure(name, sources, stamp, part, refused) for part in tried]
            drawn = [each for each in made if each]
            figures += [figure for figure, _ in drawn]
            files |= {path: content for _, new in drawn for path, content in new.items()}
            if drawn:
                break
        reasons += refused
    return figures, files


def story(shown: Sequence[Part]) -> list[str]:
    """Returns the order of figures: by what varies, where that is not the model."""
    models = shown[0].table["model"].nunique()
    return BY_MODEL if len(shown) == 1 and models > 2 else BY_RECIPE


def place(name: str, story: list[str]) -> int:
    """Returns where a figure stands on the page; those that are not in the story come last."""
    number = name.rpartition("_")[2]
    return story.index(number) if number in story else len(story)


def narrowed(sources: Mapping[str, Any], part: Part) -> dict[str, Any]:
    """Returns the sources with the rows of a part: the log has no recipe, its runs tell."""
    log = sources["log"]
    if log is not None and part.name:
        log = log[log["run"].isin(part.table["run"])]
    return {**sources, "table": part.table, "log": log}


def render_figure(
    name: str, sources: Mapping[str, Any], stamp: str, part: Part, reasons: list[str]
) -> tuple[html.Figure, Files] | None:
    """Returns a figure for the page and its files; appends to `reasons` which panels it lacks."""
    file, given = name + part.slug, narrowed(sources, part)
    made = attempt(html.titled(name), partial(draw_figure, name, given, stamp, part), reasons)
    if made is None:
        return None
    fig, lacking, files, phone = made
    reasons += [f"{html.titled(name)}: {reason}." for reason in lacking]
    label = str(fig.get_label())
    caption = f"{part.name.capitalize()}. {label}" if part.name else label
    wide, svg = fig.get_figwidth() > 8, files[f"{file}.svg"].decode()
    return html.Figure(file, svg, caption, wide, [*files], phone), files


def draw_figure(
    name: str, sources: Mapping[str, Any], stamp: str, part: Part
) -> tuple[Figure, list[str], Files, str]:
    """Returns a figure, why some of its panels are not drawn, its files, and its SVG for a phone.

    Raises:
        TableError: no panel can be drawn.
    """
    data = source_data(FIGURES[name].source, sources)
    stamp = f"{stamp}, {part.name}" if part.name else stamp
    with style.theme():
        fig, reasons = drawn(name, data, stamp)
        files = figure_files(name + part.slug, fig)
    return fig, reasons, files, phone_svg(name, data, stamp)


def phone_svg(name: str, data: Any, stamp: str) -> str:
    """Returns the SVG of a figure at the width of a phone."""
    with style.theme(PHONE):
        return image(drawn(name, data, stamp)[0], "svg").decode()


def drawn(name: str, data: Any, stamp: str) -> tuple[Figure, list[str]]:
    fig = Figure()
    reasons = draw(name, data, fig)
    style.stamp(fig, stamp)
    return fig, reasons


def source_data(source: str, sources: Mapping[str, Any]) -> pd.DataFrame | Samples:
    """Returns the data of a figure.

    Raises:
        TableError: the study has none, or its samples cannot be used.
    """
    if sources[source] is None:
        raise TableError(f"the study has no {source}: train it, and collect again")
    if source == "samples":
        return check_samples(load_samples(sources[source]), sources["table"])
    return sources[source]
