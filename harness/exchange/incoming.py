"""`harness import`: a checkpoint of another program becomes a step of a run in a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import Locked, UserError
from harness.base.files import remove_leftovers, sha256, write_json
from harness.base.locks import claim, holder
from harness.base.provenance import provenance
from harness.base.tensors import load_tensors, save_tensors
from harness.exchange.contents import Contents
from harness.exchange.formats import Format, recognised
from harness.exchange.identify import (
    check_heads,
    check_numbers,
    given_fields,
    identified,
    objective_of,
    stated_fields,
)
from harness.exchange.layouts import layout
from harness.exchange.reading import read
from harness.objectives import OBJECTIVES
from harness.spec import Run
from harness.spec.own_rows import digests
from harness.study.compute import gflops, parameters
from harness.study.registry import is_registered, register
from harness.study.store import Store

MOST_STEPS = 10**12


@dataclass(frozen=True)
class Arrival:
    """A checkpoint read and checked, before anything of it is written."""

    path: Path
    format: Format
    run: Run
    step: int
    tensors: dict[str, Tensor]
    raw: dict[str, Tensor] | None
    files: dict[str, str]  # SHA-256 by file
    corrected: list[str]
    cautions: list[str]  # what a score of these weights is not
    assumed: list[str]  # fields of the run that nothing stated: the recipe's defaults


def arrival(path: Path, words: Sequence[str], step: int | None) -> Arrival:
    """Reads a checkpoint and finds the run that it is of; `words` are fields as `seed=1`.

    Raises:
        UserError: it cannot be read, is of no family or size known here, or contradicts `words`.
    """
    given, contents, source = given_fields(words), read(path), str(path)
    fields = stated_fields(source, contents, given)
    row, prefix = recognised(source, contents.tensors, given.get("model"))
    contents = contents.without(prefix)
    objective = objective_of(source, row, fields)
    outputs = OBJECTIVES[objective].outputs if objective in OBJECTIVES else 2
    fields = {**fields, "objective": objective}
    at = agreed_step(source, contents, step)
    tensors, corrected = row.convert(source, contents.tensors, outputs)
    run = identified(source, row, tensors, fields, contents.heads)
    check_heads(source, run, contents.heads)
    check_numbers(source, run, tensors)
    raw = None if contents.raw is None else row.convert(source, contents.raw, outputs)[0]
    if raw is not None and layout(raw) != layout(tensors):
        raise UserError(f"{source}: 'model' is another network than 'ema': save them alike")
    corrected += row.measure(run, tensors)
    known = {**dict.fromkeys(("model", "data", "conditioning", "objective")), **fields}
    assumed = [f"{name}={value}" for name, value in run.canonical().items() if name not in known]
    files = {file.name: sha256(file) for file in contents.files}
    cautions = [text for text in (*contents.cautions, row.caution) if text]
    notes = contents.notes + corrected
    return Arrival(path, row, run, at, tensors, raw, files, notes, cautions, assumed)


def agreed_step(source: str, contents: Contents, step: int | None) -> int:
    """The step that is given, or that the file states.

    Raises:
        UserError: neither, or they differ.
    """
    if step is None and contents.step is None:
        raise UserError(f"{source} does not say how long it was trained: add --step N")
    if None not in (step, contents.step) and step != contents.step:
        raise UserError(f"--step {step} was given, {source} states {contents.step}: leave it out")
    at = contents.step if step is None else step
    assert at is not None
    if not 1 <= at <= MOST_STEPS:
        raise UserError(f"--step {at} must be from 1 to {MOST_STEPS:,}")
    return at


def put(arrived: Arrival, store: Store) -> list[Path]:
    """Writes the run, the weights that are scored, and where they come from. Returns the weights.

    Raises:
        UserError: the run was trained in this store, or another checkpoint lies at this step.
        Locked: another process is at work on the run.
    """
    run, step = arrived.run, arrived.step
    with claim(store.train_claim(run)) as ours:
        if not ours:
            at = holder(store.train_claim(run))
            raise Locked(f"{run.id} is at work in another process ({at}): wait for its end")
        refuse_trained(run, store)
        kinds = {"raw": arrived.raw, "ema": arrived.tensors}
        files = {
            "raw": store.raw(run, step),
            "ema": store.ema(run, step),  # last: a step counts as saved by its EMA
        }
        for kind, tensors in kinds.items():
            refuse_other(files[kind], tensors)
        register(run, store)
        if not store.model(run).exists():
            write_json(store.model(run), {"params": parameters(run), "gflops": gflops(run)})
        note, written = store.imported(run, step), list[Path]()
        with all_or_none([note, *files.values()]):
            write_json(note, origin(arrived), checksum=True)
            for kind, tensors in kinds.items():
                if tensors is not None:
                    save_tensors(files[kind], tensors, {"checkpoint": f"{run.id}@{step}"})
                    written.append(files[kind])
    return written


@contextmanager
def all_or_none(paths: Sequence[Path]) -> Iterator[None]:
    """Removes the files of one folder that are new, where a full disk or Ctrl-C left some out."""
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        remove_leftovers(paths[0].parent)
        raise


def origin(arrived: Arrival) -> dict[str, Any]:
    """What import.json holds."""
    return {
        "source": str(arrived.path.resolve()),
        "format": arrived.format.name,
        "sha256": arrived.files,
        "digest": short_digest(arrived.files),
        "corrected": arrived.corrected,
        "assumed": arrived.assumed,
        "caution": "; ".join(arrived.cautions),
        **provenance(torch.device("cpu"), digests(arrived.run)),
    }


def short_digest(files: Mapping[str, str]) -> str:
    """One digest of a file, or of several by name."""
    if len(files) == 1:
        return next(iter(files.values()))
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def refuse_trained(run: Run, store: Store) -> None:
    """Refuses a run that was trained in this store.

    Raises:
        UserError: the store has steps of the run that were trained there.
    """
    if is_registered(run, store):
        here = [s for s in store.steps(run) if not store.imported(run, s).exists()]
        if here or store.logs(run):
            raise UserError(
                f"{run.id} was trained in {store.root} (steps {', '.join(map(str, here))}): import"
                " into another --store, or add a seed=N that no run of yours has"
            )


def refuse_other(path: Path, tensors: Mapping[str, Tensor] | None) -> None:
    """Refuses a file that holds other weights than those to be written.

    Raises:
        UserError: other weights lie at `path`.
    """
    if tensors is None or not path.exists():
        return
    there = load_tensors(path)
    if there.keys() != tensors.keys() or any(not x.equal(there[n]) for n, x in tensors.items()):
        raise UserError(f"{path} holds other weights: move it away, or import under another seed=N")


def report(arrived: Arrival, written: Sequence[Path]) -> Iterator[str]:
    """What was found, what was corrected, and what can be done with the run."""
    run, count = arrived.run, sum(x.numel() for x in arrived.tensors.values())
    yield (
        f"{arrived.path}: names of {arrived.format.name}, {len(arrived.tensors)} tensors, {count:,}"
        f" parameters, SHA-256 {short_digest(arrived.files)[:12]}"
    )
    yield from (f"  {line}" for line in arrived.corrected)
    fields = ", ".join(f"{name}={value}" for name, value in run.canonical().items())
    yield f"{run.id} at step {arrived.step}: {fields}"
    yield from (f"  warning: {caution}" for caution in arrived.cautions)
    if arrived.assumed:
        yield f"  nothing states {', '.join(arrived.assumed)}: defaults; FIELD=VALUE sets them"
    yield from (f"  {path}" for path in written)
    yield "  Sample, score or export it; without an optimizer state it is not trained on."
