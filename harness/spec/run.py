"""Run: a training trajectory, by every field that changes its weights. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

from harness.base.validation import one_of, refuse, within
from harness.data import DATASETS
from harness.models import CONDITIONINGS, MODELS
from harness.objectives import OBJECTIVES, Objective
from harness.spec.identity import PRECISIONS, Identity


@dataclass(frozen=True, kw_only=True)
class Run(Identity):
    """A training trajectory; how long it is trained is the sweep's.

    The defaults are the paper's recipe (section 4).
    `precision` "tf32" is what the released training script sets; "fp32" turns it off, "bf16" is
    autocast. `objective` None is "ddpm", the paper's.

    Raises:
        UserError: naming every field that is unknown, of another type or out of range.
    """

    model: Annotated[str, one_of(MODELS)]
    data: Annotated[str, one_of(DATASETS)] = "imagenet256"
    conditioning: Annotated[str, one_of(CONDITIONINGS)] = "adaLN-Zero"
    batch_size: Annotated[int, within(1)] = 256
    lr: Annotated[float, within(0, 1, above=True)] = 1e-4
    weight_decay: Annotated[float, within(0, 1)] = 0.0
    ema_decay: Annotated[float, within(0, 1, below=True)] = 0.9999
    label_dropout: Annotated[float, within(0, 1, below=True)] = 0.1
    precision: Annotated[str, one_of(PRECISIONS)] = "tf32"
    seed: Annotated[int, within(0)] = 0
    objective: Annotated[str | None, one_of(OBJECTIVES)] = None

    def __post_init__(self) -> None:
        if self.objective == "ddpm":  # as runs of before there were others
            object.__setattr__(self, "objective", None)
        refuse(f"Run({self.model})", self.field_problems() or self.data_problems())

    @property
    def objective_row(self) -> Objective:
        return OBJECTIVES[self.objective or "ddpm"]

    def data_problems(self) -> list[str]:
        """The problems that only show when model and dataset meet."""
        data, found = DATASETS[self.data], []
        if data.size % MODELS[self.model].patch:
            found.append(
                f"model = {self.model!r}: its patch does not divide the {data.size} of {self.data}"
            )
        if self.batch_size > data.images:
            found.append(f"batch_size = {self.batch_size}: {self.data} has {data.images} images")
        return found

    @functools.cached_property
    def id(self) -> str:
        return f"{self.model.replace('/', '-')}_{self.digest()}"
