"""Datasets: the table of their rows, and open_dataset(), which gives the samples."""

from __future__ import annotations

from pathlib import Path

from harness.data.rows import DATASETS, Data, Dataset

__all__ = ["DATASETS", "Data", "Dataset", "open_dataset"]


def open_dataset(name: str, path: Path | None = None) -> Dataset:
    """The dataset by name; `path` is where latents lie.

    Raises:
        ValueError: the latents are not there, not whole or not those of this dataset; every fault
        at once.
    """
    if DATASETS[name].latent:
        from harness.data.latents import Latents

        return Latents(name, path)
    from harness.data.digits import Digits

    return Digits()
