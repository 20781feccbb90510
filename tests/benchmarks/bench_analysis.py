"""Time and memory to load and draw a log of 5 million rows."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import layout, style
from analysis.log import load_log

SIZES = ("S", "B", "L", "XL")
MODELS = [(size, patch) for size in SIZES for patch in (8, 4, 2)]


def log_of(rows: int) -> pd.DataFrame:
    steps = rows // len(MODELS)
    step = np.tile(np.arange(1, steps + 1, dtype=np.int32), len(MODELS))
    model = np.repeat(np.arange(len(MODELS)), steps)
    loss = (
        0.15 + 1 / np.sqrt(step) + 0.01 * np.random.default_rng(0).standard_normal(len(step))
    ).astype(np.float32)
    names = pd.Index([f"DiT-{size}/{patch}" for size, patch in MODELS])
    text = {
        "study": pd.Categorical.from_codes(model * 0, pd.Index(["bench"])),
        "run": pd.Categorical.from_codes(model, names),
        "model": pd.Categorical.from_codes(model, names),
        "size": pd.Categorical.from_codes(model // 3, pd.Index(SIZES)),
        "conditioning": pd.Categorical.from_codes(model * 0, pd.Index(["adaLN-Zero"])),
    }
    patch = np.array([patch for _, patch in MODELS])[model]
    numbers = {
        "patch": patch,
        "seed": 0,
        "batch_size": 256,
        "gflops": 1.0,
        "step": step,
        "loss": loss,
    }
    return pd.DataFrame({**text, **numbers})


def memory() -> float:
    """The most this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )


def main() -> None:
    for rows in (50_000, 500_000, 5_000_000):
        log = log_of(rows)
        start = time.perf_counter()
        with style.theme():
            fig = Figure()
            layout.draw("figure_13", log, fig)
            with tempfile.TemporaryDirectory() as folder:
                fig.savefig(Path(folder) / "figure_13.png")
        print(
            f"draw {rows:>9,} rows: {time.perf_counter() - start:5.1f} s, {memory():.2f} GB at most"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        log.to_csv(path, index=False)
        del log
        start = time.perf_counter()
        load_log(path)
        print(
            f"load {rows:>9,} rows: {time.perf_counter() - start:5.1f} s, {memory():.2f} GB at most"
        )


if __name__ == "__main__":
    main()
