"""Strange tables: fitted and drawn, or refused in one line."""

from __future__ import annotations

import csv
import io
from itertools import product
from pathlib import Path

import pytest
from fuzzing import Draw, fuzzed, spoiled
from hypothesis import strategies as st
from trials import Result, verb

CELLS = st.sampled_from(
    ["", "x", "nan", "inf", "-1", "1e400", "0", "1e-300", "<b>", '"', "999999999999999999999"]
)


@st.composite
def tables(draw: Draw, text: str) -> bytes:
    """The table of a study with other cells, columns or rows, or spoiled bytes."""
    rows = [line.split(",") for line in text.splitlines()]
    way = draw(st.sampled_from(["cells", "cells", "column", "rows", "bytes", "final"]))
    if way == "bytes":
        return bytes(draw(spoiled(text.encode())))
    if way == "column":
        at = draw(st.integers(0, len(rows[0]) - 1))
        rows = [row[:at] + row[at + 1 :] for row in rows]
    elif way == "rows":
        rows = [rows[0], *draw(st.lists(st.sampled_from(rows[1:]), max_size=6))]
    elif way == "final":
        at = rows[0].index("step")
        rows = [row for row in rows if row[at] != "4"]
    else:
        for _ in range(draw(st.integers(1, 4))):
            row = draw(st.sampled_from(rows))
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
    return "\n".join(map(",".join, rows)).encode() + b"\n"


def of_twelve_models(path: Path) -> str:
    """The table of one run as one of twelve models, each with a score of its own."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "fid"]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    for i, (size, patch) in enumerate(product(("S", "B", "L", "XL"), (8, 4, 2))):
        named = {"run": f"r{i}", "model": f"DiT-{size}/{patch}", "size": size, "patch": patch}
        counts = {"params": 1000 * (10 + i), "gflops": i + 1.5, "value": 100 - 7 * i + i % 3}
        writer.writerows(row | named | counts for row in rows if row["run"] == rows[0]["run"])
    return text.getvalue()


def test_tables_that_are_predicted_from(readable: Path, tmp_path: Path) -> None:
    text = of_twelve_models(readable / "tiny.csv")
    (tmp_path / "tiny.csv").write_text(text)
    whole = verb("predict", readable / "tiny.py", "--model", "DiT-XL/2", "--results", tmp_path)
    assert whole.status == 0, whole

    def read(value: bytes) -> Result:
        (tmp_path / "tiny.csv").write_bytes(value)
        return verb("predict", readable / "tiny.py", "--model", "DiT-XL/2", "--results", tmp_path)

    fuzzed("table of predict", 30, 350, tables(text), read)


@pytest.mark.chaos  # a page takes seconds
def test_tables_that_are_reported(readable: Path, tmp_path: Path) -> None:
    text, out = (readable / "tiny.csv").read_text(), tmp_path / "out"

    def read(value: bytes) -> Result:
        (tmp_path / "tiny.csv").write_bytes(value)
        words = ("--results", tmp_path, "--out", out, "--store", readable / "store")
        return verb("report", readable / "tiny.py", *words)

    fuzzed("table of report", 20, 50, tables(text), read)
