"""Run: a training trajectory, by every field that changes its weights. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from harness.base.validation import one_of, refuse, within
from harness.data import DATASETS, Data
from harness.models import CONDITIONINGS, MODELS, Model, Setting
from harness.objectives import OBJECTIVES, Objective
from harness.spec.ema import Average, averages_of, ema_problem, file_of, made_from
from harness.spec.identity import PRECISIONS, Identity
from harness.spec.optimizers import OPTIMIZERS, Optimizer
from harness.spec.schedule import schedule_problem

PARAMETRIZATIONS = ("mup",)  # beside None, the standard one


def known_recipe(value: int) -> str | None:
    """A check that this version knows the recipe."""
    return None if value == 1 else "is unknown: this version has recipe 1 alone"


@dataclass(frozen=True, kw_only=True)
class Run(Identity):
    """A training trajectory; how long it is trained is the sweep's.

    The defaults are the paper's recipe (section 4).
    `precision` "tf32" is what the released training script sets; "fp32" turns it off, "bf16" is
    autocast. `objective` None is "ddpm", the paper's; `optimizer` None is "adamw"; `schedule` None
    is a constant lr (see harness/spec/schedule.py); `ema` None is `ema_decay` at every step, and
    "power-0.1" an average over a tenth of the steps in its place, "power-0.05+power-0.1" two of
    them, from which others are rebuilt (docs/averages.md);
    `parametrization` None is the standard one, and "mup" lets initial weights and lr follow the
    width (docs/mup.md); `conditioning` and `variant` are the model's.
    `recipe` counts changes of what the other fields mean: there was none, it is 1.

    Raises:
        UserError: naming every field that is unknown, of another type or out of range.
    """

    model: Annotated[str, MODELS.problem]
    data: Annotated[str, one_of(DATASETS)] = "imagenet256"
    conditioning: Annotated[str | None, one_of(CONDITIONINGS)] = None
    batch_size: Annotated[int, within(1)] = 256
    lr: Annotated[float, within(0, 1, above=True)] = 1e-4
    weight_decay: Annotated[float, within(0, 1)] = 0.0
    ema_decay: Annotated[float, within(0, 1, below=True)] = 0.9999
    label_dropout: Annotated[float, within(0, 1, below=True)] = 0.1
    precision: Annotated[str, one_of(PRECISIONS)] = "tf32"
    seed: Annotated[int, within(0)] = 0
    objective: Annotated[str | None, one_of(OBJECTIVES)] = None
    variant: str | None = None
    optimizer: Annotated[str | None, one_of(OPTIMIZERS)] = None
    schedule: Annotated[str | None, schedule_problem] = None
    ema: Annotated[str | None, ema_problem] = None
    parametrization: Annotated[str | None, one_of(PARAMETRIZATIONS)] = None
    recipe: Annotated[int | None, known_recipe] = None

    def __post_init__(self) -> None:
        self.normalise()
        refuse(f"Run({self.model})", self.all_problems())

    def all_problems(self) -> list[str]:
        """Every mistake at once: fields that do not go together, where each is one by itself."""
        found = self.field_problems()
        wrong = {fault.partition(" ")[0] for fault in found}
        for problems, reads in (
            (partial(self.kind_problems, "conditioning"), "model conditioning"),
            (partial(self.kind_problems, "variant"), "model variant"),
            (self.average_problems, "ema ema_decay"),
            (self.mup_problems, "model parametrization optimizer weight_decay"),
            (self.fit_problems, "model data objective conditioning variant"),
            (self.batch_problems, "data batch_size"),
        ):
            if not wrong & {*reads.split()}:
                found += problems()
        return found

    def normalise(self) -> None:
        """Gives one spelling to what means the same, so that it has one id."""
        plain = {
            "objective": "ddpm",
            "optimizer": "adamw",
            "schedule": "constant",
            "parametrization": "standard",
            "recipe": 1,
        }
        for name, value in plain.items():
            if getattr(self, name) == value:  # as runs of before there were others
                object.__setattr__(self, name, None)
        row = MODELS.get(self.model) if isinstance(self.model, str) else None
        if row and row.conditionings and self.conditioning is None:
            object.__setattr__(self, "conditioning", row.conditionings[0])

    @property
    def model_row(self) -> Model:
        return MODELS[self.model]

    @property
    def data_row(self) -> Data:
        return DATASETS[self.data]

    @property
    def objective_row(self) -> Objective:
        return OBJECTIVES[self.objective or "ddpm"]

    @property
    def optimizer_row(self) -> Optimizer:
        return OPTIMIZERS[self.optimizer or "adamw"]

    @property
    def averages(self) -> dict[str, Average]:
        """The averages of weights that training tracks, by the name of their file."""
        return averages_of(self.ema, self.ema_decay)

    def file_of(self, weights: str) -> str | None:
        """The name of the file that has a protocol's weights; None of an average to be rebuilt."""
        return file_of(weights, self.ema)

    def made_from(self, weights: str) -> tuple[str, ...]:
        """The files of a checkpoint that a protocol's weights are read or rebuilt from."""
        return made_from(weights, self.ema)

    @property
    def setting(self) -> Setting:
        """What the network is built for."""
        data = self.data_row
        outputs = self.objective_row.outputs
        return Setting(data.shape, data.classes, outputs, self.conditioning, self.variant)

    def kind_problems(self, name: str) -> list[str]:
        """A conditioning or variant that the model's row lacks."""
        row, value = self.model_row, getattr(self, name)
        known = getattr(row, name + "s")
        if value is None or value in known:
            return []
        remedy = f"take one of {', '.join(known)}" if known else "leave it out"
        return [f"{name} = {value!r}: {row.family} has no such {name}: {remedy}"]

    def average_problems(self) -> list[str]:
        """A decay that nothing would use."""
        if self.ema is None or self.ema_decay == type(self).ema_decay:
            return []
        return [f"ema_decay = {self.ema_decay} beside ema = {self.ema!r}: leave one of them out"]

    def mup_problems(self) -> list[str]:
        """What muP has no rule for: other networks, and optimizers that are not Adam's."""
        if self.parametrization is None:
            return []
        row, found = self.optimizer_row, []
        if self.model_row.base is None:
            found.append(f"{self.model_row.family} has no base width")
        if "exp_avg_sq" not in row.state:
            found.append(f"its rule is of Adam and AdamW, not of {self.optimizer}")
        elif row.of != "AdamW" and self.weight_decay:
            found.append(f"its rule has no weight decay with {self.optimizer}: take adamw")
        return [f"parametrization = {self.parametrization!r}: {fault}" for fault in found]

    def fit_problems(self) -> list[str]:
        """Why the network does not fit the dataset."""
        fault = self.model_row.problem(self.setting)
        return [f"model = {self.model!r} on {self.data}: {fault}"] if fault else []

    def batch_problems(self) -> list[str]:
        """A batch of more images than there are."""
        count = self.data_row.images
        if count is None or self.batch_size <= count:
            return []
        return [f"batch_size = {self.batch_size}: {self.data} has {count} images"]

    @functools.cached_property
    def id(self) -> str:
        return f"{self.model.replace('/', '-')}_{self.digest()}"
