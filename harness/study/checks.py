"""What must hold before anything starts, all problems at once: data, memory, batches. No torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from harness.base.errors import UserError
from harness.data import DATASETS, held_out_path, open_held_out
from harness.data.checks import checked_folder
from harness.data.index import index_path, read_index
from harness.spec import ENCODERS, Protocol, Run, Sweep, Validation
from harness.spec.ema import width_of, widths_of
from harness.study import memory
from harness.study.cluster import Cluster, even_parts
from harness.study.compute import parameters
from harness.study.registry import changed_rows
from harness.study.requirements import scoring_problems
from harness.study.store import Store
from harness.study.tasks import Evaluate, Task, Train


def problems(sweep: Sweep, tasks: Iterable[Task], cluster: Cluster) -> list[str]:
    """What keeps these tasks of the sweep from being done on this cluster, each with its remedy."""
    tasks = list(tasks)
    trainings = [task for task in tasks if isinstance(task, Train)]
    scores = [task for task in tasks if isinstance(task, Evaluate)]
    trained, scored = [task.run for task in trainings], [task.run for task in scores]
    pixels = {DATASETS[task.run.data].pixels for task in scores}
    protocols, store = dict.fromkeys(task.protocol for task in scores), Store(Path(cluster.store))
    if found := network_problems([*trained, *scored]):
        return found  # their memory is not known either
    return [
        *import_problems(trainings, store),
        *latent_problems(trained, sweep.sampling, cluster.path),
        *memory.problems(sweep, cluster),
        *batch_problems(trainings, cluster),
        *average_problems(sweep, scores, store),
        *scoring_problems(protocols, cluster, store, pixels),
        *held_out_problems(scores, cluster),
        *logger_problems(cluster.loggers),
        *rows_problems([*trained, *scored], store),
    ]


def network_problems(runs: Iterable[Run]) -> list[str]:
    """What keeps networks from being trained and sampled, one line a network."""
    found = dict[str, None]()
    for run in {(run.model, run.setting): run for run in runs}.values():
        if reason := run.model_row.counted_alone:
            found[f"model = {run.model!r}: {reason}: take it out to train the others"] = None
        try:
            parameters(run)
        except UserError as error:
            found[str(error)] = None
    return list(found)


def rows_problems(runs: Iterable[Run], store: Store) -> list[str]:
    """Files of rows that are not those that runs were begun with, each with the first such run."""
    begun: dict[str, list[str]] = {}
    for run in dict.fromkeys(runs):
        for name in changed_rows(run, store):
            begun.setdefault(name, []).append(run.id)
    return [
        f"{ids[0]}{f' and {len(ids) - 1} more' * (len(ids) > 1)} began with another {name}: put"
        " that text back, give the rows other names, or go on under the changed code with"
        " --changed-rows"
        for name, ids in begun.items()
    ]


def held_out_problems(scores: Iterable[Evaluate], cluster: Cluster) -> list[str]:
    """Datasets whose held-out latents are absent or not whole."""
    validated = {task.run.data for task in scores if isinstance(task.protocol, Validation)}
    found = []
    for name in sorted(name for name in validated if DATASETS[name].encoded):
        path = cluster.path(held_out_path(name))
        try:
            checked_folder(name, path) if path else open_held_out(name)
        except UserError as error:
            found.append(str(error))
    return found


def import_problems(trainings: Iterable[Train], store: Store) -> list[str]:
    """Trainings of runs whose weights were imported: without a state they would start over."""
    known = store.run_ids()
    there = [task for task in trainings if task.run.id in known]
    imported = [(task, steps) for task in there if (steps := store.imported_steps(task.run))]
    return [
        f"{task.run.id} was imported at step {', '.join(map(str, steps))} without the optimizer's"
        f" state, so what it lacks at {', '.join(map(str, task.steps))} cannot be trained: ask for"
        " what was imported alone, or train it in another store or under another seed"
        for task, steps in imported
    ]


def average_problems(sweep: Sweep, scores: Iterable[Evaluate], store: Store) -> list[str]:
    """Averages that the snapshots of a run will not give, before it is trained for them."""
    wanted = {(task.run, task.step, task.protocol.weights): None for task in scores}
    far: dict[tuple[str, str], list[str]] = {}
    for run, step, weights in wanted:
        if run.ema is None or run.file_of(weights) is not None:
            continue
        from harness.spec.profiles import FARTHEST, shares  # numpy, which few sweeps need here

        steps = {*sweep.steps_of(run), *store.steps(run)}
        kept = [s for s in sorted(steps) if s <= step]
        error = shares(widths_of(run.ema), kept, width_of(weights), step).error
        if error > FARTHEST:
            far.setdefault((run.ema, weights), []).append(f"{error:.0%} at step {step:,}")
    return [
        f"{weights} cannot be rebuilt from snapshots of {ema}, it would be off by"
        f" {', '.join(dict.fromkeys(errors))}: score more steps before, or take a width nearer to"
        " those"
        for (ema, weights), errors in far.items()
    ]


def logger_problems(names: Iterable[str]) -> list[str]:
    """Loggers that are asked for and not installed."""
    return [
        f"loggers: {name} is not installed: pip install {name}, or take it out of the cluster file"
        for name in names
        if importlib.util.find_spec(name) is None
    ]


def batch_problems(trainings: Iterable[Train], cluster: Cluster) -> list[str]:
    """Batches that ranks do not divide: the largest part would set the pace of every step."""
    models: dict[tuple[int, int], set[str]] = {}
    for task in trainings:
        ranks, batch = cluster.of(task.run.model, False).ranks, task.run.batch_size
        if batch % ranks:
            models.setdefault((ranks, batch), set()).add(task.run.model)
    return [
        f"nodes × gpus_per_node = {ranks} does not divide the batch of {batch} of"
        f" {', '.join(sorted(names))}: ask for {even_parts(batch, ranks)}"
        for (ranks, batch), names in models.items()
    ]


def latent_problems(
    runs: Collection[Run], protocols: Iterable[Protocol], path: Callable[[str], Path | None]
) -> list[str]:
    """What keeps these runs from being trained, or what they make from being decoded.

    `path` gives the folder of a dataset by name.
    """
    found = []
    for name in sorted({run.data for run in runs if run.data_row.encoded}):
        try:
            folder, index = checked_folder(name, path(name))
        except UserError as error:
            found.append(str(error))
            continue
        found += [
            f"batch_size = {size}: {folder} has {index.count:,} images: choose a smaller batch, or"
            " encode more"
            for size in sorted({run.batch_size for run in runs if run.data == name})
            if size > index.count
        ]
        encoder = index.vae["encoder"]
        found += [
            f"{protocol.name}: decoder {protocol.decoder!r} belongs to the encoder"
            f" {ENCODERS[protocol.decoder]}, the latents of {name} in {folder} are of {encoder}:"
            " take its decoder, or encode again"
            for protocol in protocols
            if DATASETS[name].latent and ENCODERS.get(protocol.decoder) != encoder
        ]
    return found


def warnings(names: Iterable[str], path: Callable[[str], Path | None]) -> list[str]:
    """Folders of latents that hold a part of their dataset."""
    folders = [
        folder for name in sorted(names) if (folder := path(name)) and index_path(folder).exists()
    ]
    return [
        f"{folder} holds {notice}" for folder in folders if (notice := read_index(folder).notice)
    ]
