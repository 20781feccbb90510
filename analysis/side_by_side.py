"""Studies side by side: the page of several, and a measured study beside the published one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from analysis import comparison, html, style
from analysis.captions import provenance, situation
from analysis.comparison_text import comparison_sentences
from analysis.families import models_of, placed
from analysis.families_rows import summary
from analysis.figures import figure_08
from analysis.files import INDEX, Files, csv_bytes, figure_files
from analysis.layout import draw
from analysis.legend import add_legend
from analysis.models import with_family
from analysis.panels import Layout, Panel, crop, place_panels
from analysis.parts import Part
from analysis.rows import attempt
from analysis.table import TableError, digest, listed, published

AGAINST = "Measured against published"


def render_comparison(tables: Sequence[pd.DataFrame]) -> Files:
    """Returns the files of several studies by name: each of them is compared with the first.

    Raises:
        TableError: no study has scores on one axis.
    """
    names, reasons = [listed(table["study"]) for table in tables], list[str]()
    files = overview_files(tables, names, reasons)
    sections = [figure_section(files)]
    made = attempt("Families on one axis", partial(families_section, tables), reasons)
    if made:
        sections.append(made[0])
        files |= made[1]
    for table, name in zip(tables[1:], names[1:], strict=True):
        heading = f"{name} beside {names[0]}"
        made = attempt(heading, partial(beside, tables[0], table, heading), reasons)
        if made:
            sections.append(made[0])
            files |= made[1]
    problems = [line for table in tables for line in table.attrs.get("problems", [])]
    sections += [
        html.Section("Missing", items=problems),
        html.Section("Not drawn", items=reasons),
        html.Section("Provenance", definitions=origins(tables, names), links=["table.csv"]),
    ]
    lines = [f"{name}: {situation(table)}" for name, table in zip(names, tables, strict=True)]
    page = html.page(", ".join(names), " ".join(lines), [], sections)
    return {**files, "table.csv": csv_bytes(pd.concat(tables)), INDEX: page}


def overview_files(
    tables: Sequence[pd.DataFrame], names: Sequence[str], reasons: list[str]
) -> Files:
    """Draws Figure 8 of each study on its own axes: scores need not be one quantity.

    Raises:
        TableError: no study has scores on one axis.
    """
    panel = Panel(figure_08, "")
    rows = ((panel,) * len(tables),)
    with style.theme():
        fig = Figure()
        places = place_panels(rows, Layout(rows, height=26), fig)[0]
        for ax, table, name in zip(places, tables, names, strict=True):
            if attempt(f"Figure 8 of {name}", partial(figure_08, table, ax), reasons):
                ax.set_title(f"{style.literal(name)}\n{ax.get_title(loc='left')}", loc="left")
            else:
                ax.remove()
        if not fig.axes:
            raise TableError("; ".join(reasons).rstrip("."))
        crop(fig)
        add_legend(fig, pd.concat(tables))
        style.stamp(fig, f"tables {', '.join(map(digest, tables))}")
        return figure_files("figure_08", fig)


def families_section(tables: Sequence[pd.DataFrame]) -> tuple[html.Section, Files]:
    """Returns the families of all studies on one axis, and its files; in what else they differ.

    Raises:
        TableError: the scores are not one quantity, or there are too few models.
    """
    table = pd.concat([with_family(table) for table in tables])
    sentence, name = summary(table), "figure_families"
    with style.theme():
        fig = Figure()
        draw(name, table, fig)
        style.stamp(fig, f"tables {', '.join(map(digest, tables))}")
        files = figure_files(name, fig)
    caption = f"{fig.get_label()} {conditions_text(table)}"
    svg = files[f"{name}.svg"].decode()
    figure = html.Figure(name, svg, caption, True, [*files])
    return html.Section("Families on one axis", paragraphs=[sentence], figures=[figure]), files


def conditions_text(table: pd.DataFrame) -> str:
    """States in what the studies' scores on one axis differ."""
    rows = placed(table)
    rows = rows[rows["last"] & rows["family"].isin(models_of(table)["family"])]
    fields = [name for name in comparison.COMPARABLE if rows[name].nunique(dropna=False) > 1]
    texts = [f"{name} ({listed(given(rows[name]))})" for name in fields]
    return f"The studies differ in {' and '.join(texts)}." if texts else ""


def given(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna() & values.ne(""), "not given")


def figure_section(files: Files) -> html.Section:
    caption = "Each study on its own axis."
    svg = files["figure_08.svg"].decode()
    return html.Section("Figures", figures=[html.Figure("figure_08", svg, caption, True, [*files])])


def origins(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> dict[str, str]:
    """Returns the provenance of every study, each line named after it."""
    return {
        f"{name}: {field}": text
        for name, table in zip(names, tables, strict=True)
        for field, text in provenance(table).items()
        if field != "study"
    }


def beside(first: pd.DataFrame, other: pd.DataFrame, heading: str) -> tuple[html.Section, Files]:
    """Returns how a study compares with the first, and the numbers behind it as a file.

    Raises:
        TableError: the studies have no size and patch in common, or no scores on one axis.
    """
    sentences = comparison_sentences(first, other)
    names = [listed(table["study"]) for table in (first, other)]
    file = f"comparison_{'_'.join(names)}.csv"
    table = cells(first, other, names, [file])
    section = html.Section(heading, items=sentences, tables=[table])
    return section, {file: csv_bytes(comparison.compare(first, other))}


def against_published(part: Part) -> html.Section:
    """Returns measured beside published scores; of the published study, its public reruns.

    Raises:
        TableError: the studies have no size and patch in common, or no scores on one axis.
    """
    table, paper = part.table, published()
    if not table["source"].eq("measured").any():
        return reruns(table)
    sentences = comparison_sentences(table, paper)
    beside = cells(table, paper, ["measured", "published"])
    heading = f"{AGAINST}, {part.name}" if part.name else AGAINST
    return html.Section(heading, items=sentences, tables=[beside])


def reruns(table: pd.DataFrame) -> html.Section:
    """Returns the public reruns of the paper's models beside the paper's own values."""
    rows = table[table["protocol"].eq("rerun")]
    paper = table[table["protocol"].eq("fid50k") & table["metric"].eq("fid")]
    paper = paper.drop_duplicates(["model", "step"])[["model", "step", "value"]]
    both = rows.merge(paper, on=["model", "step"], how="left", suffixes=("", "_paper"))
    frame = pd.DataFrame(
        {
            "Model": both["model"],
            "Steps": both["step"].map("{:,.0f}".format),
            "FID, rerun": both["value"],
            "FID, paper": both["value_paper"],
            "Ratio": both["value"] / both["value_paper"],
            "Source": both["source"],
        }
    )
    caption = "Trainings of the paper's models by others, beside the paper's values."
    tables = [html.Table(frame, caption)] if len(frame) else []
    return html.Section("Public reruns of the paper's models", tables=tables)


def cells(
    a: pd.DataFrame, b: pd.DataFrame, names: Sequence[str], files: Sequence[str] = ()
) -> html.Table:
    """Returns both studies by size and patch, columns named after the studies."""
    frame = comparison.compare(a, b).drop(columns=["model_a", "model_b"])
    headings = {
        f"{column}_{side}": f"{column}, {name}"
        for column in ("value", "rank")
        for side, name in zip("ab", names, strict=True)
    }
    caption = f"{names[0].capitalize()} and {names[1]}, model by model."
    if "ratio" in frame:
        caption += " Low and high bound the ratio that noise alone explains, 95 %."
    named = frame.rename(columns=headings).rename(columns=str.capitalize)
    return html.Table(named, caption, files=files)
