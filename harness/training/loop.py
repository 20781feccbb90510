"""The training loop, read top to bottom. Resuming is not a mode: run the same task again."""

from __future__ import annotations

import time
from functools import partial

import torch
from torch import Tensor

from harness.base import rng
from harness.base.background import Background
from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.errors import UserError
from harness.base.files import remove_leftovers, write_json
from harness.base.prefetch import prefetch
from harness.data import Dataset, open_dataset
from harness.data.origin import read_origin
from harness.spec import Run
from harness.study.branches import fork
from harness.study.cluster import Cluster, even_parts
from harness.study.plan import newest
from harness.study.store import Store
from harness.study.tasks import Progress, Train
from harness.training.checkpoint import (
    is_finite,
    on_host,
    resume,
    save,
    save_weights,
    tensors_of,
)
from harness.training.log import Log, begin_log, branch_off, log_steps
from harness.training.step import microbatches, new_state, stepper

LOG_EVERY = 20  # steps between logs, signals and the clock: each waits for the device


def train(
    task: Train,
    store: Store,
    cluster: Cluster,
    rank: Rank,
    stop: Stop,
    progress: Progress,
    also: Log = len,
) -> None:
    """Trains `task.run` until the last of `task.steps`, from the newest whole state in the store.

    `also` takes the lines of the log, after they are written.

    Raises:
        UserError: the loss, the gradient or a weight is not finite; the last good checkpoint stays.
        Interrupted: a signal came, and a checkpoint was saved.
    """
    run, last = task.run, task.steps[-1]
    if rank.world != (fit := even_parts(run.batch_size, rank.world)):
        raise UserError(
            f"{run.id}: {rank.world} processes do not divide the batch of {run.batch_size}:"
            f" ask for {fit}"
        )
    if rank.is_main:  # it holds the lock of the run
        for folder in (store.run(run), *(store.checkpoint(run, s) for s in store.steps(run))):
            remove_leftovers(folder)
    dataset = open_dataset(run.data, cluster.path(run.data))
    check_images(run, store, dataset, rank)
    state = new_state(run, rank.device)

    # The newest whole state, if any.
    start, origin = resume(task, store, state, rank)
    if origin != run:
        branch_off(run, origin, start, store, dataset, rank)
    if start in task.steps and rank.is_main:  # the state is whole, the scored weights were not
        save_weights(run, store, start, task.weights, tensors_of(state))
    optimise = stepper(run, state, cluster, rank)
    log = begin_log(run, store, start, rank, also)

    # Steps. Every random number is a function of (seed, step, slot): see rng.py.
    # The next microbatch is made while the last one is in use.
    steps, slots = range(start + 1, last + 1), microbatches(run, cluster, rank)
    batches = prefetch(
        (make_batch(run, dataset, rank.device, step, *span) for step in steps for span in slots),
        rank.device,
    )
    window: list[Tensor] = []
    kept = (*task.steps, fork(run))  # steps that leave something behind
    began = saved = looked = time.perf_counter()
    with Background() as writer:  # checkpoints are written while the next steps are done
        for step in steps:
            window.append(optimise(step, batches))
            writer.check()  # raises why the last checkpoint could not be written

            # Every so often: losses, signals, checkpoint. All ranks decide alike.
            signalled = rank.world == 1 and bool(stop.signals)
            if step % LOG_EVERY and step not in kept and not signalled:
                continue
            rows = rank.mean(torch.stack(window)).tolist()  # waits for the device; then the clock
            now = time.perf_counter()
            stopping = stop.asked(rank)
            speed = len(window) * run.batch_size / (now - looked)
            where = f"between steps {step - len(window) + 1} and {step}"
            if not log_steps(run, step, rows, speed, now - began, rank, log):
                writer.wait()
                raise diverged(run, store, f"the loss or the gradient is not finite {where}")
            progress(
                f"{run.model} step {step}/{last}, {speed:.0f} images/s",
                (step - start) / (last - start),
            )
            window.clear()
            overdue = rank.any(now - saved > 60 * cluster.checkpoint_minutes)
            if step in kept or overdue or stopping:
                writer.wait()
                if rank.any(not is_finite(tensors_of(state).values())):
                    raise diverged(run, store, f"a weight is not finite {where}")
                if rank.is_main:
                    kinds = task.weights if step in task.steps else ()
                    tensors = on_host(tensors_of(state))
                    writer.start(partial(save, run, store, step, kinds, tensors))
                saved = time.perf_counter()
            if stopping and step < last:
                raise Interrupted(
                    f"{run.id} stopped at step {step} of {last}: run the same command to continue"
                )
            looked = time.perf_counter()
    rank.wait()


def diverged(run: Run, store: Store, fault: str) -> UserError:
    """The end of a run whose numbers are not finite, with its last good checkpoint."""
    return UserError(
        f"{run.id}: {fault}; the last good checkpoint is that of step {newest(run, store)}:"
        f" try a lower lr than {run.lr}"
    )


def check_images(run: Run, store: Store, dataset: Dataset, rank: Rank) -> None:
    """Writes data.json once, and checks it on every later attempt.

    Raises:
        UserError: there are fewer images than in a batch, or the run was started on others.
    """
    path, found = store.data(run), dataset.origin
    if len(dataset) < run.batch_size:
        raise UserError(
            f"{run.id}: {run.data} has {len(dataset):,} images,"
            f" fewer than a batch of {run.batch_size}"
        )
    if path.exists() and (differ := read_origin(path).differences(found)):
        was, now = read_origin(path).to_json(), found.to_json()
        raise UserError(
            f"{run.id} was begun on other images: {', '.join(differ)} ="
            f" {', '.join(str(was[name]) for name in differ)} in {path},"
            f" {', '.join(str(now[name]) for name in differ)} now:"
            f" set paths.{run.data} to the first, or take another store"
        )
    rank.wait()  # all have looked
    if rank.is_main and not path.exists():
        write_json(path, found.to_json())


def make_batch(
    run: Run, dataset: Dataset, device: torch.device, step: int, low: int, high: int
) -> tuple[Tensor, ...]:
    """Slots low … high of the batch of `step`: (x0, t, y, noise) of the objective's losses.

    Where the model has a second pass, its samples follow those of the first, and what it sees of
    them comes last.
    """
    key = (run.seed, step)
    index = rng.data_order(step, low, high, run.batch_size, len(dataset), run.seed)
    x0, y = dataset.batch(torch.from_numpy(index), low, device, *key)
    t = run.objective_row.process().times(low, high, device, *key)

    def drawn(*words: object) -> tuple[Tensor, Tensor]:
        dropped = rng.uniform(low, high, device, "dropout", *key, *words) < run.label_dropout
        noise = rng.normal(low, high, tuple(x0.shape[1:]), device, "noise", *key, *words)
        return y.masked_fill(dropped, run.data_row.classes), noise

    first = (x0, t, *drawn())
    kept = run.model_row.visible(run.setting, low, high, device, *key)
    if kept is None:
        return first
    second = (x0, t, *drawn("second"))
    return *(torch.cat(pair) for pair in zip(first, second, strict=True)), kept
