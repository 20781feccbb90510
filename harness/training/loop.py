"""The training loop, read top to bottom. Resuming is not a mode: run the same task again."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from harness.base import rng
from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.errors import UserError
from harness.base.files import append_lines, read_json, write_json
from harness.base.prefetch import prefetch
from harness.base.provenance import device_name, provenance
from harness.base.tensors import load_tensors, save_tensors
from harness.data import DATASETS, Dataset, open_dataset
from harness.models import flops
from harness.objectives import TIMESTEPS
from harness.spec import Run, even_parts
from harness.study.cluster import Cluster
from harness.study.compute import gflops
from harness.study.plan import newest
from harness.study.store import Store
from harness.study.tasks import Progress, Train
from harness.training.step import Learner, new_learner, new_network, parts, stepper

LOOK = 20  # steps between looks at losses, signals and the clock: a look waits for the device
PEAKS = {
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
}  # dense bf16 operations a second, by the vendor's data sheets


def train(
    task: Train, store: Store, cluster: Cluster, rank: Rank, stop: Stop, progress: Progress
) -> None:
    """Trains `task.run` until the last of `task.steps`, from the newest whole state in the store.

    Raises:
        UserError: the loss or the gradient is not finite; the last good checkpoint stays.
        Interrupted: a signal came, and a checkpoint was saved.
    """
    run, last = task.run, task.steps[-1]
    if rank.world != (fit := even_parts(run.batch_size, rank.world)):
        raise UserError(
            f"{run.id}: {rank.world} processes do not divide the batch of {run.batch_size}: ask for {fit}"
        )
    dataset = open_dataset(run.data, cluster.path(run.data))
    same_images(run, store, dataset, rank)
    learner = new_learner(run, rank.device)

    # The newest whole state, if any.
    start = resume(task, store, learner, rank)
    if start in task.steps and rank.is_main:  # its state is whole, its scored weights were not
        save(run, store, start, True, learner)
    optimise = stepper(run, learner, cluster, rank)
    log = begin_log(run, store, start, rank)

    # Steps. Every random number is a function of (seed, step, slot): see rng.py. The next part is
    # drawn meanwhile.
    steps, cuts = range(start + 1, last + 1), parts(run, cluster, rank)
    drawn = prefetch(
        (draw(run, dataset, rank.device, step, *cut) for step in steps for cut in cuts), rank.device
    )
    window: list[Tensor] = []
    began = saved = mark = time.perf_counter()
    for step in steps:
        window.append(optimise(drawn))

        # Every so often: losses, signals, checkpoint. All ranks decide alike.
        alone = rank.world == 1 and bool(stop.signals)
        if step % LOOK and step not in task.steps and step != last and not alone:
            continue
        rows = rank.mean(
            torch.stack(window)
        ).tolist()  # waits for the device: the clock is read after it
        now = time.perf_counter()
        stopping = stop.asked(rank)
        speed = len(window) * run.batch_size / (now - mark)
        if not report(run, step, rows, speed, now - began, rank, log):
            raise UserError(
                f"{run.id}: the loss or the gradient is not finite between steps {step - len(window) + 1} and {step};"
                f" the last good checkpoint is that of step {newest(run, store)}: try a lower lr than {run.lr}"
            )
        progress(
            f"{run.model} step {step}/{last}, {speed:.0f} images/s", (step - start) / (last - start)
        )
        window.clear()
        overdue = rank.any(now - saved > 60 * cluster.checkpoint_minutes)
        if step in task.steps or step == last or overdue or stopping:
            if rank.is_main:
                save(run, store, step, step in task.steps, learner)
            rank.wait()
            saved = time.perf_counter()
        if stopping and step < last:
            raise Interrupted(
                f"{run.id} stopped at step {step} of {last}: run the same command to go on"
            )
        mark = time.perf_counter()


def same_images(run: Run, store: Store, dataset: Dataset, rank: Rank) -> None:
    """Writes data.json once.

    Raises:
        ValueError: there are fewer images than in a batch, or the run was begun on others.
    """
    path, found = store.data(run), {"images": len(dataset), "digest": dataset.digest}
    if len(dataset) < run.batch_size:
        raise UserError(
            f"{run.id}: {run.data} has {len(dataset):,} images, fewer than a batch of {run.batch_size}"
        )
    if path.exists() and (begun := read_json(path)) != found:
        raise UserError(
            f"{run.id} was begun on other images, {begun['images']:,} of digest {begun['digest'][:12]}, not"
            f" {found['images']:,} of {dataset.digest[:12]}: set paths.{run.data} to them, or take another store"
        )
    rank.wait()  # all have looked
    if rank.is_main and not path.exists():
        write_json(path, found)


def draw(
    run: Run, dataset: Dataset, device: torch.device, step: int, low: int, high: int
) -> tuple[Tensor, ...]:
    """Slots low … high of the batch of `step`: (x0, t, y, noise)."""
    data, key = DATASETS[run.data], (run.seed, step)
    index = rng.data_order(step, low, high, run.batch_size, len(dataset), run.seed)
    x0, y = dataset.batch(torch.from_numpy(index), low, device, *key)
    dropped = rng.uniform(low, high, device, "dropout", *key) < run.label_dropout
    t = rng.integers(low, high, TIMESTEPS, device, "timesteps", *key)
    noise = rng.normal(low, high, tuple(x0.shape[1:]), device, "noise", *key)
    return x0, t, y.masked_fill(dropped, data.classes), noise


def begin_log(
    run: Run, store: Store, start: int, rank: Rank
) -> Callable[[list[dict[str, object]]], None]:
    """Writes run.json and model.json once, opens this attempt's log, and returns what appends to it (on rank 0)."""
    if not rank.is_main:
        return lambda lines: None
    store.register(run)
    if not store.model(run).exists():
        data, net = DATASETS[run.data], new_network(run)
        macs = flops.macs(net, data.channels, data.size)
        counted = {
            "params": sum(p.numel() for p in net.parameters()),
            "gflops": macs["total"] / 1e9,
            "macs": macs,
        }
        write_json(store.model(run), counted)
    path = store.next_log(run)
    append_lines(path, [{"start": start, "world": rank.world, **provenance(rank.device)}])
    return lambda lines: append_lines(path, lines)


def report(
    run: Run,
    step: int,
    rows: list[list[float]],
    speed: float,
    seconds: float,
    rank: Rank,
    log: Callable[[list[dict[str, object]]], None],
) -> bool:
    """Logs one line for each step until `step`; False, and no line, from the first that is not finite."""
    peak = next((peak for chip, peak in PEAKS.items() if chip in device_name(rank.device)), None)
    used = (
        6e9 * gflops(run) * speed
    )  # operations a second: 2 a multiply-add, 3 forwards a training step
    pace = {
        "images_per_second": round(speed, 2),
        "mfu": round(used / peak / rank.world, 4) if peak else None,
        "seconds": round(seconds, 3),
    }
    good = [row for row in rows if all(map(math.isfinite, row))]
    first = step - len(rows) + 1
    log(
        [
            {"step": first + i, "loss": mse + vb, "mse": mse, "vb": vb, "grad_norm": norm, **pace}
            for i, (mse, vb, norm) in enumerate(good)
        ]
    )
    return len(good) == len(rows)


def save(run: Run, store: Store, step: int, scored: bool, learner: Learner) -> None:
    """The state, and where the step is scored the EMA weights; then all but the newest states go."""
    net, ema, optimizer = learner
    tensors = {f"net.{name}": x for name, x in net.state_dict().items()}
    tensors |= {f"ema.{name}": x for name, x in ema.state_dict().items()}
    for name, p in net.named_parameters():
        tensors |= {f"{key}.{name}": x for key, x in optimizer.state.get(p, {}).items()}
    metadata = {
        "checkpoint": f"{run.id}@{step}"
    }  # one entry: several are written in any order, and the digest moves
    if scored:
        save_tensors(store.ema(run, step), ema.state_dict(), metadata)
    save_tensors(store.state(run, step), tensors, metadata)
    for path in store.stale_states(run, step):
        path.unlink()
        with contextlib.suppress(OSError):  # the folder stays where scored weights lie in it
            path.parent.rmdir()


def resume(task: Train, store: Store, learner: Learner, rank: Rank) -> int:
    """Loads the newest whole state at or before the first wanted step; 0 where there is none."""
    run, (net, ema, optimizer) = task.run, learner
    for step in reversed([s for s in store.steps(run) if s <= task.steps[0]]):
        try:
            tensors = load_tensors(store.state(run, step), str(rank.device))
        except FileNotFoundError:
            continue
        except UserError as error:
            print(
                f"{run.id}: the state of step {step} is passed over, the one before is used: {error}",
                file=sys.stderr,
            )
            continue
        parts: dict[str, dict[str, Tensor]] = {}
        for name, x in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = x
        net.load_state_dict(parts["net"])
        ema.load_state_dict(parts["ema"])
        for name, p in net.named_parameters():
            if p.requires_grad:
                optimizer.state[p] = {
                    key: parts[key][name] for key in ("step", "exp_avg", "exp_avg_sq")
                }
        return step
    return 0
