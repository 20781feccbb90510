"""How long `harness plan` takes, in wall seconds of whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = "from harness.spec import Protocol, Run, Sweep, grid\n"
BIG = (
    HEAD
    + """
SWEEP = Sweep(
    name="big",
    runs=grid(Run, model=["DiT-S/8", "DiT-S/4", "DiT-S/2", "DiT-B/4", "DiT-B/2"],
             lr=[1e-4, 2e-4], seed=list(range(1000))),
    steps=(100_000, 200_000, 400_000),
    protocols=(Protocol(name="fid10k", images=10_000),),
)
"""
)
GRID = (
    HEAD
    + """
SWEEP = Sweep(
    name="grid",
    runs=grid(
        Run, model=[f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)]
    ),
    steps=tuple(range(50_000, 400_001, 50_000)),
    protocols=(Protocol(name="fid50k"),),
)
"""
)


def seconds(sweep: Path, store: Path) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "harness", "plan", str(sweep), "--store", str(store)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def half_begun(folder: Path, sweep: Path) -> Path:
    """Writes a store with a folder, a state and a record for every second run."""
    from harness.base.files import write_json
    from harness.spec import Sweep
    from harness.study.store import Store
    from harness.study.sweep_file import load_sweep

    store, wanted = Store(folder / "store"), load_sweep(str(sweep))
    assert isinstance(wanted, Sweep)
    for run in wanted.runs[::2]:
        write_json(store.run(run) / "run.json", run.canonical())
        for name in (store.ema(run, wanted.steps[0]), store.state(run, wanted.steps[0])):
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_bytes((2).to_bytes(8, "little") + b"{}")
        write_json(store.record(run, wanted.steps[0], wanted.sampling[0]), {})
    return store.root


def measured(folder: Path) -> Path:
    """An empty store with one measured model: the plan has to scale the others."""
    from harness.base.files import write_json
    from harness.spec import Run
    from harness.study.cost import training
    from harness.study.store import Store

    store, work = Store(folder / "measured"), training(Run(model="DiT-S/4"))
    row = {**vars(work), "images_per_second": 100.0, "date": "2026-01-01"}
    write_json(store.speed("GPU"), {"device": "GPU", "kind": "cuda", "rows": {work.key: row}})
    return store.root


def main(rounds: int = 5) -> None:
    print(f"{'sweep':<12}{'store':<12}{'median s':>10}{'least':>8}{'most':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, text in (("12 models", GRID), ("10,000 runs", BIG)):
            sweep = folder / "sweep.py"
            sweep.write_text(text)
            stores = {
                "empty": folder / "none",
                "measured": measured(folder),
                "half begun": half_begun(folder / label, sweep),
            }
            for kind, store in stores.items():
                took = [seconds(sweep, store) for _ in range(rounds)]
                print(
                    f"{label:<12}{kind:<12}{statistics.median(took):>10.2f}{min(took):>8.2f}{max(took):>8.2f}"
                )


if __name__ == "__main__":
    main()
