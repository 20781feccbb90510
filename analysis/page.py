"""One self-contained HTML page: no script, no request, readable on a phone and in print."""

import re
from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd

CSS = """
:root { color-scheme: light; --ink: #222; --soft: #666; --line: #e3e3e3; --accent: #00936b; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.2rem; color: var(--ink); background: #fff;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); font-size: .9rem; }
figure { margin: 1.4rem 0 2rem; } figcaption { color: var(--soft); font-size: .88rem; max-width: 46rem; }
figcaption b { color: var(--ink); }
.scroll { overflow-x: auto; }
.scroll svg { display: block; width: 100%; height: auto; }
.scroll > svg { min-width: 26rem; max-width: 42rem; }
.wide > svg { min-width: 44rem; max-width: none; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .65rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td:first-child, th:first-child { text-align: left; padding-left: 0; }
pre { overflow-x: auto; font-size: .8rem; background: #f7f7f5; padding: .8rem; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .88rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
nav a { color: var(--accent); text-decoration: none; margin-right: 1rem; white-space: nowrap; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } nav { display: none; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  .scroll { overflow: visible; } .scroll > svg { min-width: 0; } }
"""
MINUS = re.compile(r"(?<!\w)-(?=[\d.])")  # a sign, not the hyphen of a name


def page(title: str, under: str, sections: Iterable[tuple[str, str]]) -> str:
    """The page of (heading, html) sections; one without content is left out."""
    kept = [(heading, body) for heading, body in sections if body]
    links = " ".join(f'<a href="#{anchor(heading)}">{escape(heading)}</a>' for heading, _ in kept)
    bodies = "\n".join(
        f'<h2 id="{anchor(heading)}">{escape(heading)}</h2>\n{body}' for heading, body in kept
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon, or a browser asks for /favicon.ico and logs that it is not there.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(under)}</p>\n<nav>{links}</nav>\n{bodies}\n'
        "</body>\n</html>\n"
    )


def anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def figure(name: str, svg: str, caption: str, wide: bool) -> str:
    """A figure with its SVG inline; its ids get the figure's name, for on one page they would meet another's."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    label = f'<svg role="img" aria-label="{escape(caption, quote=True)}"'
    return (
        f'<figure id="{name}"><div class="scroll{" wide" if wide else ""}">{svg.replace("<svg", label, 1)}</div>'
        f"<figcaption><b>{titled(name)}.</b> {escape(caption)}</figcaption></figure>"
    )


def table(frame: pd.DataFrame, caption: str = "", name: str = "") -> str:
    """A frame as it stands; it scrolls sideways inside itself on a phone."""
    body = frame.to_html(index=False, border=0, na_rep="\N{EN DASH}", float_format="{:.4g}".format)
    head = f"<b>{titled(name)}.</b> " if name else ""
    return f'<figure><figcaption>{head}{escape(caption)}</figcaption><div class="scroll">{body}</div></figure>'


def titled(name: str) -> str:
    kind, number = name.split("_")
    return f"{kind.capitalize()} {int(number)}"


def paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def items(texts: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(MINUS.sub(chr(0x2212), text))}</li>" for text in texts)
    return f"<ul>{lines}</ul>" if lines else ""


def preformatted(text: str) -> str:
    return f"<pre>{escape(text)}</pre>" if text else ""


def definitions(pairs: Mapping[str, str]) -> str:
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs.items()
    )
    return f"<dl>{lines}</dl>" if lines else ""
