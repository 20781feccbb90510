"""Loggers beside the JSON lines: TensorBoard, wandb and trackio, where a cluster asks for them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.spec import Run

PROJECT = "harness"  # where WANDB_PROJECT or TRACKIO_PROJECT names no other
# Of the lines of several steps the mean is logged; time since the attempt began says nothing there.
NOT_LOGGED = ("step", "seconds")

Lines = Sequence[Mapping[str, Any]]
Log = Callable[[Lines], None]


class Logger(Protocol):
    """A place where numbers of a run are shown, by step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values at a step; a resumed run gives some steps again."""

    def close(self) -> None:
        """Writes what is left. Nothing is logged after it."""


class Opening(NamedTuple):
    """What a logger is opened with."""

    name: str
    run: Run
    folder: Path  # the logger's own
    step: int  # of the first values


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir STORE/runs` shows them."""

    def __init__(self, opening: Opening) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a resumed run gives again replaces what was there
        self.writer = SummaryWriter(str(opening.folder), purge_step=opening.step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of wandb by the run's id; its own variables, such as WANDB_MODE=offline, apply."""

    def __init__(self, opening: Opening) -> None:
        import wandb

        opening.folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=opening.name,
            name=opening.name,
            config=opening.run.canonical(),
            dir=str(opening.folder),
            resume="allow",
            reinit="create_new",
        )
        # our steps, since wandb's own counter refuses those of a resumed run
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({"step": step, **values})

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """A run of trackio by the run's id; its own variables, such as TRACKIO_DIR, apply."""

    def __init__(self, opening: Opening) -> None:
        import trackio

        self.run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=opening.name,
            config=opening.run.canonical(),
            resume="allow",
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


OPEN: dict[str, Callable[[Opening], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


@contextlib.contextmanager
def loggers(kinds: Sequence[str], name: str, run: Run, folder: Path) -> Iterator[Log]:
    """Yields what gives lines to loggers of these kinds, which have folders below `folder`.

    A logger that fails is reported and left out: it never stops the work.
    """
    alive: dict[str, Logger | None] = dict.fromkeys(kinds)

    def log(lines: Lines) -> None:
        for kind in [*alive]:
            with dropped(kind, alive):
                step = lines[-1]["step"]
                first = Opening(name, run, folder / kind, lines[0]["step"])
                alive[kind] = there = alive[kind] or OPEN[kind](first)
                there.log(step, means(lines))

    try:
        yield log
    finally:
        for kind, there in [*alive.items()]:
            with dropped(kind, alive):
                if there:
                    there.close()


@contextlib.contextmanager
def dropped(kind: str, alive: dict[str, Logger | None]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a service may raise anything, and hours of training go on
        alive.pop(kind, None)
        reason = next(iter(str(error).splitlines()), "")
        text = f"logger {kind} failed ({type(error).__name__}: {reason}): the JSON lines go on"
        print(text, file=sys.stderr, flush=True)


def means(lines: Lines) -> dict[str, float]:
    """The mean of each number over these lines."""
    names = [name for name in lines[-1] if name not in NOT_LOGGED]
    columns = {name: [line[name] for line in lines if line.get(name) is not None] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items() if values}
