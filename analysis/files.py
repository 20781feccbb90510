"""The files of a report: made in memory, then written so that a full disk loses nothing."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.plotted import plotted
from analysis.table import PUBLISHED, TableError

Files = dict[str, bytes]
INDEX = "index.html"
# An SVG and a PDF have a date unless it is left out: one table then gives the same files.
METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "png": {},
    "svg": {"Date": None},
}


def publish(files: Files, out: Path, names: Iterable[str] = ()) -> Path:
    """Writes the files into a folder beside, then moves each into `out`; the page comes last.

    A full disk thus leaves an earlier report as it was. `names` are all files a report can have:
    those of an earlier one that are not among `files` are removed. Returns the page's path.

    Raises:
        OSError: naming the file that cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=out) as folder:
        for name, content in files.items():
            write_synced(Path(folder) / name, content, out / name)
        for name in sorted(files, key=lambda name: name == INDEX):
            (Path(folder) / name).replace(out / name)
    for name in set(names) - files.keys():
        (out / name).unlink(missing_ok=True)
    return out / INDEX


def write_synced(path: Path, content: bytes, shown: Path) -> None:
    """Writes a file to the disk; an error names the file `shown`."""
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(shown)  # a full disk names no file
        raise


def figure_files(name: str, fig: Figure) -> Files:
    """Returns a figure as PDF, PNG and SVG without a date, and its drawn numbers as CSV.

    They are made in memory: on a full disk matplotlib fails on its own errors, which name no file.
    """
    files = {f"{name}.{kind}": image(fig, kind) for kind in METADATA}
    return {**files, f"{name}.csv": csv_bytes(plotted(fig))}


def image(fig: Figure, kind: str) -> bytes:
    """Returns a figure as PDF, PNG or SVG without a date."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()


def save(fig: Figure, stem: str | Path) -> list[Path]:
    """Writes a figure beside the caller's own files, in all formats; returns their paths.

    `stem` is the path without an ending.
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = figure_files(stem.name, fig)
    for name, content in files.items():
        (stem.parent / name).write_bytes(content)
    return [stem.parent / name for name in files]


def include(stem: str | Path, fig: Figure) -> str:
    """Returns the LaTeX that shows a saved figure at its own width, with its label as caption."""
    escaped = re.sub(r"([%&#_$])", r"\\\1", str(fig.get_label()))
    width = f"{fig.get_figwidth():.4g}in"
    return "\n".join(
        [
            r"\begin{figure}",
            r"  \centering",
            rf"  \includegraphics[width={width}]{{{Path(stem).name}.pdf}}",
            rf"  \caption{{{escaped}}}",
            r"\end{figure}",
        ]
    )


def study_table(study: str, results: Path = PUBLISHED.parents[1]) -> Path:
    """Returns the table of a study: collected here, else committed, else published.

    Raises:
        TableError: there is none; the names of those there are stand in the message.
    """
    folders = [results, results / "measured", results / "published"]
    found = [folder / f"{study}.csv" for folder in folders]
    for path in found:
        if path.exists():
            return path
    names = sorted({path.stem for folder in folders for path in folder.glob("*.csv")})
    raise TableError(f"{study!r} has no table in {results}: choose one of {', '.join(names)}")


def csv_bytes(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()
