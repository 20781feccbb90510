"""Datasets: DATASETS, a table of rows, and open_dataset(), which opens one of them."""

from __future__ import annotations

from pathlib import Path

from harness.data.rows import DATASETS, Data, Dataset

__all__ = ["DATASETS", "Data", "Dataset", "open_dataset"]


def open_dataset(name: str, path: Path | None = None) -> Dataset:
    """Opens a dataset by name; `path` is the folder that harness encode wrote.

    Raises:
        UserError: the files are absent, not whole or not those of this dataset, all problems at
            once.
    """
    row = DATASETS[name]
    if row.open:
        return row.open(name, path)
    from harness.data.encoded import Images, Latents  # torch, which plans do without

    return (Latents if row.latent else Images)(name, path)
