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


@dataclass(frozen=True)
class Figure:
    """A drawn figure: `name` as in figure_02, its SVG, its caption."""

    name: str
    svg: str
    caption: str
    wide: bool

    @property
    def inline(self) -> Markup:
        """The SVG after its opening `<svg`; ids get the figure's name, for a page has several."""
        svg = self.svg[self.svg.index("<svg") + len("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        return Markup(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", svg))


@dataclass(frozen=True)
class Table:
    """A frame as it stands; on a phone it scrolls sideways inside itself."""

    frame: pd.DataFrame
    caption: str = ""
    name: str = ""

    @property
    def inline(self) -> Markup:
        """The `<table>`, escaped by pandas."""
        return Markup(
            self.frame.to_html(
                index=False, border=0, na_rep="\N{EN DASH}", float_format="{:.4g}".format
            )
        )


@dataclass(frozen=True)
class Section:
    """A heading and the content under it, in the order of these fields."""

    heading: str
    preformatted: str = ""
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.heading.lower()).strip("-")

    @property
    def is_empty(self) -> bool:
        content = (self.preformatted, self.items, self.figures, self.tables, self.definitions)
        return not any(self.paragraphs) and not any(map(bool, content))


def page(title: str, subtitle: str, sections: Iterable[Section]) -> bytes:
    """Returns the page of all sections that have content, in UTF-8."""
    shown = [section for section in sections if not section.is_empty]
    template = environment().get_template(TEMPLATE)
    return template.render(title=title, subtitle=subtitle, sections=shown).encode()


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
    return made


def titled(name: str) -> str:
    """Returns 'Figure 2' for 'figure_02'."""
    kind, number = name.split("_")
    return f"{kind.capitalize()} {int(number)}"


def minus(text: str) -> str:
    """Replaces hyphens before numbers with minus signs."""
    return SIGN.sub("\N{MINUS SIGN}", text)
