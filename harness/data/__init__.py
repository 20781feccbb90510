"""Datasets: DATASETS, a table of rows, and open_dataset(), which opens one of them."""

from __future__ import annotations

from pathlib import Path

from harness.base.errors import UserError
from harness.data.rows import DATASETS, Data, Dataset

EMBEDDED = ("digits", "digits8")

__all__ = ["DATASETS", "Data", "Dataset", "open_dataset"]


def open_dataset(name: str, path: Path | None = None) -> Dataset:
    """Opens a dataset by name; `path` is the folder of its latents.

    Raises:
        UserError: the latents are absent, not whole or not those of this dataset, all problems at
            once; or the dataset is of pixels, and no images of it are embedded.
    """
    if DATASETS[name].latent:
        from harness.data.latents import Latents

        return Latents(name, path)
    if name in EMBEDDED:
        from harness.data.digits import Digits

        return Digits(name)
    raise UserError(
        f"dataset {name!r} has no images to open: of pixels only {' and '.join(EMBEDDED)} are"
        " embedded; train on latents of it (pixels other than its size"
        f" {DATASETS[name].size}), or open it in harness/data/__init__.py"
    )
