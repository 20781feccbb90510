"""Checkpoints: the state that training resumes from, and the weights that are scored."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.tensors import load_tensors, read_metadata, save_tensors
from harness.spec import Run
from harness.study.branches import fork, trunks
from harness.study.store import Store
from harness.study.tasks import Train
from harness.training.step import TrainState


def tensors_of(state: TrainState) -> dict[str, Tensor]:
    """All tensors of a state by the names in its file: those of modules() and the optimizer's."""
    tensors = {
        f"{part}.{name}": x
        for part, module in modules(state).items()
        for name, x in module.state_dict().items()
    }
    for name, p in state.net.named_parameters():
        tensors |= {f"{key}.{name}": x for key, x in state.optimizer.state.get(p, {}).items()}
    return tensors


def modules(state: TrainState) -> dict[str, nn.Module]:
    """The networks of a state by the names in its file: net, ema, and ema1, ... of the others."""
    averages = zip(average_names(len(state.averages)), state.averages, strict=True)
    return {"net": state.net, **dict(averages)}


def average_names(count: int) -> list[str]:
    """The names of a run's averages in the file of a state."""
    return ["ema", *(f"ema{i}" for i in range(1, count))]


def is_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite: one pass over the memory."""
    largest = torch._foreach_norm(list(tensors), math.inf)
    return bool(torch.stack(largest).isfinite().all())


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies to the CPU, which a later step does not change."""
    return {name: x.detach().to("cpu", copy=True) for name, x in tensors.items()}


def save(
    run: Run, store: Store, step: int, kinds: Collection[str], tensors: Mapping[str, Tensor]
) -> None:
    """Writes the state, and these kinds of weights to be scored; deletes the oldest states.

    The state comes first: weights can be written again from it, but not the other way round.
    tensors: of tensors_of().
    """
    save_tensors(store.state(run, step), tensors, {"checkpoint": f"{run.id}@{step}"})
    save_weights(run, store, step, kinds, tensors)
    for path in store.stale_states(run, step, fork(run)):
        path.unlink()
        with contextlib.suppress(OSError):  # the folder stays where scored weights lie in it
            path.parent.rmdir()


def save_weights(
    run: Run, store: Store, step: int, kinds: Collection[str], tensors: Mapping[str, Tensor]
) -> None:
    """Writes the weights that are scored: of `kinds` "raw" and the run's averages.

    tensors: of tensors_of().
    """
    averages = zip(run.averages, average_names(len(run.averages)), strict=True)
    files = {kind: (part, store.weights(run, step, kind)) for kind, part in averages}
    files["raw"] = ("net", store.raw(run, step))
    for kind, (part, path) in reversed(files.items()):  # "ema" last: a step counts as saved by it
        if kind in kinds:
            prefix = f"{part}."
            own = {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}
            save_tensors(path, own, {"checkpoint": f"{run.id}@{step}"})


def resume(task: Train, store: Store, state: TrainState, rank: Rank) -> tuple[int, Run]:
    """Loads the newest state at or before the first wanted step that is whole on every rank.

    It is the run's own, or that of a run which is the same until there (harness/study/branches.py).
    Returns its step, 0 where there is none, and whose it is.
    """
    run, last = task.run, task.steps[0]
    found = [(step, run) for step in store.steps(run) if step <= last]
    found = sorted([*trunks(run, store, last), *found], key=lambda pair: (pair[0], pair[1] == run))
    for step, origin in rank.first(found[::-1]):
        parts = read_state(origin, store, step, state, rank)
        if not rank.any(parts is None):
            assert parts is not None
            put(parts, state, run.optimizer_row.state)
            return step, origin
    return 0, run


def read_state(
    run: Run, store: Store, step: int, state: TrainState, rank: Rank
) -> dict[str, dict[str, Tensor]] | None:
    """The tensors of a state by part and name; None where there are none, or damaged ones."""
    try:
        names = run.optimizer_row.state
        return load(store.state(run, step), f"{run.id}@{step}", state, names, rank)
    except FileNotFoundError:
        return None
    except UserError as error:
        print(
            f"{run.id}: the state of step {step} is passed over, the one before is used: {error}",
            file=sys.stderr,
        )
        return None


def load(
    path: Path, checkpoint: str, state: TrainState, names: Sequence[str], rank: Rank
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a file by part (those of modules(), the optimizer's `names`) and name.

    Raises:
        UserError: the file is damaged, is of another checkpoint, or holds what is not finite.
    """
    tensors = load_tensors(path, str(rank.device))
    if (found := read_metadata(path).get("checkpoint", checkpoint)) != checkpoint:
        raise UserError(f"{path} is of {found}, not of {checkpoint}: move it away")
    if {name: (x.shape, x.dtype) for name, x in tensors.items()} != layout(state, names):
        raise UserError(f"{path} holds other tensors than this run's: move it away")
    if not is_finite(tensors.values()):
        raise UserError(f"{path} holds numbers that are not finite: move it away")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, x in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = x
    return parts


def put(parts: dict[str, dict[str, Tensor]], state: TrainState, names: Sequence[str]) -> None:
    """Puts the tensors that load() read into a state; `names` are the optimizer's."""
    for part, module in modules(state).items():
        module.load_state_dict(parts[part])
    for name, p in state.net.named_parameters():
        if p.requires_grad:
            state.optimizer.state[p] = {key: parts[key][name] for key in names}


def layout(state: TrainState, names: Sequence[str]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of every tensor in the file of a state; `names` are the optimizer's."""
    net = state.net.state_dict()
    wanted = {
        f"{part}.{name}": (x.shape, x.dtype) for part in modules(state) for name, x in net.items()
    }
    for name, p in state.net.named_parameters():
        if p.requires_grad:
            whole, step = (p.shape, p.dtype), (torch.Size([]), torch.float32)
            wanted |= {f"{key}.{name}": step if key == "step" else whole for key in names}
    return wanted
