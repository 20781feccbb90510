"""The report of a study: every figure in four formats, every table in two, one HTML page around them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import comparison, fits, page, style
from analysis.layout import FIGURES, draw, overview, plotted
from analysis.printed import TABLES, printed
from analysis.tables import axis_label, digest, grid, listed, published
from analysis.words import attempt, statistics


def write(
    study: str,
    table: pd.DataFrame,
    log: pd.DataFrame | None,
    samples: Path | None,
    out: Path,
    context: Mapping[str, Any],
) -> Path:
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
