"""Studies for the tests of the analysis: the published one, a measured one, its log, a planted law.

They know the CSV alone, as the analysis does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.grid import grid
from analysis.log import LOG_TEXT_COLUMNS
from analysis.table import NUMBER_COLUMNS, TEXT_COLUMNS, published

PAPER = published()
COLUMNS = [*TEXT_COLUMNS, "others", *NUMBER_COLUMNS]
GRID = grid(PAPER).query("last")[COLUMNS]
WIDTHS = {"S": (32, 2), "B": (48, 3), "L": (64, 4), "XL": (96, 5)}
STEPS = (200, 400, 600)
LOGGED = ("patch", "seed", "batch_size", "gflops")
SHARED: dict[str, Any] = {
    "study": "digits",
    "source": "measured",
    "conditioning": "adaLN-Zero",
    "others": "",
    "data": "digits",
    "batch_size": 64,
    "lr": 0.003,
    "protocol": "digits1k_0a1b2c3d",
    "n": 1000,
    "features": "digits-cnn-1",
    "sampler": "ddpm",
    "sampling_steps": 50,
    "guidance": 1.0,
    "decoder": "identity",
    "weights": "ema",
    "reference": "digits",
    "schema": 1,
} | dict.fromkeys(("labels", "checkpoint", "warning", "commit", "device"), "")


def digits(
    seeds: tuple[int, ...] = (0,), sd: float = 0.03, draw: int = 0, exponent: float = 0.35
) -> pd.DataFrame:
    """A measured study of the grid's shape: 12 models, 3 steps, 5 metrics.

    The score is a power of Gflops and steps with log-normal noise.
    """
    rng, rows = np.random.default_rng(draw), []
    for run in runs(seeds):
        for step in STEPS:
            noise = np.exp(sd * rng.standard_normal())
            score = 6 * run["gflops"] ** -exponent * (step / 600) ** -0.6 * noise
            at = {**run, "step": step, "images": 64 * step}
            rows += [{**at, "metric": name, "value": x} for name, x in metrics(score).items()]
    return pd.DataFrame(rows).assign(**SHARED).reindex(columns=COLUMNS)


def runs(seeds: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for (size, (width, depth)), patch, seed in itertools.product(WIDTHS.items(), (8, 4, 2), seeds):
        model, params = f"mini-DiT-{size}/{patch}", 12 * depth * width**2
        yield {
            "run": f"{model}-{seed}",
            "model": model,
            "size": size,
            "patch": patch,
            "seed": seed,
            "params": params,
            "gflops": params * (16 / patch) ** 2 / 1e9,
        }


def metrics(score: float) -> dict[str, float]:
    return {
        "fid": score,
        "sfid": 1.3 * score,
        "inception_score": 9 - score / 40,
        "precision": 0.9 - score / 400,
        "recall": 0.8 - score / 300,
    }


def steps_of(steps: int = 600) -> pd.DataFrame:
    """A log of every model: one row per step, the loss its step number."""
    logged = digits().drop_duplicates("run")[[*LOG_TEXT_COLUMNS, *LOGGED]]
    log = logged.merge(pd.DataFrame({"step": np.arange(1, steps + 1)}), how="cross")
    return log.assign(loss=log["step"].astype("float32"))


def unknown_size() -> pd.DataFrame:
    """A measured study with a fifth size, H."""
    largest = digits()[lambda rows: rows["size"].eq("XL")]
    larger = largest.assign(size="H", gflops=2.5 * largest["gflops"], value=0.7 * largest["value"])
    larger[["model", "run"]] = larger[["model", "run"]].replace("XL", "H", regex=True)
    return pd.concat([digits(), larger])


def u_nets() -> pd.DataFrame:
    """A measured study beside a family of U-Nets, which have no size and no patch."""
    other = digits()[lambda rows: rows["patch"].eq(2)].copy()
    other["model"] = "UNet-" + other["size"].map({"S": "64", "B": "96", "L": "128", "XL": "192"})
    other = other.assign(run=other["model"], size="", patch=np.nan, value=1.3 * other["value"])
    return pd.concat([digits(), other])


def rates() -> pd.DataFrame:
    """Three sizes by two learning rates by three seeds."""
    some = digits(seeds=(0, 1, 2))[lambda rows: rows["size"].isin(["S", "B", "L"])]
    some = some[some["patch"].eq(4)]
    other = some.assign(lr=0.001, run=some["run"] + "-low", value=1.3 * some["value"])
    return pd.concat([some, other])


def protocols(steps: tuple[int, ...], scales: tuple[float, ...] = (1.0,)) -> pd.DataFrame:
    """The measured study's last scores under protocols of sampling steps by guidance scales."""
    last = digits()[lambda rows: rows["step"].eq(600) & rows["metric"].eq("fid")]
    return pd.concat(
        [
            last.assign(
                sampling_steps=count,
                guidance=scale,
                guidance_channels=1,
                protocol=f"p{count}-{scale}",
                value=last["value"] * (1 + 8 / count) * (1 + (scale - 1.5) ** 2),
            )
            for count in steps
            for scale in scales
        ]
    )


def planted(draw: int, floor: float = 0.0, sd: float = 0.05) -> pd.DataFrame:
    """The published grid with scores 100 / Gflops^0.4 + floor, and log-normal noise."""
    noise = np.exp(sd * np.random.default_rng(draw).standard_normal(len(GRID)))
    return GRID.assign(value=(100 / GRID["gflops"] ** 0.4 + floor) * noise)


def saved(table: pd.DataFrame, folder: Path) -> Path:
    """Writes a table as a study's CSV."""
    table.to_csv(folder / "digits.csv", index=False)
    return folder / "digits.csv"


def save_samples(path: Path, **arrays: Any) -> Path:
    """Writes samples of the measured study's models at its last step."""
    models = np.array(digits()["model"].unique(), dtype=str)
    images = np.random.default_rng(0).integers(0, 255, (len(models), 4, 16, 16, 1), np.uint8)
    labels = np.arange(4)
    given: dict[str, Any] = {"images": images, "model": models, "labels": labels, "step": STEPS[-1]}
    np.savez(path, **given | arrays)
    return path
