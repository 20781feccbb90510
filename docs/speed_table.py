"""Writes the tables of measured speeds into the pages that have a place for them.

`python docs/speed_table.py` reads results/measured/speed_*.csv and peers_*.csv, which `make
gpu-bench` writes, and fills in what lies between the marks in README.md and docs/*.md.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.base.text import pace

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "results" / "measured"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BEGIN, END = "<!-- speed: docs/speed_table.py -->", "<!-- end of speed -->"
PLACE = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
Row = dict[str, str]


def read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def measured(rows: list[Row]) -> str:
    """The table of one device: a work a line, a column for each way of doing it."""
    head = "Images a second and MFU against dense bf16; sampling counts forwards."
    return f"{origin(rows)} {head}\n\n" + pivot(
        rows,
        "work",
        lambda row: f"{row['what']} {row['subject']}",
        lambda row: row["precision"] + ", compiled" * (row["compile"] == "True"),
        rate,
    )


def beside(rows: list[Row]) -> str:
    """The table of ratios to the released code, which is 1 in each work that it was measured in."""
    windows = sorted({int(row["windows"]) for row in rows})
    head = f"Ratios to the released code, medians of {', '.join(map(str, windows))} windows."
    return f"{origin(rows)} {head}\n\n" + pivot(
        rows,
        "work",
        lambda row: f"{row['work']} {row['model']}, {row['batch']} images",
        lambda row: row["side"],
        lambda row: "1" if row["least"] == row["most"] == "1.000" else spread(row),
    )


def origin(rows: list[Row]) -> str:
    """Device, torch and days of these rows."""
    days = sorted(row["date"][:10] for row in rows)
    torch = ", ".join(sorted({row["torch"] for row in rows}))
    return f"{rows[0]['device']}, torch {torch}, {' … '.join(dict.fromkeys((days[0], days[-1])))}."


def pivot(
    rows: Iterable[Row],
    corner: str,
    line_of: Callable[[Row], str],
    column_of: Callable[[Row], str],
    cell_of: Callable[[Row], str],
) -> str:
    """A Markdown table, lines and columns in the order in which the rows name them first."""
    cells = {(line_of(row), column_of(row)): cell_of(row) for row in rows}
    lines, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    table = [[corner, *columns], ["---", *["--:"] * len(columns)]]
    table += [[line, *(cells.get((line, column), "") for column in columns)] for line in lines]
    return "\n".join(f"| {' | '.join(words)} |" for words in table)


def rate(row: Row) -> str:
    """512 (41.0%); 512 where no data sheet of the device is known."""
    mfu = f" ({float(row['mfu']):.1%})" if row["mfu"] else ""
    return pace(float(row["images_per_second"])) + mfu


def spread(row: Row) -> str:
    """1.31 (1.19 … 1.33)."""
    median, least, most = (f"{float(row[name]):.2f}" for name in ("ratio", "least", "most"))
    return f"**{median}** ({least} … {most})"


def tables(folder: Path = MEASURED) -> str:
    """All tables of a folder, the devices in the order of their names; "" without rows."""
    kinds = (("speed", measured), ("peers", beside))
    parts = [
        table(rows)
        for kind, table in kinds
        for path in sorted(folder.glob(f"{kind}_*.csv"))
        if (rows := read(path))
    ]
    return "".join(f"\n{part}\n" for part in parts) + "\n" * bool(parts)


def filled(page: str, text: str) -> str:
    """The page with `text` between the marks; as it is where it has none."""
    return PLACE.sub(lambda _: text, page)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(filled(path.read_text(), tables()))
