"""Checkpoints: the state that training resumes from, and the weights that are scored."""

from __future__ import annotations

import contextlib
import sys

from torch import Tensor

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.tensors import load_tensors, save_tensors
from harness.spec import Run
from harness.study.store import Store
from harness.study.tasks import Train
from harness.training.step import TrainState

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's names


def tensors_of(state: TrainState) -> dict[str, Tensor]:
    """All tensors of a state by the names in its file: net.*, ema.* and the optimizer's three."""
    net, ema, optimizer = state
    tensors = {f"net.{name}": x for name, x in net.state_dict().items()}
    tensors |= {f"ema.{name}": x for name, x in ema.state_dict().items()}
    for name, p in net.named_parameters():
        tensors |= {f"{key}.{name}": x for key, x in optimizer.state.get(p, {}).items()}
    return tensors


def save(run: Run, store: Store, step: int, scored: bool, state: TrainState) -> None:
    """Writes the state, and the EMA weights where the step is scored; deletes the oldest states."""
    metadata = {"checkpoint": f"{run.id}@{step}"}
    if scored:
        save_tensors(store.ema(run, step), state.ema.state_dict(), metadata)
    save_tensors(store.state(run, step), tensors_of(state), metadata)
    for path in store.stale_states(run, step):
        path.unlink()
        with contextlib.suppress(OSError):  # the folder stays where scored weights lie in it
            path.parent.rmdir()


def resume(task: Train, store: Store, state: TrainState, rank: Rank) -> int:
    """Loads the newest whole state at or before the first wanted step; 0 where there is none."""
    run = task.run
    for step in reversed([s for s in store.steps(run) if s <= task.steps[0]]):
        try:
            load(load_tensors(store.state(run, step), str(rank.device)), state)
        except FileNotFoundError:
            continue
        except UserError as error:
            print(
                f"{run.id}: the state of step {step} is passed over, the one before is used:"
                f" {error}",
                file=sys.stderr,
            )
            continue
        return step
    return 0


def load(tensors: dict[str, Tensor], state: TrainState) -> None:
    """Puts the tensors of a file into the state."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, x in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = x
    state.net.load_state_dict(parts["net"])
    state.ema.load_state_dict(parts["ema"])
    for name, p in state.net.named_parameters():
        if p.requires_grad:
            state.optimizer.state[p] = {key: parts[key][name] for key in MOMENTS}
