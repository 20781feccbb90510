"""The report of a study: every figure in four formats, every table in two, one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from analysis import html
from analysis.captions import left_out, provenance, situation
from analysis.catalogue import FIGURES
from analysis.drawing import render_figures
from analysis.files import INDEX, Files, csv_bytes, publish
from analysis.findings import findings
from analysis.latex import latex
from analysis.paper_tables import PAPER_TABLES, caption_of, paper_table, table_numbers
from analysis.parts import MOST, Part, not_drawn, parts
from analysis.rows import attempt
from analysis.sections import (
    STATISTICS,
    Context,
    against_sections,
    cost_section,
    forecast_section,
    grouped,
    missing,
    referee_sections,
    statistics_of,
    statistics_sections,
)
from analysis.side_by_side import render_comparison
from analysis.table import digest

FORMATS = ("pdf", "png", "svg", "csv")


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

    `protocol` selects the main one where several scored every model; Figure 10 and the tables show
    all. Returns the page's path.

    Raises:
        OSError: a file cannot be written; the files that were there stay as they were.
    """
    files = render(study, table, log, samples, context or Context(), protocol)
    return publish(files, out, report_names(out))


def compare(tables: Sequence[pd.DataFrame], out: Path) -> Path:
    """Writes the page of several studies: Figure 8 of each, and each beside the first.

    Raises:
        TableError: no study has scores on one axis.
        OSError: a file cannot be written; the files that were there stay as they were.
    """
    return publish(render_comparison(tables), out, report_names(out))


def report_names(out: Path) -> set[str]:
    """Returns the files of an earlier report in a folder, besides the page."""
    figures = [f"{name}*.{kind}" for name in FIGURES for kind in FORMATS]
    tables = [f"{name}.{kind}" for name in PAPER_TABLES for kind in ("csv", "tex", "html")]
    patterns = [*figures, *tables, "comparison*.csv", "table.csv", STATISTICS]
    return {path.name for pattern in patterns for path in out.glob(pattern)}


def render(
    study: str,
    table: pd.DataFrame,
    log: pd.DataFrame | None,
    samples: Path | None,
    context: Context,
    protocol: str | None,
) -> Files:
    """Returns the report's files by name."""
    main = table[table["protocol"] == protocol] if protocol else table
    found = parts(main)
    shown, reasons = drawable(found)
    reasons += not_drawn(main, found)
    sources = {"table": table, "log": log, "samples": samples}
    stamp = f"{study}, table {digest(table)}"
    figures, files = render_figures(shown, sources, stamp, reasons)
    tables, table_files = render_tables(table, reasons)
    numbers = statistics_of(shown, main, reasons)
    sections = [
        html.Section(
            "Finding",
            paragraphs=[context.status, *findings(shown, main, numbers)],
            figures=figures[:1],
        ),
        html.Section("Figures", figures=figures[1:]),
        html.Section("Tables", tables=tables),
        *statistics_sections(numbers),
        *against_sections(shown, reasons),
        *referee_sections(shown, reasons),
        forecast_section(context),
        cost_section(context),
        html.Section("Missing", items=missing(table, log, context)),
        html.Section("Not drawn", items=[*grouped(reasons), *left_out(table)]),
    ]
    files |= {**table_files, "table.csv": csv_bytes(table), STATISTICS: csv_bytes(numbers)}
    title = context.title or f"Scaling study: {study}"
    page = render_page(title, subtitle(study, shown), context, table, sections)
    return {**files, INDEX: page}


def drawable(found: list[Part]) -> tuple[list[Part], list[str]]:
    """Returns the parts that are drawn one by one, and why not the others."""
    return found[:MOST], [
        f"{part.name}: the first {MOST} of {len(found)} parts are drawn; the tables have all."
        for part in found[MOST:]
    ]


def subtitle(study: str, shown: Sequence[Part]) -> str:
    texts = [
        f"{part.name}: {situation(part.table)}" if part.name else situation(part.table)
        for part in shown
    ]
    return " ".join([f"{study}.", *texts])


def render_page(
    title: str,
    subtitle: str,
    context: Context,
    table: pd.DataFrame,
    sections: Sequence[html.Section],
) -> bytes:
    deviations = pd.DataFrame(context.deviations, columns=["Field", "Paper", "Here"])
    after = [
        html.Section(
            "Deviations from the paper",
            tables=[html.Table(deviations)] if len(deviations) else [],
        ),
        html.Section(
            "Provenance",
            definitions={**provenance(table), **context.provenance},
            links=["table.csv", STATISTICS],
        ),
    ]
    abstract = [text for text in context.abstract.split("\n\n") if text]
    return html.page(title, subtitle, abstract, [*sections, *after])


def render_tables(table: pd.DataFrame, reasons: list[str]) -> tuple[list[html.Table], Files]:
    """Returns the paper's tables and their files; appends to `reasons` why not the others."""
    tables, files = list[html.Table](), Files()
    for name in PAPER_TABLES:
        frame = attempt(html.titled(name), partial(paper_table, name, table), reasons)
        if frame is None:
            continue
        caption, names = caption_of(name, table), (f"{name}.csv", f"{name}.tex")
        tables.append(html.Table(frame, caption, name, names))
        files[names[0]] = csv_bytes(table_numbers(name, table))
        files[names[1]] = latex(frame, caption, f"tab:{name}").encode()
    return tables, files
