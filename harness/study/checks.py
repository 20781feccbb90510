"""What must hold before anything starts, all mistakes at once: data, memory, even shares. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from harness.base.errors import UserError
from harness.data import DATASETS
from harness.data.index import checked, index_path, read_index
from harness.spec import ENCODERS, Protocol, Run, Sweep, even_parts
from harness.study import memory
from harness.study.cluster import Cluster
from harness.study.tasks import Task, Train


def faults(sweep: Sweep, tasks: Iterable[Task], cluster: Cluster) -> list[str]:
    """What keeps these tasks of the sweep from being done on this cluster, each with its remedy."""
    trainings = [task for task in tasks if isinstance(task, Train)]
    return [
        *latent_problems([task.run for task in trainings], sweep.protocols, cluster.path),
        *memory.unfit(sweep, cluster),
        *uneven(trainings, cluster),
    ]


def uneven(trainings: Iterable[Train], cluster: Cluster) -> list[str]:
    """Batches that do not fall into equal parts: the largest would set the pace, and the others wait at every step."""
    found: dict[tuple[int, int], set[str]] = {}
    for task in trainings:
        ranks, batch = cluster.of(task.run.model, False).ranks, task.run.batch_size
        if batch % ranks:
            found.setdefault((ranks, batch), set()).add(task.run.model)
    return [
        f"nodes × gpus_per_node = {ranks} does not divide the batch of {batch} of {', '.join(sorted(models))}:"
        f" ask for {even_parts(batch, ranks)}"
        for (ranks, batch), models in found.items()
    ]


def latent_problems(
    runs: Collection[Run], protocols: Iterable[Protocol], path: Callable[[str], Path | None]
) -> list[str]:
    """What keeps these runs from being trained, and their latents from being decoded as the protocols say.

    `path` gives the folder of a dataset by name.
    """
    said = []
    for name in sorted({run.data for run in runs if DATASETS[run.data].latent}):
        try:
            folder, index = checked(name, path(name))
        except UserError as error:
            said.append(str(error))
            continue
        said += [
            f"batch_size = {size}: {folder} has {index.count:,} images: choose a smaller batch, or encode more"
            for size in sorted({run.batch_size for run in runs if run.data == name})
            if size > index.count
        ]
        said += [
            f"{protocol.name}: decoder {protocol.decoder!r} belongs to the encoder {ENCODERS[protocol.decoder]}, the"
            f" latents of {name} in {folder} are of {index.vae['encoder']}: take its decoder, or encode anew"
            for protocol in protocols
            if ENCODERS.get(protocol.decoder) != index.vae["encoder"]
        ]
    return said


def notices(names: Iterable[str], path: Callable[[str], Path | None]) -> list[str]:
    """What is to be said of latents that are there and are not all of their dataset."""
    folders = [
        folder for name in sorted(names) if (folder := path(name)) and index_path(folder).exists()
    ]
    return [
        f"{folder} holds {notice}" for folder in folders if (notice := read_index(folder).notice)
    ]
