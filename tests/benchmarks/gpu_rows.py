"""How fast this device does the grid's work, as rows of results/measured: `gpu_rows.py [--help]`.

Training of S/8 … XL/2, sampling, decoding, features and encoding as `harness bench` times them,
plain and compiled. Rows measured again replace the old ones; the others stay. `harness plan --on`
counts with them, and docs/speed_table.py writes them into the docs.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.base.provenance import device_name
from harness.bench.timing import bench_rows
from harness.spec import Protocol, Run, Sweep, grid
from harness.study.cluster import Cluster
from harness.study.speed import MEASURED_SPEEDS
from harness.study.store import Store

GRID = [f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)]
COLUMNS = (
    "what subject precision compile gmacs images_per_second least most batch part tflops"
    " matmul_tflops matmul_share mfu peak_bytes threads device kind torch commit date"
).split()
KEY = ("what", "subject", "precision", "compile")
Row = dict[str, Any]


def file_of(device: torch.device, folder: Path = MEASURED_SPEEDS, what: str = "speed") -> Path:
    """speed_nvidia-h200.csv: the name that the store's file of the device has."""
    name = re.sub("[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return folder / f"{what}_{name}.csv"


def sweep_of(models: Sequence[str], precisions: Sequence[str]) -> Sweep:
    """Every model trained in each precision, and sampled in those and in fp32, the default."""
    sampled = dict.fromkeys(("fp32", *precisions))
    protocols = tuple(Protocol(name=f"fid50k_{p}", precision=p) for p in sampled)
    runs = grid(Run, model=list(models), precision=list(precisions))
    return Sweep(name="speed", runs=runs, steps=(400_000,), protocols=protocols)


def row_of(row: Row, device: torch.device) -> dict[str, str]:
    """What `harness bench` stores of a work, as text for the CSV; "" for what is not known."""
    given = row | {"kind": device.type, "torch": row["versions"]["torch"]}
    return {name: "" if given[name] is None else str(given[name]) for name in COLUMNS}


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[dict[str, str]], columns: Sequence[str], key: Any) -> None:
    """Adds the rows to those of the file; one with the same key is replaced."""
    by_key = {tuple(row[name] for name in key): row for row in [*read(path), *rows]}
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(by_key.values())


def measured_rows(
    sweep: Sweep, compiled: bool, device: torch.device, seconds: float
) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store, cluster = Store(Path(folder)), Cluster(compile=compiled)
        yield from bench_rows(sweep, store, cluster, device, seconds, partial(print, flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=GRID)
    parser.add_argument("--precisions", nargs="+", default=["tf32", "bf16"])
    parser.add_argument("--seconds", type=float, default=5.0, help="that each work is timed")
    parser.add_argument("--plain", action="store_true", help="without torch.compile: minutes less")
    parser.add_argument("--out", type=Path, default=MEASURED_SPEEDS, help="the folder")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    path, sweep = file_of(device, args.out), sweep_of(args.models, args.precisions)
    for compiled in (False,) if args.plain else (False, True):
        for row in measured_rows(sweep, compiled, device, args.seconds):
            write(path, [row_of(row, device)], COLUMNS, KEY)  # at once: a lease may end
    print(path)


if __name__ == "__main__":
    main()
