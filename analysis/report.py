"""The report of a study: every figure in four formats, every table in two, one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from analysis import html
from analysis.captions import left_out, provenance, situation
from analysis.drawing import render_figures
from analysis.files import INDEX, Files, csv_bytes, publish
from analysis.findings import findings
from analysis.forecast import Forecast, forecasts_table, is_intact
from analysis.latex import latex
from analysis.layout import FIGURES
from analysis.paper_tables import PAPER_TABLES, caption_of, paper_table, table_numbers
from analysis.parts import MOST, Part, parts
from analysis.referee import checklist
from analysis.rows import attempt
from analysis.sentences import statistics
from analysis.side_by_side import against_published, render_comparison
from analysis.table import digest

FORMATS = ("pdf", "png", "svg", "csv")
STATISTICS = "statistics.csv"
STATISTICS_COLUMNS = {
    "family": "Family",
    "statistic": "Statistic",
    "estimate": "Estimate",
    "interval": "95 % interval",
    "method": "Method",
    "n": "n",
    "note": "Note",
}


@dataclass(frozen=True)
class Context:
    """What the page shows beside the numbers, from the person who ran the study.

    `cost` has a row per model: what is done, the hours used, the hours to go.
    """

    title: str = ""
    abstract: str = ""
    status: str = ""
    cost: pd.DataFrame | None = None
    cost_caption: str = ""
    missing: Sequence[str] = ()
    deviations: Sequence[tuple[str, str, str]] = ()  # field, the paper's value, the study's
    provenance: Mapping[str, str] = field(default_factory=dict)
    forecasts: Sequence[Forecast] = ()  # made before their runs, scored or pending


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
    shown, reasons = drawable(parts(main))
    sources = {"table": table, "log": log, "samples": samples}
    stamp = f"{study}, table {digest(table)}"
    figures, files = render_figures(shown, sources, stamp, reasons)
    tables, table_files = render_tables(table, reasons)
    numbers = statistics_of(shown, reasons)
    sections = [
        html.Section(
            "Finding",
            paragraphs=[context.status, *findings(shown)],
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


def missing(table: pd.DataFrame, log: pd.DataFrame | None, context: Context) -> list[str]:
    """Lists what the study lacks, and which rows of its files cannot be used."""
    problems = table.attrs.get("problems", [])
    problems_of_log = log.attrs.get("problems", []) if log is not None else []
    return [*context.missing, *problems, *problems_of_log]


def grouped(reasons: Sequence[str]) -> list[str]:
    """Joins 'Figure 8: why.' and 'Figure 9: why.' to 'Figure 8, Figure 9: why.'"""
    names: dict[str, dict[str, None]] = {}
    for line in reasons:
        name, _, reason = line.partition(": ")
        names.setdefault(reason, {})[name] = None
    return [f"{', '.join(found)}: {reason}" for reason, found in names.items()]


def statistics_of(shown: Sequence[Part], reasons: list[str]) -> pd.DataFrame:
    """Returns the statistics of every part, its name in the column `part`."""
    found = [statistics(part.table, reasons).assign(part=part.name) for part in shown]
    return pd.concat(found, ignore_index=True)


def statistics_sections(numbers: pd.DataFrame) -> list[html.Section]:
    """Returns the statistics of each part as a table for each kind of them."""
    return [
        html.Section(
            f"Statistics, {part!s}" if part else "Statistics",
            tables=[
                html.Table(columns_for_print(rows), f"{section!s}.", files=[STATISTICS])
                for section, rows in found.groupby("section", sort=False)
            ],
        )
        for part, found in numbers.groupby("part", sort=False)
    ]


def columns_for_print(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the columns of text under their headings, without those that are empty."""
    shown = rows[[*STATISTICS_COLUMNS]].rename(columns=STATISTICS_COLUMNS).astype(str)
    one_family = rows["family"].nunique() == 1
    empty = [name for name in shown if shown[name].eq("").all()]
    return shown.drop(columns=[*empty, *(["Family"] if one_family else [])], errors="ignore")


def against_sections(shown: Sequence[Part], reasons: list[str]) -> list[html.Section]:
    """Returns each part beside the published scores."""
    made = [
        attempt("Measured against published", partial(against_published, part), reasons)
        for part in shown
    ]
    return [*filter(None, made)]


def referee_sections(shown: Sequence[Part], reasons: list[str]) -> list[html.Section]:
    """Returns each part's checklist for a referee."""
    made = [attempt("Checklist", partial(referee_section, part), reasons) for part in shown]
    return [*filter(None, made)]


def referee_section(part: Part) -> html.Section:
    frame = checklist(part.table)
    passed = f"{frame['verdict'].eq('pass').sum()} of {len(frame)} items pass."
    heading = f"Checklist, {part.name}" if part.name else "Checklist"
    return html.Section(heading, tables=[html.Table(frame.rename(columns=str.capitalize), passed)])


def forecast_section(context: Context) -> html.Section:
    """Returns the forecasts with what came, the hits counted; empty where none was made."""
    made = list(context.forecasts)
    known = [one["outcome"]["hit"] for one in made if one["outcome"] and is_intact(one)]
    counted = f"{sum(known)} of {len(known)} scored forecasts hold the score."
    tables = [html.Table(forecasts_table(made), counted)] if made else []
    return html.Section("Forecasts", tables=tables)


def cost_section(context: Context) -> html.Section:
    if context.cost is None:
        return html.Section("Cost")
    return html.Section("Cost", tables=[html.Table(context.cost, context.cost_caption)])


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
