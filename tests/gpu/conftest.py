"""Marks the laws of this folder, and gives them numbers that no device draws for itself."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.base import rng


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves to `make gpu` what the default suite has no time for."""
    for item in items:
        if item.path.parent == Path(__file__).parent and not item.get_closest_marker("everywhere"):
            item.add_marker("gpu")


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    """Gives the memory of a law back to the next one."""
    yield
    if torch.cuda.is_available():
        gc.collect()
        torch.compiler.reset()
        torch.cuda.empty_cache()


@pytest.fixture
def drawn_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All random numbers are the CPU's: each kind of device has generators of its own."""
    for name, place in (("normal", 3), ("integers", 3), ("uniform", 2)):
        monkeypatch.setattr(rng, name, moved(getattr(rng, name), place))


def moved(draw: Callable[..., Tensor], place: int) -> Callable[..., Tensor]:
    """Draws on the CPU and moves to the device, which is the argument at `place`."""

    def drawn(*words: object) -> Tensor:
        there = [*words]
        device, there[place] = there[place], "cpu"
        return draw(*there).to(device)

    return drawn
