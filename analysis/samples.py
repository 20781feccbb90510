"""The sample images of a study for Figure 7: read from an npz, checked against the table."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves import apart
from analysis.table import TableError, listed

Samples = Mapping[str, np.ndarray]
FIELDS = ("images", "labels", "model", "step")
# What numpy and zipfile raise on a damaged, encrypted or foreign file.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def load_samples(path: Path) -> Samples:
    """Reads images uint8 [model, label, height, width, channel], model, labels and step.

    Raises:
        TableError: the file is damaged or has other fields or shapes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            samples = {name: np.asarray(file[name]) for name in file}
    except UNREADABLE as error:
        raise TableError(f"{path} cannot be read ({error}): collect again") from None
    if not has_sample_shapes(samples):
        raise TableError(f"{path} does not hold the samples of models by label: collect again")
    return samples


def has_sample_shapes(samples: Samples) -> bool:
    if not all(name in samples for name in FIELDS):
        return False
    images, labels, model, step = (samples[name] for name in FIELDS)
    return (
        images.dtype == np.uint8
        and images.ndim == 5
        and 0 not in images.shape
        and images.shape[:2] == (*model.shape, *labels.shape)
        and images.shape[4] in (1, 3)
        and step.shape == ()
        and step.dtype.kind in "iu"
    )


def check_samples(samples: Samples, table: pd.DataFrame) -> Samples:
    """Returns the samples if the table has scores of them, with the name of each row.

    Run and protocol count where given.

    Raises:
        TableError: the samples are of models, a step, runs or a protocol without a score.
    """
    scored = table[table["step"] == int(samples["step"])]
    wanted: dict[str, Any] = {"model": samples["model"]}
    wanted |= {
        name: np.atleast_1d(samples[name]) for name in ("run", "protocol") if name in samples
    }
    for name, values in wanted.items():
        texts = pd.Series(values.astype(str))
        lacking = texts[~texts.isin(scored[name])]
        if len(lacking):
            raise TableError(
                f"the samples are of {name} {listed(lacking)}, which the table does not have at"
                f" step {int(samples['step'])}: score it, and collect again"
            )
        scored = scored[scored[name].isin(texts)]
    return {**samples, "name": row_names(samples, table)}


def row_names(samples: Samples, table: pd.DataFrame) -> np.ndarray:
    """Returns each row's model with what tells its runs apart: 'DiT-S/4, lr 0.003, seed 1'."""
    models = pd.Series(samples["model"].astype(str))
    if "run" not in samples:
        return models.to_numpy()
    # A row per run is enough, whatever its metric.
    runs = apart(table.drop_duplicates("run").assign(metric="fid")).set_index("run")
    runs = runs.loc[samples["run"].astype(str)]
    seeds = runs.groupby("model")["seed"].transform("nunique") > 1
    seed = ", seed " + runs["seed"].map("{:g}".format)
    return (runs["model"] + seed.where(seeds, "")).to_numpy()
