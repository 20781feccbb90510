"""The tables of docs/gpu.md are those of the measured rows, whatever device they are of."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import speed_table

SPEED = "what subject precision compile images_per_second mfu device torch date".split()
PEERS = "work model batch side images_per_second ratio least most windows device torch date".split()
H200 = ("NVIDIA H200", "2.11.0", "2026-01-31T10:00:00+00:00")
A100 = ("NVIDIA A100", "2.9.1", "2026-02-01T10:00:00+00:00")


def wrote(path: Path, columns: list[str], *rows: tuple[str, ...]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    wrote(
        tmp_path / "speed_nvidia-h200.csv",
        SPEED,
        ("training", "DiT-XL/2", "bf16", "False", "412.34", "0.2961", *H200),
        ("decoding", "VAE", "fp32", "False", "61.23", "", *H200),
        ("training", "DiT-XL/2", "bf16", "True", "1765.4", "0.6", *H200),
    )
    wrote(tmp_path / "speed_nvidia-a100.csv", SPEED, ("training", "X", "tf32", "", "9", "", *A100))
    wrote(
        tmp_path / "peers_nvidia-h200.csv",
        PEERS,
        ("training", "DiT-XL/2", "32", "DiT", "100", "1.000", "1.000", "1.000", "9", *H200),
        ("training", "DiT-XL/2", "32", "harness", "312", "3.120", "2.9", "3.3", "9", *H200),
    )
    return tmp_path


def test_each_device_has_a_table_of_its_own_rows(rows: Path) -> None:
    text = speed_table.tables(rows)
    a100, h200, peers = (part.splitlines() for part in re.split(r"\n(?=NVIDIA)", text.strip()))
    assert a100[0].startswith("NVIDIA A100, torch 2.9.1, 2026-02-01.")
    assert "| training X | 9 |" in a100
    assert "| work | bf16 | fp32 | bf16, compiled |" in h200
    assert "| training DiT-XL/2 | 412 (29.6%) |  | 1,765 (60.0%) |" in h200
    assert "| decoding VAE |  | 61.2 |  |" in h200
    assert "| training DiT-XL/2, 32 images | 1 | **3.12** (2.90 … 3.30) |" in peers


def test_a_page_keeps_what_lies_outside_the_marks(rows: Path, tmp_path: Path) -> None:
    begin, end = speed_table.BEGIN, speed_table.END
    page = f"before\n{begin}\nold\n{end}\nafter\n"
    new = speed_table.filled(page, speed_table.tables(rows))
    assert "old" not in new and "412 (29.6%)" in new
    assert new.startswith(f"before\n{begin}\n") and new.endswith(f"{end}\nafter\n")
    assert speed_table.filled(new, "") == f"before\n{begin}\n{end}\nafter\n", "no rows, no table"
    assert speed_table.filled("without marks", "table") == "without marks"


def test_the_docs_have_the_tables_of_the_committed_rows() -> None:
    pages = [page for page in speed_table.PAGES if speed_table.BEGIN in page.read_text()]
    assert ROOT / "docs" / "gpu.md" in pages
    for page in pages:
        now = page.read_text()
        assert now == speed_table.filled(now, speed_table.tables()), "run docs/speed_table.py"
