"""What a run will cost before it starts: closed-form multiply-adds, device-hours and disk. No torch."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.data import DATASETS
from harness.models import MLP_RATIO, MODELS, TIME_FEATURES
from harness.plan import Cell, Evaluate, Train
from harness.spec import Protocol, Run
from harness.store import STATES_KEPT

PUBLISHED_SPEED = Path(__file__).parents[1] / "results" / "published" / "speed.csv"
BYTES = 4  # checkpoints are fp32
STATE_COPIES = 4  # weights, EMA and AdamW's two moments


def gflops(run: Run) -> float:
    """Forward multiply-adds of one image / 1e9, exactly as fvcore counts them."""
    model, data = MODELS[run.model], DATASETS[run.data]
    d, patch, tokens = model.width, model.patch, (data.size // model.patch) ** 2
    seen = tokens + 2 * (run.conditioning == "in-context")  # the two extra tokens pass through every block
    linear = (4 + 2 * MLP_RATIO) * d * d
    adaptive = run.conditioning.startswith("adaLN")
    norm = (4 if adaptive else 5) * d  # fvcore's count for a LayerNorm without and with affine, a token
    block = seen * (linear + 2 * seen * d + 2 * norm)
    if run.conditioning == "cross-attention":
        block += tokens * (2 * d * d + 2 * 2 * d + norm) + 2 * 2 * d * d  # q and out, attention to t and y; k and v
    block += {"adaLN-Zero": 6, "adaLN": 4}.get(run.conditioning, 0) * d * d
    ends = tokens * (3 * d * patch * patch * data.channels + norm) + TIME_FEATURES * d + d * d + 2 * d * d * adaptive
    return (model.depth * block + ends) / 1e9


def parameters(run: Run) -> int:
    """The number of parameters, exactly, fixed positions included as in the paper's counts."""
    model, data = MODELS[run.model], DATASETS[run.data]
    d, patch, tokens = model.width, model.patch, (data.size // model.patch) ** 2
    adaptive = run.conditioning.startswith("adaLN")
    block = (4 + 2 * MLP_RATIO) * d * d + (5 + MLP_RATIO) * d
    block += {"adaLN-Zero": 6, "adaLN": 4}.get(run.conditioning, 0) * (d * d + d) + (0 if adaptive else 4 * d)
    if run.conditioning == "cross-attention":
        block += 4 * d * d + 4 * d + 2 * d
    pixels = patch * patch * data.channels
    embed = (pixels + 1) * d + (TIME_FEATURES + 1 + d + 1) * d + (data.classes + 1) * d + tokens * d
    final = (d + 1) * 2 * pixels + (2 * (d * d + d) if adaptive else 2 * d)
    return model.depth * block + embed + final


def training_flop(run: Run, steps: int) -> float:
    """Operations (2 a multiply-add), the backward pass as two forwards."""
    return 2e9 * gflops(run) * run.batch_size * steps * 3


def sampling_flop(run: Run, protocol: Protocol) -> float:
    """Operations of the network alone; guidance runs it twice."""
    return 2e9 * gflops(run) * protocol.images * protocol.sampling_steps * (1 if protocol.guidance == 1.0 else 2)


@dataclass(frozen=True)
class Speed:
    """How fast a device works: sustained operations a second in training and in sampling, and who says so."""

    device: str
    training: float
    sampling: float
    source: str


def published_speed() -> Speed:
    """The figure that stands in until this machine is measured: named in every plan that uses it.

    Raises:
        ValueError: the table is not there.
    """
    try:
        with PUBLISHED_SPEED.open(newline="") as file:
            row = next(row for row in csv.DictReader(file) if row["used_by_plan"] == "yes")
    except OSError as error:
        raise ValueError(f"no published speeds: {error}; install the project with its results/ folder") from None
    rate = float(row["tflops"]) * 1e12
    return Speed(row["device"], rate, rate, row["source"])


@dataclass(frozen=True)
class Cost:
    """What is still to be spent on a run: device-hours, and bytes on the disk when all is there."""

    train_hours: float
    evaluate_hours: float
    disk: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.train_hours + other.train_hours, self.evaluate_hours + other.evaluate_hours, self.disk + other.disk
        )


def cost(cell: Cell, scored_steps: int, speed: Speed) -> Cost:
    """The cost of a cell's missing tasks at that speed; decoding and features are not in it."""
    train = sum(training_flop(t.run, t.steps[-1] - t.start) for t in cell.tasks if isinstance(t, Train))
    score = sum(sampling_flop(t.run, t.protocol) for t in cell.tasks if isinstance(t, Evaluate))
    disk = BYTES * parameters(cell.run) * (scored_steps + STATE_COPIES * STATES_KEPT)
    return Cost(train / speed.training / 3600, score / speed.sampling / 3600, disk)


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost(0.0, 0.0, 0))
