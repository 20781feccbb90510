"""Sweep: which runs are scored at which steps under which protocols; and grid(). No torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.base.spelling import parts, plain, remedy
from harness.base.validation import Mistakes, one_of, refuse, safe_name
from harness.spec.identity import Fields
from harness.spec.pairs import pair_problems
from harness.spec.protocol import Protocol
from harness.spec.run import Run
from harness.spec.validation import AnyProtocol

KEPT = ("features", "latents")  # that may stay of sampled images
ENDINGS = ("_log", "_samples")  # of the files beside the table of a sweep


@dataclass(frozen=True, kw_only=True)
class Sweep(Fields):
    """What is wanted: these runs, each scored at these steps under each of these protocols.

    A list, a range, an array or a single one are as good as a tuple. A dict gives each protocol
    steps of its own, `protocols={cheap: range(50_000, 400_001, 50_000), paper: 400_000}`: `steps`
    are then all of these, and may name more, which are trained and not scored. In place of
    `runs` and `steps`, `trained={small: (8_000, 32_000), large: 2_000}` gives each run steps of its
    own, as runs of equal compute have; a protocol scores those of a run that it has too. How long
    a run is trained is of no id: a longer one continues from it. `keep` says what
    stays of the sampled images: "features", from which a metric that is added later and another
    reference are computed, and "latents", from which another decoder and another extractor are.
    It changes no value, and is of no id.

    Raises:
        UserError: naming every mistake, also those that only show when a run and a protocol meet.
    """

    name: str
    runs: tuple[Run, ...] = ()
    steps: tuple[int, ...] = ()
    protocols: tuple[AnyProtocol, ...] | dict[AnyProtocol, tuple[int, ...]]
    keep: tuple[str, ...] = ("features",)
    trained: dict[Run, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.runs, Mapping):
            refuse(f"Sweep({self.name})", ["runs is a dict: give runs with their steps as trained"])
        object.__setattr__(self, "keep", parts(self.keep))
        for name in ("runs", "steps"):
            object.__setattr__(self, name, numbers(getattr(self, name)))
        self.normalise_runs()
        self.normalise_protocols()
        refuse(
            f"Sweep({self.name})",
            self.name_problems()
            + self.step_problems()
            + self.part_problems()
            + [f"keep: {kind!r} {fault}" for kind in self.keep if (fault := one_of(KEPT)(kind))],
        )

    def normalise_runs(self) -> None:
        """Gives runs one spelling: `trained` is of the runs, and empty where all steps are one."""
        own = {run: numbers(steps) for run, steps in self.trained.items()}
        object.__setattr__(self, "runs", self.runs or tuple(own))
        own = {run: steps for run, steps in own.items() if run in self.runs}
        self.default_steps(own)
        same = all(steps == self.steps for steps in own.values())
        object.__setattr__(self, "trained", {} if same and len(own) == len(self.runs) else own)

    def normalise_protocols(self) -> None:
        """Gives protocols one spelling: a dict of the same steps for all is a tuple."""
        if not isinstance(self.protocols, Mapping):
            object.__setattr__(self, "protocols", parts(self.protocols))
            return
        own = {protocol: numbers(steps) for protocol, steps in self.protocols.items()}
        self.default_steps(own)
        same = all(steps == self.steps for steps in own.values())
        object.__setattr__(self, "protocols", tuple(own) if same else own)

    def default_steps(self, own: Mapping[Any, tuple[Any, ...]]) -> None:
        """Steps that are left out are all those of the parts that have their own."""
        every = {step for steps in own.values() for step in steps}
        if not self.steps and all(type(step) is int for step in every):
            object.__setattr__(self, "steps", tuple(sorted(every)))

    def steps_of(self, part: Run | AnyProtocol) -> tuple[int, ...]:
        """The steps that a run of this sweep is trained to, or that a protocol scores."""
        if isinstance(part, Run):
            return self.trained[part] if self.trained else self.steps
        return self.protocols[part] if isinstance(self.protocols, dict) else self.steps

    @property
    def scores(self) -> list[tuple[int, AnyProtocol]]:
        """What is scored of runs that are trained to these steps, the steps rising."""
        pairs = {protocol: set(self.steps_of(protocol)) for protocol in self.protocols}
        return [(step, p) for step in self.steps for p, steps in pairs.items() if step in steps]

    def scores_of(self, run: Run) -> list[tuple[int, AnyProtocol]]:
        """What is scored of a run: those of its own steps."""
        own = set(self.steps_of(run))
        return [(step, p) for step, p in self.scores if step in own]

    @property
    def sampling(self) -> tuple[Protocol, ...]:
        """The protocols that sample images."""
        return tuple(p for p in self.protocols if isinstance(p, Protocol))

    def name_problems(self) -> list[str]:
        """The problems of the name, which becomes that of <name>.csv and <name>_log.csv."""
        fault = safe_name(self.name if isinstance(self.name, str) else "")
        if fault:
            return [f"name = {self.name!r} {fault}"]
        return [
            f"name = {self.name!r} ends in {end}, as a file of the sweep {self.name[: -len(end)]!r}"
            " does: choose another name"
            for end in ENDINGS
            if self.name.endswith(end)
        ]

    def step_problems(self) -> list[str]:
        own = {label(run): steps for run, steps in self.trained.items()}
        if isinstance(self.protocols, dict):
            own |= {label(protocol): steps for protocol, steps in self.protocols.items()}
        found = [
            fault for name, steps in own.items() for fault in rising(f"steps of {name}", steps)
        ]
        if found or (found := rising("steps", self.steps)):
            return found
        strange = {name: sorted(set(steps) - set(self.steps)) for name, steps in own.items()}
        return [
            f"steps of {name}: {', '.join(map(str, steps))} are none of steps = {self.steps}: add"
            " them there, or leave steps out"
            for name, steps in strange.items()
            if steps
        ]

    def part_problems(self) -> list[str]:
        found = []
        for name, cls, wanted in (
            ("runs", Run, "Run"),
            ("protocols", AnyProtocol, "Protocol or Validation"),
        ):
            parts = tuple(getattr(self, name))
            if others := {type(part).__name__ for part in parts if not isinstance(part, cls)}:
                return [f"{name} must be {wanted}, not {', '.join(sorted(others))}"]
            if twice := sorted(i for i, n in Counter(part.id for part in parts).items() if n > 1):
                found.append(f"{name} names {', '.join(twice)} twice")
        if not self.runs:
            found.append("runs is empty: name at least one Run")
        if self.trained and (without := [r.id for r in self.runs if r not in self.trained]):
            found.append(
                f"trained has no steps of {', '.join(without)}: give them, or leave it out"
            )
        return found + sorted(set(pair_problems(self.runs, self.protocols)))


def numbers(value: Any) -> tuple[Any, ...]:
    return tuple(plain(part, (int,)) for part in parts(value))


def label(part: object) -> str:
    if isinstance(part, Run):
        return part.id
    return part.name if isinstance(part, AnyProtocol) else repr(part)


def rising(name: str, steps: tuple[Any, ...]) -> list[str]:
    """The problems of steps to be scored."""
    if not steps:
        return [f"{name} is empty: name at least one step to score"]
    if bad := [step for step in steps if type(step) is not int]:
        return [f"{name}: {step!r} must be int{remedy(step, (int,))}" for step in bad]
    found = [f"{name}: {step} must be at least 1" for step in steps if step < 1]
    if steps != (sorted_ := tuple(sorted(set(steps)))):
        found.append(f"{name} = {steps} must rise without repeats: {sorted_}")
    return found


def grid(cls: type[Any] = Run, /, **axes: Any) -> tuple[Any, ...]:
    """The product of the axes: grid(model=["DiT-S/2", "DiT-B/2"], lr=1e-4) is two runs.

    A list, a tuple, a range or an array is an axis.

    Raises:
        UserError: with the mistakes of every member at once.
    """
    lists = [parts(values) for values in axes.values()]
    members: list[Any] = []
    found: dict[str, None] = {}
    for values in itertools.product(*lists):
        try:
            members.append(cls(**dict(zip(axes, values, strict=True))))
        except Mistakes as error:
            found |= dict.fromkeys(error.problems)
    refuse("grid", list(found))
    return tuple(members)
