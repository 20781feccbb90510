"""The report of a study: every figure in four formats, every table in two, one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis import comparison, html, style
from analysis.captions import left_out, provenance, situation
from analysis.correlation import correlation, correlation_text
from analysis.files import INDEX, Files, csv_bytes, figure_files, publish
from analysis.layout import FIGURES, draw, overview
from analysis.paper_tables import PAPER_TABLES, paper_table
from analysis.samples import Samples, check_samples, load_samples
from analysis.sentences import attempt, findings
from analysis.table import TableError, digest, listed, published

FORMATS = ("pdf", "png", "svg", "csv")


@dataclass(frozen=True)
class Context:
    """What the page shows beside the numbers, from the person who ran the study."""

    question: str = ""
    plan: str = ""
    missing: Sequence[str] = ()
    deviations: Sequence[tuple[str, str, str]] = ()  # field, the paper's value, the study's
    provenance: Mapping[str, str] = field(default_factory=dict)


def write(
    study: str,
    table: pd.DataFrame,
    log: pd.DataFrame | None,
    samples: Path | None,
    out: Path,
    context: Context | None = None,
    protocol: str | None = None,
) -> Path:
    """Writes all that the table allows, and on the page the reason for what it does not allow.

    `protocol` selects one where several scored every model. Returns the page's path.

    Raises:
        OSError: a file cannot be written; the files that were there stay as they were.
    """
    return publish(
        render(study, table, log, samples, context or Context(), protocol), out, report_names()
    )


def compare(a: pd.DataFrame, b: pd.DataFrame, out: Path) -> Path:
    """Writes the page of two studies side by side: Figure 8 of both and the comparison.

    Raises:
        TableError: the studies have no size and patch in common, or no scores on one axis.
        OSError: a file cannot be written; the files that were there stay as they were.
    """
    return publish(render_comparison(a, b), out, report_names())


def report_names() -> set[str]:
    """Returns all names a report can have besides the page."""
    figures = {f"{name}.{kind}" for name in FIGURES for kind in FORMATS}
    tables = {f"{name}.{kind}" for name in PAPER_TABLES for kind in ("csv", "html")}
    return figures | tables | {"comparison.csv"}


def render(
    study: str,
    table: pd.DataFrame,
    log: pd.DataFrame | None,
    samples: Path | None,
    context: Context,
    protocol: str | None,
) -> Files:
    """Returns the report's files by name."""
    missing = [*context.missing, *table.attrs.get("problems", [])]
    missing += log.attrs.get("problems", []) if log is not None else []
    if protocol:
        table = table[table["protocol"] == protocol]
    missing += left_out(table)
    sources = {"table": table, "log": log, "samples": samples}
    figures, files = render_figures(sources, f"{study}, table {digest(table)}", missing)
    tables, table_files = render_tables(table, missing)
    against = attempt("Measured against published", partial(against_published, table), missing)
    sentences = findings(table, missing)
    sections = [
        against or html.Section("Measured against published"),
        html.Section("Figures", figures=figures),
        html.Section("Statistics", items=sentences),
        html.Section("Tables", tables=tables),
        html.Section("Missing", items=missing),
    ]
    page = render_page(f"Scaling study: {study}", context, table, sections)
    return {**files, **table_files, INDEX: page}


def render_comparison(a: pd.DataFrame, b: pd.DataFrame) -> Files:
    """Returns the files of two studies side by side by name."""
    names = [listed(table["study"]) for table in (a, b)]
    with style.theme():
        fig = overview(a, b, Figure(), names)
        style.stamp(fig, f"tables {digest(a)} and {digest(b)}")
        files = figure_files("figure_08", fig)
    caption = "Both studies, each on its own axis."
    figure = html.Figure("figure_08", files["figure_08.svg"].decode(), caption, wide=True)
    sections = [
        html.Section("In words", items=comparison.comparison_sentences(a, b)),
        html.Section("Figures", figures=[figure]),
        html.Section("Model by model", tables=[cells(a, b, names)]),
        html.Section("Missing", items=[*a.attrs.get("problems", []), *b.attrs.get("problems", [])]),
    ]
    page = render_page(f"{names[0]} and {names[1]}", Context(), a, sections)
    return {**files, "comparison.csv": csv_bytes(comparison.compare(a, b)), INDEX: page}


def render_page(
    title: str, context: Context, table: pd.DataFrame, sections: Sequence[html.Section]
) -> bytes:
    deviations = pd.DataFrame(context.deviations, columns=["Field", "Paper", "Here"])
    before = [
        html.Section("Question", paragraphs=context.question.splitlines()),
        html.Section("Plan and cost", preformatted=context.plan),
    ]
    after = [
        html.Section(
            "Deviations from the paper",
            tables=[html.Table(deviations)] if len(deviations) else [],
        ),
        html.Section("Provenance", definitions={**provenance(table), **context.provenance}),
    ]
    return html.page(title, situation(table), [*before, *sections, *after])


def render_figures(
    sources: Mapping[str, Any], stamp: str, missing: list[str]
) -> tuple[list[html.Figure], Files]:
    """Draws every figure that the sources allow; appends to `missing` why not the others."""
    table, figures, files = sources["table"], list[html.Figure](), Files()
    texts = {"grid": situation(table), "correlation": correlation_caption(table, missing) or ""}
    for name, layout in FIGURES.items():
        drawn = attempt(html.titled(name), partial(render_figure, name, sources, stamp), missing)
        if drawn is None:
            continue
        fig, reasons, new = drawn
        missing += [f"{html.titled(name)}: {reason}." for reason in reasons]
        caption, wide = layout.caption.format(**texts), fig.get_figwidth() > 8
        figures.append(html.Figure(name, new[f"{name}.svg"].decode(), caption, wide))
        files |= new
    return figures, files


def render_figure(
    name: str, sources: Mapping[str, Any], stamp: str
) -> tuple[Figure, list[str], Files]:
    """Returns a figure, why some of its panels are not drawn, and its files.

    Raises:
        TableError: no panel can be drawn.
    """
    data = source_data(FIGURES[name].source, sources)
    with style.theme():
        fig = Figure()
        reasons = draw(name, data, fig)
        style.stamp(fig, stamp)
        return fig, reasons, figure_files(name, fig)


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


def correlation_caption(table: pd.DataFrame, missing: list[str]) -> str | None:
    return attempt("Correlation", lambda: f"{correlation_text(correlation(table))}.", missing)


def render_tables(table: pd.DataFrame, missing: list[str]) -> tuple[list[html.Table], Files]:
    """Returns the paper's tables and their files; appends to `missing` why not the others."""
    tables, files = list[html.Table](), Files()
    for name, layout in PAPER_TABLES.items():
        frame = attempt(html.titled(name), partial(paper_table, name, table), missing)
        if frame is None:
            continue
        tables.append(html.Table(frame, layout.caption, name))
        files[f"{name}.csv"] = csv_bytes(frame)
        section = html.Section("", tables=tables[-1:])
        files[f"{name}.html"] = html.page(html.titled(name), layout.caption, [section])
    return tables, files


def against_published(table: pd.DataFrame) -> html.Section:
    """Returns measured beside published scores; of the published study, its public reruns.

    Raises:
        TableError: the studies have no size and patch in common, or no scores on one axis.
    """
    heading = "Measured against published"
    if table["source"].eq("measured").any():
        paper = published()
        sentences = comparison.comparison_sentences(table, paper)
        return html.Section(
            heading, items=sentences, tables=[cells(table, paper, ["measured", "published"])]
        )
    reruns = table.loc[table["protocol"].eq("rerun"), ["model", "value", "source"]]
    caption = "Public reruns of the paper's models."
    return html.Section(heading, tables=[html.Table(reruns, caption)] if len(reruns) else [])


def cells(a: pd.DataFrame, b: pd.DataFrame, names: Sequence[str]) -> html.Table:
    """Returns both studies by size and patch, columns named after the studies."""
    frame = comparison.compare(a, b).drop(columns=["model_a", "model_b"])
    headings = {
        f"{column}_{side}": f"{column}, {name}"
        for column in ("value", "rank")
        for side, name in zip("ab", names, strict=True)
    }
    caption = "Low and high bound the ratio that noise alone explains, 95 %."
    return html.Table(frame.rename(columns=headings), caption if "ratio" in frame else "")
