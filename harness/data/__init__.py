"""Datasets: DATASETS, a table of rows, and open_dataset(), which opens one of them."""

from __future__ import annotations

from pathlib import Path

from harness.base.errors import UserError
from harness.data.rows import DATASETS, Data, Dataset

EMBEDDED = ("digits", "digits8", "digits-split", "digits8-split")

__all__ = ["DATASETS", "Data", "Dataset", "held_out_path", "open_dataset", "open_held_out"]


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


def held_out_path(name: str) -> str:
    """The name under which the cluster file has the folder of a dataset's held-out latents."""
    return f"{name}-validation"


def open_held_out(name: str, path: Path | None = None) -> Dataset:
    """Opens the images of a dataset that nothing is trained on; `path` is that of their latents.

    Raises:
        UserError: there are none, or the latents are absent, not whole or of another dataset.
    """
    if not DATASETS[name].held_out:
        raise UserError(f"dataset {name!r} has no held-out images: train on one that has")
    if not DATASETS[name].latent:
        from harness.data.digits import Digits

        return Digits(name, held_out=True)
    if path is None:
        raise UserError(
            f"no latents of {name}'s held-out images: harness encode them with --data {name}, and"
            f" set paths.{held_out_path(name)} in the cluster file"
        )
    from harness.data.latents import Latents

    return Latents(name, path)
