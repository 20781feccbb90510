"""Datasets: DATASETS, a table of rows, and open_dataset(), which opens one of them."""

from __future__ import annotations

from pathlib import Path

from harness.base.errors import UserError
from harness.data.rows import DATASETS, EMBEDDED, Data, Dataset

__all__ = [
    "DATASETS",
    "EMBEDDED",
    "Data",
    "Dataset",
    "held_out_path",
    "open_dataset",
    "open_held_out",
]


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


def held_out_path(name: str) -> str:
    """The name under which the cluster file has the folder of a dataset's held-out images."""
    return f"{name}-validation"


def open_held_out(name: str, path: Path | None = None) -> Dataset:
    """Opens the images of a dataset that nothing is trained on; `path` is the folder of them.

    Raises:
        UserError: there are none, or the files are absent, not whole or of another dataset.
    """
    row = DATASETS[name]
    if row.open_held_out:
        return row.open_held_out(name, path)
    if not row.validates:
        raise UserError(f"dataset {name!r} has no held-out images: train on one that has")
    if path is None:
        raise UserError(
            f"{name}'s held-out images are nowhere: harness encode them with --data {name}, and set"
            f" paths.{held_out_path(name)} in the cluster file"
        )
    from harness.data.encoded import Images, Latents

    return (Latents if row.latent else Images)(name, path)
