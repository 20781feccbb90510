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
from analysis.sentences import attempt, statistics
from analysis.table import TableError, digest, listed, published

FORMATS = ("pdf", "png", "svg", "csv")


@dataclass(frozen=True)
class Context:
    """What the page shows beside the numbers, from whoever ran the study."""

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
<<<<<<< HEAD
    """Writes all that the table allows, and on the page the reason for what it does not allow.
=======
    """Everything the table allows, and on the page the reason for whatever it does not allow."""
    out.mkdir(parents=True, exist_ok=True)
    missing = [*context.get("missing", []), *table.attrs.get("problems", [])]
    if "protocol" in context:  # the remedy where several protocols scored every model
        table = table[table["protocol"] == context["protocol"]]
    missing += left_out(table)
    images = dict(np.load(samples, allow_pickle=False)) if samples else None
    figures = _figures(
        {"table": table, "log": log, "samples": images},
        out,
        f"{study}, table {digest(table)}",
        missing,
    )
    tables = _tables(table, out, missing)
    against = attempt("measured against published", lambda: _against(table), missing)
    sentences = statistics(table, missing)
    return _page(out, f"Scaling study: {study}", context, table, [
        ("Measured against published", against),
        ("Figures", figures),
        ("Statistics", page.items(sentences)),
        ("Tables", tables),
        ("Missing", page.items(missing)),
    ])  # fmt: skip
>>>>>>> main

    `protocol` selects one where several scored every model. Returns the page's path.

<<<<<<< HEAD
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
    sentences = statistics(table, missing)
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
=======
def compare(a: pd.DataFrame, b: pd.DataFrame, out: Path, context: Mapping[str, Any]) -> Path:
    """Two studies side by side: Figure 8 of both, the values or the ranks cell by cell, and what it means."""
    out.mkdir(parents=True, exist_ok=True)
    names = [listed(table["study"]) for table in (a, b)]
    missing = [
        *context.get("missing", []),
        *a.attrs.get("problems", []),
        *b.attrs.get("problems", []),
    ]
    with style.theme():
        fig = overview(a, b, Figure(), names)
        style.stamp(fig, f"tables {digest(a)} and {digest(b)}")
        svg = save(fig, out / "figure_08")
    comparison.compare(a, b).to_csv(out / "comparison.csv", index=False)
    return _page(out, f"{names[0]} and {names[1]}", context, a, [
        ("In words", page.items(comparison.in_words(a, b))),
        ("Figures", page.figure("figure_08", svg, "Both studies, each on its own axis.", wide=True)),
        ("Model by model", _cells(a, b, names)),
        ("Missing", page.items(missing)),
    ])  # fmt: skip


def _page(
    out: Path,
    title: str,
    context: Mapping[str, Any],
    table: pd.DataFrame,
    sections: list[tuple[str, str]],
) -> Path:
    deviations = pd.DataFrame(context.get("deviations", []), columns=["Field", "Paper", "Here"])
    before = [
        ("Question", page.paragraphs(context.get("question", "").splitlines())),
        (
            "Plan and cost",
            page.preformatted(context.get("plan", "")) + page.paragraphs([context.get("cost", "")]),
        ),
    ]
    after = [
        ("Deviations from the paper", page.table(deviations) if len(deviations) else ""),
        ("Provenance", page.definitions(_provenance(table) | dict(context.get("provenance", {})))),
    ]
    index = out / "index.html"
    index.write_text(
        page.page(title, _situation(table), [*before, *sections, *after]), encoding="utf-8"
    )
    return index


def _figures(sources: Mapping[str, Any], out: Path, stamp: str, missing: list[str]) -> str:
    shown, table = "", sources["table"]
    correlation = attempt(
        "correlation", lambda: f"{fits.in_words(fits.correlation(table))}.", missing
    )
    for name, layout in FIGURES.items():
        try:
            if sources[layout.source] is None:
                raise ValueError(f"the study has no {layout.source}: train it, and collect again")
            with style.theme():
                fig = Figure()
                reasons = draw(name, sources[layout.source], fig)
                style.stamp(fig, stamp)
                svg = save(fig, out / name)
            under = layout.caption.format(grid=_situation(table), correlation=correlation)
            shown += page.figure(name, svg, under, wide=fig.get_figwidth() > 8)
        except ValueError as reason:
            reasons = [str(reason)]
        missing += [f"{page.titled(name)}: {reason}." for reason in reasons]
    return shown


def save(fig: Figure, path: Path) -> str:
    """PDF, PNG, SVG and the drawn numbers; no date inside, so that the same table gives the same files."""
    fig.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    fig.savefig(path.with_suffix(".png"))
    fig.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    plotted(fig).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".svg").read_text(encoding="utf-8")


def _tables(table: pd.DataFrame, out: Path, missing: list[str]) -> str:
    shown = ""
    for name, layout in TABLES.items():
        try:
            found = printed(name, table)
        except ValueError as reason:
            missing.append(f"{page.titled(name)}: {reason}.")
            continue
        found.to_csv(out / f"{name}.csv", index=False)
        shown += (body := page.table(found, layout.caption, name))
        (out / f"{name}.html").write_text(
            page.page(page.titled(name), layout.caption, [("", body)]), encoding="utf-8"
        )
    return shown


def _against(table: pd.DataFrame) -> str:
    """Each measured score beside the published one with its tolerance band; of the published study, its reruns."""
    if not table["source"].eq("measured").any():
        reruns = table[table["protocol"].eq("rerun")]
        columns = ["model", "value", "source"]
        return (
            page.table(reruns[columns], "Public reruns of the paper's models.")
            if len(reruns)
            else ""
        )
    paper = published()
    return page.items(comparison.in_words(table, paper)) + _cells(
        table, paper, ["measured", "published"]
    )


def _cells(a: pd.DataFrame, b: pd.DataFrame, names: list[str]) -> str:
    found = comparison.compare(a, b).drop(columns=["model_a", "model_b"])
    found.columns = [
        re.sub("_[ab]$", lambda end: f", {names['ab'.index(end[0][1])]}", name)
        for name in found.columns
    ]
    under = (
        "Low and high bound the ratio that noise alone explains, 95 %." if "ratio" in found else ""
    )
    return page.table(found, under)


def _situation(table: pd.DataFrame) -> str:
    """What the figures show, in a line: the score, the protocol, the step, n, and who has not come that far."""
    try:
        rows = grid(table)
    except ValueError as reason:
        return f"{reason}."
    last = rows[rows["last"]]
    behind = listed(rows.loc[~rows["complete"], "model"])
    grey = "" if behind == "nothing" else f"; grey, incomplete: {behind}"
    protocol = f"protocol {listed(rows['protocol'])}"
    return f"{axis_label(rows)}, {protocol}, n = {last['model'].nunique()} models at step {last['step'].max():,.0f}{grey}."


def left_out(table: pd.DataFrame) -> list[str]:
    """The scores that the main figures do not show, because they were made under another protocol."""
    try:
        drawn = set(grid(table)["protocol"])
    except ValueError:  # said where the figures are missing
        return []
    others = table[
        table["metric"].eq("fid") & table["size"].ne("") & ~table["protocol"].isin(drawn)
    ]
    return (
        [f"Not in the main figures: {len(others)} scores under {listed(others['protocol'])}."]
        if len(others)
        else []
    )


def _provenance(table: pd.DataFrame) -> dict[str, str]:
    fields = ["study", "source", "protocol", "features", "reference", "commit", "device"]
    found = {field: listed(table.loc[table[field].ne(""), field]) for field in fields}
    return {
        "table": digest(table),
        **{field: text for field, text in found.items() if text != "nothing"},
    }
>>>>>>> main
