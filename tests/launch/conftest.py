"""The fake Slurm of the tests in this folder."""

from __future__ import annotations

from fake_slurm import slurm  # noqa: F401  # a fixture
