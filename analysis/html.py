"""The parts of a report's page, and the page itself from the template beside this file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATE = "report.html.j2"
SIGN = re.compile(r"(?<!\w)-(?=[\d.])")  # a minus, not the hyphen of a name
NUMBER = re.compile(r"[−\-+]?[\d.,]+( ± .*)?(e[+-]?\d+)?")


def inline(svg: str, name: str) -> Markup:
    """Returns an SVG after its opening `<svg`; ids get the name, for a page has several."""
    svg = svg[svg.index("<svg") + len("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return Markup(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg))


@dataclass(frozen=True)
class Figure:
    """A drawn figure: `name` as in figure_02, its SVG, its caption, the files beside the page."""

    name: str
    svg: str
    caption: str
    wide: bool
    files: Sequence[str] = ()
    phone: str = ""  # the SVG that stands in where the page is narrow

    @property
    def drawings(self) -> list[tuple[str, Markup]]:
        """Where each SVG is shown, and what follows its opening `<svg`."""
        narrow = [("phone", inline(self.phone, f"{self.name}-phone"))] if self.phone else []
        return [("screen" if narrow else "", inline(self.svg, self.name)), *narrow]


@dataclass(frozen=True)
class Table:
    """A frame as it stands; on a phone each row becomes a block of labelled values."""

    frame: pd.DataFrame
    caption: str = ""
    name: str = ""
    files: Sequence[str] = ()

    @property
    def headings(self) -> list[str]:
        return [str(heading) for heading in self.frame.columns]

    @property
    def rows(self) -> list[list[str]]:
        """The cells as text."""
        return [[cell_text(value) for value in row] for row in self.frame.itertuples(index=False)]

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds numbers alone: they stand right-aligned."""
        columns = zip(*self.rows, strict=True)
        dash = ("", "\N{EN DASH}")
        return [all(c in dash or NUMBER.fullmatch(c) for c in column) for column in columns]


@dataclass(frozen=True)
class Section:
    """A heading and the content under it, in the order of these fields."""

    heading: str
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    links: Sequence[str] = ()

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.heading.lower()).strip("-")

    @property
    def is_empty(self) -> bool:
        content = (self.items, self.figures, self.tables, self.definitions, self.links)
        return not any(self.paragraphs) and not any(map(bool, content))


def page(title: str, subtitle: str, abstract: Sequence[str], sections: Iterable[Section]) -> bytes:
    """Returns the page of all sections that have content, in UTF-8; figures are numbered."""
    shown = [section for section in sections if not section.is_empty]
    template = environment().get_template(TEMPLATE)
    texts = {"title": title, "subtitle": subtitle, "abstract": abstract}
    return template.render(**texts, sections=shown).encode()


@cache
def environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["titled"] = titled
    made.filters["minus"] = minus
    made.filters["kind"] = kind
    return made


def titled(name: str) -> str:
    """Returns 'Figure 2 of the paper' for 'figure_02', 'Figure of sweeps' for 'figure_sweeps'."""
    what, which, part = [*name.split("_", 2), ""][:3]
    title = f"{int(which)} of the paper" if which.isdigit() else f"of {which}"
    return ", ".join(filter(None, [f"{what.capitalize()} {title}", part.replace("-", " ")]))


def kind(file: str) -> str:
    """Returns what a link to a file is called: 'PDF', and 'LaTeX' for .tex."""
    ending = file.rpartition(".")[2]
    return "LaTeX" if ending == "tex" else ending.upper()


def cell_text(value: object) -> str:
    """Returns text as it is, numbers with four digits, and a dash for nothing."""
    if isinstance(value, str):
        return value
    if pd.isna(value):  # type: ignore[call-overload]
        return "\N{EN DASH}"
    return minus(f"{value:.4g}") if isinstance(value, float) else str(value)


def minus(text: str) -> str:
    """Replaces hyphens before numbers with minus signs."""
    return SIGN.sub("\N{MINUS SIGN}", text)
