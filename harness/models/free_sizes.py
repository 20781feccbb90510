"""Free sizes of DiT and U-ViT: rows such as `DiT-w384-d8-h64/2`, made when looked up. No torch."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.models import dit_rows, uvit_rows
from harness.models.dit_rows import DITS, DiTModel
from harness.models.rows import Model
from harness.models.uvit_rows import U_VITS, UViTModel

EXAMPLE = "DiT-w384-d8-h64/2"
GRAMMAR = f"{EXAMPLE} is width 384, depth 8, head dimension 64, patch 2"
NAME = re.compile(r"(.+)-w(\d+)-d(\d+)-h(\d+)/(\d+)", re.ASCII)
ALIKE = re.compile(r".+-w\d.*", re.ASCII)  # meant as such a name, and not spelled as one
# A slip of the keyboard rather than a network: each is several times the largest published.
LIMITS = {"width": 32_768, "depth": 512, "head dimension": 512, "patch": 64}
# Names of papers whose networks have another one here.
ELSEWHERE = {
    "SiT": "SiT is DiT under objective = 'flow'",
    "Latte": "Latte is video-DiT with variant = 'factorised'",
    "MDT": "MDT is MDTv1, its second version MDTv2",
}


@dataclass(frozen=True)
class Family:
    """A family with free sizes: the class of its rows, its named sizes, and what divides others."""

    row: type[DiTModel] | type[UViTModel]
    sizes: tuple[tuple[Any, ...], ...]  # size, depth, width, heads
    width: int = 1
    depth: int = 1
    head: int = 1

    def widths(self, head: int) -> range:
        """All widths of a head dimension."""
        step = math.lcm(head, self.width)
        return range(step, LIMITS["width"] + 1, step)

    @property
    def aspect(self) -> float:
        """Width to depth: the mean of the named sizes, of logs."""
        logs = [math.log(width / depth) for _, depth, width, *_ in self.sizes]
        return math.exp(sum(logs) / len(logs))


# DiT's positions in two dimensions are sines and cosines of each, of a token and of a head; U-ViT's
# timestep is a token of sines and cosines, and half of its blocks take in the other half.
FAMILIES = {
    **{name: Family(DiTModel, sizes, head=4) for name, sizes in dit_rows.FAMILIES.items()},
    **{name: Family(UViTModel, sizes, 2, 2) for name, sizes in uvit_rows.FAMILIES.items()},
}
ROWS: dict[str, DiTModel | UViTModel] = {**DITS, **U_VITS}
NAMED = {
    (row.family, row.width, row.depth, row.heads, row.patch): name
    for name, row in ROWS.items()
    if isinstance(row, DiTModel) or row.conv  # a free size has the last convolution
}


def free_name(family: str, width: int, depth: int, head: int, patch: int) -> str:
    """The name of a network of these sizes: the paper's, where it is one of those."""
    twin = NAMED.get((family, width, depth, width // head, patch))
    return twin or f"{family}-w{width}-d{depth}-h{head}/{patch}"


@functools.lru_cache(4096)
def free_row(name: str) -> DiTModel | UViTModel | None:
    """The row of a free size; None where the name is none, or `free_size_problem` has one."""
    if free_size_problem(name) or not (found := NAME.fullmatch(name)):
        return None
    width, depth, head, patch = map(int, found.groups()[1:])
    return FAMILIES[found[1]].row(
        found[1],
        f"w{width}-d{depth}-h{head}",
        patch=patch,
        depth=depth,
        width=width,
        heads=width // head,
    )


@functools.lru_cache(4096)
def free_size_problem(name: str) -> str | None:
    """What is wrong with a name that is meant as a free size; None of any other."""
    found = NAME.fullmatch(name)
    if not found:
        return f"is no free size: {GRAMMAR}" if ALIKE.fullmatch(name) else None
    if len(name) > 80:
        return f"is {len(name)} letters long: {GRAMMAR}"
    family, sizes = found[1], dict(zip(LIMITS, map(int, found.groups()[1:]), strict=True))
    faults = list(faults_of(family, sizes))
    if faults:
        return "; ".join(faults)
    plain = free_name(family, *sizes.values())
    return None if plain == name else f"is {plain}: write that, so that it has one id"


def faults_of(family: str, sizes: dict[str, int]) -> Iterator[str]:
    row = FAMILIES.get(family)
    if row is None:
        yield f"has no family of free sizes: take one of {', '.join(FAMILIES)}"
    for what, size in sizes.items():
        if not 1 <= size <= LIMITS[what]:
            yield f"has a {what} of {size}: take one of 1 to {LIMITS[what]:,}"
        elif row and size % (whole := getattr(row, what.partition(" ")[0], 1)):
            yield f"has a {what} of {size}: take a multiple of {whole}"
    width, head = sizes["width"], sizes["head dimension"]
    if head and width % head:
        below = width - width % head
        near = f"{below} or {below + head}" if below else str(head)
        yield f"has heads of {head}, which do not divide its width {width}: take {near}"


class Models(dict[str, Model]):
    """Rows by name. Those of free sizes are found and never listed: there is no end of them."""

    def __missing__(self, name: str) -> Model:
        if row := free_row(name):
            return row
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and free_row(name) is not None)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name) or free_row(name) or default

    def problem(self, name: str) -> str | None:
        """A check that the name is known: of a free size what is wrong, else the nearest name.

        Of the names only those of the nearest one's family are listed: there are 180 in all.
        """
        if name in self:
            return None
        return free_size_problem(name) or f"is unknown: {self.nearest(name)}"

    def nearest(self, name: str) -> str:
        """What to write for an unknown name."""
        families = dict.fromkeys(row.family for row in self.values())
        every = f"families are {', '.join(families)}, and DiT or U-ViT of any size: {GRAMMAR}"
        if known := ELSEWHERE.get(name.partition("-")[0]):
            return f"{known}; {every}"
        names = {other.lower(): other for other in self}
        near = difflib.get_close_matches(name.lower(), names, 1, 0.5)
        if not near:
            return every
        family = self[names[near[0]]].family
        own = [x.removeprefix(f"{family}-") for x, row in self.items() if row.family == family]
        return f"did you mean {names[near[0]]!r}? {family} has {', '.join(own)}; {every}"
