"""Runs of equal compute: sizes of one family and their steps within 1 % of each budget. No torch.

C = 3 · forward · batch · steps in operations, two of a multiply-add and a backward pass as two
forward ones: 6e9 · Gflops · images, as everywhere here; sampling, EMA and the VAE are not in it.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from harness.base.errors import UserError
from harness.models import MODELS, Setting, free_name
from harness.models.free_sizes import FAMILIES
from harness.spec import Run
from harness.study import compute

TOLERANCE = 0.01  # of a budget; whole steps meet it from 50 on
LEAST_STEPS = 50
SPAN = 4.0  # times and a part of the best size: a wider parabola is biased (arXiv 2603.22339)
LEAST_SIZES = 3  # of a parabola
DEEPEST = 64  # of the depths that are tried where none is asked for
WIDE = 0.1  # of a factor in width to depth, what is given up of one in Gflops to keep to it
Centre = Callable[[float], float]  # a budget → the Gflops of its best model


@dataclass(frozen=True)
class Ladder:
    """The networks to choose from: of one family, patch and head dimension, and depth if given."""

    family: str
    setting: Setting
    patch: int
    head: int
    depth: int | None = None

    def gflops(self, width: int, depth: int) -> float:
        return gflops_of(free_name(self.family, width, depth, self.head, self.patch), self.setting)

    def nearest(self, gflops: float) -> str:
        """The model nearest to this size; where the depth is free, of about the family's aspect."""

        def distance(shape: tuple[int, int]) -> float:
            off = abs(math.log(self.gflops(*shape) / gflops))
            return off + WIDE * abs(math.log(shape[0] / shape[1] / family.aspect)) * (
                not self.depth
            )

        family = FAMILIES[self.family]
        depths = [self.depth] if self.depth else range(family.depth, DEEPEST + 1, family.depth)
        shapes = [(width, depth) for depth in depths for width in self.widths(gflops, depth)]
        width, depth = min(shapes, key=distance)
        return free_name(self.family, width, depth, self.head, self.patch)

    def widths(self, gflops: float, depth: int) -> list[int]:
        """The width of this depth just below the size, and that just above."""
        every = FAMILIES[self.family].widths(self.head)
        at = bisect.bisect_left(every, gflops, key=lambda width: self.gflops(width, depth))
        return list(every[max(at - 1, 0) : at + 1])


@functools.cache
def gflops_of(model: str, setting: Setting) -> float:
    counts = MODELS[model].counts(setting)
    assert counts is not None, model  # of DiT it is a closed form
    return counts.macs / 1e9


@dataclass(frozen=True)
class Point:
    """A model and the steps by which it spends a budget."""

    budget: float
    model: str
    steps: int
    spent: float  # operations

    @property
    def off(self) -> float:
        return self.spent / self.budget - 1


def rungs(centre: float, count: int) -> list[float]:
    """Sizes at even logs over SPAN times below to SPAN times above about, on one grid for all.

    Budgets share rungs of the grid, so that one run, which continues from its shorter self, serves
    several of them; the centre is met to half a rung.
    """
    ratio = SPAN ** (2 / (count - 1))
    middle = round(math.log(centre, ratio))
    return [ratio ** (middle + k) for k in range(-((count - 1) // 2), count // 2 + 1)]


def points_of(budget: float, centre: float, like: Run, ladder: Ladder, count: int) -> list[Point]:
    """The models within SPAN of the centre that meet the budget, by rising size."""
    names = dict.fromkeys(ladder.nearest(gflops) for gflops in rungs(centre, count))
    return [point for name in names if (point := point_of(budget, name, like))]


def point_of(budget: float, model: str, like: Run) -> Point | None:
    """The model at the whole steps nearest to a budget; None where that is too far or too short."""
    each = compute.training_flop(dataclasses.replace(like, model=model), 1)
    steps = round(budget / each)
    point = Point(budget, model, steps, each * steps)
    return point if steps >= LEAST_STEPS and abs(point.off) <= TOLERANCE else None


def isoflop(
    budgets: Iterable[float], centre: Centre, like: Run, ladder: Ladder, count: int
) -> list[Point]:
    """The points of all budgets, by rising budget and size.

    Raises:
        UserError: fewer than three sizes meet some budgets; it names budgets that would be met.
    """
    found = {b: points_of(b, centre(b), like, ladder, count) for b in sorted(set(budgets))}
    unmet = [budget for budget, points in found.items() if len(points) < LEAST_SIZES]
    if unmet:
        near = [f"{b:g}: {met_near(b, centre, like, ladder, count)}" for b in unmet]
        raise UserError(
            f"fewer than {LEAST_SIZES} widths of {ladder.family} within {SPAN:g} times of the best"
            f" size meet a budget in {LEAST_STEPS} steps of {like.batch_size} or more;"
            f" {'; '.join(near)}"
        )
    return [point for points in found.values() for point in points]


def met_near(budget: float, centre: Centre, like: Run, ladder: Ladder, count: int) -> str:
    """Which budget near this one would be met, of two to a factor of ten."""

    def met(exponents: Iterable[int]) -> Iterator[float]:
        for k in exponents:
            other = float(f"{budget * 10 ** (k / 2):.1g}")
            if len(points_of(other, centre(other), like, ladder, count)) >= LEAST_SIZES:
                yield other

    known = [next(met(side), None) for side in (range(-1, -25, -1), range(1, 25))]
    texts = [f"{other:g}" for other in known if other]
    return f"{' or '.join(texts)} would be met" if texts else "none near it would be met"


def runs_of(points: Iterable[Point], like: Iterable[Run]) -> dict[Run, tuple[int, ...]]:
    """Every model with its steps, once for each run that it is like, such as seeds."""
    steps: dict[str, set[int]] = {}
    for point in points:
        steps.setdefault(point.model, set()).add(point.steps)
    return {
        dataclasses.replace(run, model=model): tuple(sorted(own))
        for run in like
        for model, own in steps.items()
    }
