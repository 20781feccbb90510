"""The first images of every model at one step: results/<sweep>_samples.npz. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import UserError
from harness.base.files import atomic_write
from harness.spec import Protocol, Run, Sweep, Validation
from harness.study.store import Store

if TYPE_CHECKING:
    from harness.base.npz import Array


def write_samples(path: Path, sweep: Sweep, store: Store) -> list[str]:
    """Writes the previews of the last scored step that every run has. Returns warnings.

    They are of the same noise and labels for every model. Where no step has all, `path` is removed:
    it would show the samples of an earlier sweep or protocol.
    """
    warnings: list[str] = []
    for step, protocol in sorted(sweep.scores, key=lambda pair: -pair[0]):
        if isinstance(protocol, Validation):
            continue
        previews, problems = read_previews(sweep.runs, step, protocol, store)
        warnings += problems
        if previews:
            write_previews(path, sweep.runs, step, protocol, previews)
            return warnings
    path.unlink(missing_ok=True)
    return warnings


def read_previews(
    runs: tuple[Run, ...], step: int, protocol: Protocol, store: Store
) -> tuple[list[dict[str, Array]], list[str]]:
    """The previews of all runs, or none and why one is lost: not being scored yet is no reason."""
    paths = [store.preview(run, step, protocol) for run in runs]
    if not all(store.record(run, step, protocol).exists() for run in runs):
        return [], []
    if lost := [path for path in paths if not path.exists()]:
        return [], [f"{lost[0]} is lost: samples of step {step} are left out"]
    try:
        previews = [read_preview(path) for path in paths]
    except UserError as error:
        return [], [f"{error}; samples of step {step} are left out"]
    if len({preview["images"].shape for preview in previews}) > 1:
        return [], [
            f"{paths[0].name}: previews differ in shape: samples of step {step} are left out"
        ]
    return previews, []


def read_preview(path: Path) -> dict[str, Array]:
    """images, uint8 [N, H, W, C], and labels [N].

    Raises:
        UserError: the file is damaged or holds something else.
    """
    from harness.base.npz import read_arrays  # numpy is not imported for a plan

    arrays = read_arrays(path, ("images", "labels"))
    shapes = [array.shape for array in arrays.values()]
    if len(shapes) < 2 or len(shapes[0]) != 4 or shapes[1] != shapes[0][:1]:
        raise UserError(f"{path} is no preview of images with labels: move it away")
    return arrays


def write_previews(
    path: Path,
    runs: tuple[Run, ...],
    step: int,
    protocol: Protocol,
    previews: list[dict[str, Array]],
) -> None:
    """Writes images [runs, N, H, W, C], labels [N], and what they are of."""
    import numpy as np

    arrays: dict[str, Any] = {
        "images": np.stack([preview["images"] for preview in previews]),
        "labels": previews[0]["labels"],
        "model": np.array([run.model for run in runs]),
        "run": np.array([run.id for run in runs]),
        "protocol": np.array(protocol.id),
        "step": np.array(step),
    }
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
