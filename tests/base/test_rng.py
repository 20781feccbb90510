"""Randomness is a function of position: of the key and the index, never of who asks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.base import rng

Draw = Callable[[int, int], Tensor]
DRAWS: dict[str, Draw] = {
    "normal": lambda low, high: rng.normal(low, high, (2, 3), "cpu", "noise", 1),
    "integers": lambda low, high: rng.integers(low, high, 1000, "cpu", "timesteps", 1),
    "uniform": lambda low, high: rng.uniform(low, high, "cpu", "dropout", 1),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("cuts", [(0, 300), (0, 1, 300), (0, 63, 64, 65, 128, 300), (0, 150, 300)])
def test_a_row_does_not_depend_on_who_asks(draw: Draw, cuts: tuple[int, ...]) -> None:
    parts = [draw(low, high) for low, high in itertools.pairwise(cuts)]
    assert torch.equal(torch.cat(parts), draw(0, 300))
    assert torch.equal(draw(170, 171)[0], draw(0, 300)[170])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_drawing_leaves_the_default_generator_alone(draw: Draw) -> None:
    before = torch.get_rng_state()
    draw(0, 100)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_is_its_key() -> None:
    keys = [
        ("noise", 0, 1),
        ("noise", 1, 0),
        ("noise", 0, 1, 0),
        ("timesteps", 0, 1),
        ("noise", "0", 1),
    ]
    assert len({rng.seed(*key) for key in keys}) == len(keys)
    assert rng.seed("noise", 0, 1) == 7926743318636194374, (
        "pinned: every random number follows from it"
    )
    assert all(0 <= rng.seed(i) < 2**63 for i in range(100))


def test_the_draws_are_those_of_their_names() -> None:
    normal, whole, unit = (
        rng.normal(0, 4096, (8,), "cpu", 0),
        rng.integers(0, 9999, 7, "cpu", 0),
        rng.uniform(0, 9999, "cpu", 0),
    )
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert (
        set(whole.tolist()) == set(range(7))
        and abs(unit.mean() - 0.5) < 0.02
        and 0 <= unit.min() <= unit.max() < 1
    )


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 65, 1797, 20_000])
def test_a_permutation_is_a_bijection(size: int) -> None:
    out = rng.permuted(np.arange(size), size, base=0, epoch=0)
    assert np.array_equal(np.sort(out), np.arange(size))
    assert rng.permuted(np.array([size - 1]), size, 0, 0)[0] == out[-1], (
        "an entry does not depend on the others asked"
    )


def test_permutations_differ_by_epoch_and_by_seed_and_mix() -> None:
    index = np.arange(1797)
    first, later, other = (
        rng.permuted(index, 1797, base, epoch) for base, epoch in ((0, 0), (0, 1), (1, 0))
    )
    for a, b in itertools.combinations((index, first, later, other), 2):
        assert (a == b).sum() < 10
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


@pytest.mark.parametrize(("batch_size", "size"), [(8, 64), (7, 100), (64, 10)])
def test_the_data_order_covers_every_epoch_once(batch_size: int, size: int) -> None:
    steps = -(-3 * size // batch_size)
    order = np.concatenate(
        [rng.data_order(step, 0, batch_size, batch_size, size, 0) for step in range(1, steps + 1)]
    )
    epochs = order[: 3 * size].reshape(3, size)
    assert all(np.array_equal(np.sort(epoch), np.arange(size)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_the_slots_of_a_batch_may_be_asked_for_apart() -> None:
    whole = rng.data_order(30, 0, 64, 64, 1797, 0)
    parts = [rng.data_order(30, low, low + 16, 64, 1797, 0) for low in range(0, 64, 16)]
    assert np.array_equal(np.concatenate(parts), whole)
