"""The sections of a report below its figures: statistics, checks, forecasts, cost, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from analysis import html
from analysis.forecast import Forecast, forecasts_table, hits
from analysis.parts import Part
from analysis.referee import checklist
from analysis.rows import attempt
from analysis.sentences import SECTIONS, WHOLE, statistics
from analysis.side_by_side import against_published

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


def statistics_of(shown: Sequence[Part], whole: pd.DataFrame, reasons: list[str]) -> pd.DataFrame:
    """Returns the statistics of every part, its name in the column `part`, then those of all."""
    own = [name for name in SECTIONS if name not in WHOLE]
    found = [statistics(part.table, reasons, own).assign(part=part.name) for part in shown]
    return pd.concat([*found, statistics(whole, reasons, WHOLE).assign(part="")], ignore_index=True)


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
    made, known = context.forecasts, hits(context.forecasts)
    counted = f"{sum(known)} of {len(known)} scored forecasts hold the score."
    tables = [html.Table(forecasts_table(made), counted)] if made else []
    return html.Section("Forecasts", tables=tables)


def cost_section(context: Context) -> html.Section:
    if context.cost is None:
        return html.Section("Cost")
    return html.Section("Cost", tables=[html.Table(context.cost, context.cost_caption)])
