"""harness collect over 100, 1,000 and 10,000 records: the time grows with their number."""

from __future__ import annotations

import tempfile
import time
from itertools import product
from pathlib import Path

from harness.base.files import write_json
from harness.spec import Protocol, Run, Sweep, grid
from harness.study.collect import collect
from harness.study.registry import register
from harness.study.store import SCHEMA, Store

VALUES = {"fid": 10.0, "sfid": 6.0, "inception_score": 100.0, "precision": 0.6, "recall": 0.6}


def fill(store: Store, count: int) -> Sweep:
    """A store of `count` records, ten a run."""
    runs = grid(Run, model="DiT-B/4", seed=list(range(count // 10)))
    sweep = Sweep(
        name="many", runs=runs, steps=tuple(range(1, 11)), protocols=(Protocol(name="fid50k"),)
    )
    for run, step, protocol in product(sweep.runs, sweep.steps, sweep.sampling):
        register(run, store)
        write_json(store.record(run, step, protocol), record(run, step, protocol))
    return sweep


def record(run: Run, step: int, protocol: Protocol) -> dict[str, object]:
    origin = {
        "commit": "0" * 40,
        "device": "none",
        "seconds": 1.0,
        "checkpoint": "0" * 64,
        "warnings": [],
    }
    return {
        "schema": SCHEMA,
        "run": run.id,
        "step": step,
        "protocol": protocol.id,
        "n": 50_000,
        "values": VALUES,
        "reference": {"digest": "0" * 64},
        **origin,
    }


def main() -> None:
    print(f"{'records':>8}{'seconds':>9}{'ms a record':>13}")
    for count in (100, 1_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "store")
            sweep = fill(store, count)
            began = time.perf_counter()
            collect(sweep, store, Path(folder))
            seconds = time.perf_counter() - began
        print(f"{count:>8}{seconds:>9.2f}{1e3 * seconds / count:>13.2f}")


if __name__ == "__main__":
    main()
