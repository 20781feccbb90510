"""Damage to any file of a store is reported or repaired: no wrong number, no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from finished_study import collect, copied, encode, plan, run, status, verify
from mutations import damages
from trials import CLOCK, LONG, Result, Tally, arrays_of, has_traceback, table

Verb = Callable[[Path], Result]
Outcome = dict[str, list[Any]]
STRICT: frozenset[str] = frozenset()  # nothing is computed again: every column stays
WEIGHTS = CLOCK | {"checkpoint"}  # the digest of a file whose tensors may be unharmed
# Without what is kept of the images, so that they are sampled again.
RECORDS = ("store/runs/*/evals/*/0000008*", "store/runs/*/samples/*/0000008")
LAST = (*RECORDS, "store/runs/*/checkpoints/0000008")


@dataclass(frozen=True)
class Kind:
    """A kind of file and how it is read.

    file: a pattern; lost: what is removed first so that `verbs` read the file; trials: by default;
    free: columns that may differ; remade: with the file removed, the verbs bring everything back;
    shown: the JSON of plan and status must be the same too.
    """

    file: str
    lost: tuple[str, ...]
    verbs: tuple[Verb, ...]
    trials: int
    free: frozenset[str] = CLOCK
    remade: bool = True
    shown: bool = False


RUN, CHECKPOINTS, SHARDS = "store/runs/*/", "store/runs/*/checkpoints/", "latents/shards/"
KINDS = {
    "run.json": Kind(f"{RUN}run.json", (), (plan, run, collect), 16),
    "model.json": Kind(f"{RUN}model.json", (), (plan, collect), 24, STRICT),
    "data.json": Kind(f"{RUN}data.json", LAST, (run, collect), 16),
    "log": Kind(f"{RUN}log.000.jsonl", (), (status, collect), 36, STRICT, False, True),
    "record": Kind(f"{RUN}evals/*/0000008.json", (), (plan, status, collect), 30, STRICT),
    "preview": Kind(f"{RUN}evals/*/0000008.npz", (), (collect,), 24, STRICT, False),
    "reference": Kind("store/references/mine.npz", RECORDS, (run, collect), 20, remade=False),
    "ema": Kind(f"{CHECKPOINTS}0000008/ema*", RECORDS, (plan, run, collect), 16, WEIGHTS),
    "state": Kind(f"{CHECKPOINTS}0000004/state*", LAST, (plan, run, collect), 16),
    "speed": Kind("store/speed/*.json", RECORDS, (plan,), 20, STRICT, False, True),
    "jobs.jsonl": Kind("store/jobs.jsonl", (), (status, plan), 20, STRICT, shown=True),
    "launch.json": Kind("store/jobs/*/launch.json", (), (status, plan), 12, STRICT, shown=True),
}
LATENTS = {
    "index.json": Kind("latents/index.json", (), (run, collect), 16),
    "labels.npy": Kind("latents/labels.npy", (), (run, collect), 16),
    "shard": Kind(f"{SHARDS}00001.npy", (), (verify, run, collect), 16),
    "checksums": Kind(f"{SHARDS}00001.crc.npy", (), (run, collect), 16),
    "note": Kind(f"{SHARDS}00001.json", ("latents/index.json",), (encode, run, collect), 16),
}


def outcome(at: Path, results: list[Result], free: frozenset[str]) -> Outcome:
    """The numbers that the verbs left."""
    tables = at / "results"
    return {
        "scores": table(tables / "tiny.csv", free),
        "log": table(tables / "tiny_log.csv", free),
        "samples": [arrays_of(tables / "tiny_samples.npz")],
        "json": [one.out.replace(str(at), "") for one in results if one.out.startswith("{")],
    }


def verdict(kind: Kind, at: Path, file: Path, results: list[Result], whole: Outcome) -> str:
    """`harmless`, `reported`, or the fault.

    Harmless: all numbers are there and right. Reported: a line names the file or its run, and the
    numbers that are left are right.
    """
    if has_traceback(results, at):
        return "traceback"
    found, text = outcome(at, results, kind.free), "\n".join(one.text for one in results)
    names = (file.name, file.with_suffix(".npy").name)  # a note is that of its shard
    run_named = any("mini-DiT-S-" in one.err for one in results)
    reported = run_named or any(name in text for name in names)
    for name in ("scores", "log"):
        if not all(row in whole[name] for row in found[name]):
            return f"wrong number in {name}"
    if found["samples"][0] not in (*whole["samples"], *whole["earlier"], []):
        return "wrong samples"
    if any(one.status for one in results):
        return "reported" if reported else "fails without naming the file"
    if kind.shown and found["json"] != whole["json"]:
        return "reported" if reported else "wrong plan or status"
    if any(found[name] != whole[name] for name in ("scores", "log", "samples")):
        return "reported" if reported else "numbers missing, not reported"
    return "harmless"


def prepared(folder: Path, at: Path, kind: Kind) -> Path:
    """A copy in which the verbs read the file; the file."""
    copied(folder, at)
    for path in [path for pattern in kind.lost for path in at.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return sorted(at.glob(kind.file))[0]


def overwrite(file: Path, data: bytes) -> None:
    file.unlink()  # it may be a link
    file.write_bytes(data)


def undamaged(kind: Kind, folder: Path, tmp: Path) -> tuple[bytes, Outcome]:
    """The file, and the outcome; `earlier`: the samples of step 4, shown while step 8 has none."""
    data = prepared(folder, tmp / "whole", kind).read_bytes()
    whole = outcome(tmp / "whole", [do(tmp / "whole") for do in kind.verbs], kind.free)
    for path in list(copied(folder, tmp / "earlier").glob(RECORDS[0])):
        path.unlink()
    collect(tmp / "earlier")
    return data, whole | {"earlier": outcome(tmp / "earlier", [], kind.free)["samples"]}


def tried(name: str, kind: Kind, folder: Path, tmp: Path) -> None:
    """All trials of one kind of file."""
    tally, (data, whole) = Tally(name), undamaged(kind, folder, tmp)
    for i, (how, damaged) in enumerate(damages(data, 300 if LONG else kind.trials, name)):
        at = tmp / f"trial{i}"
        overwrite(file := prepared(folder, at, kind), damaged)
        results = [do(at) for do in kind.verbs]
        tally.add(verdict(kind, at, file, results, whole), how, results)
        shutil.rmtree(at)
    tally.check()


@pytest.mark.parametrize("name", KINDS)
def test_damage_in_a_store_is_reported_or_repaired(name: str, study: Path, tmp_path: Path) -> None:
    tried(name, KINDS[name], study, tmp_path)


@pytest.mark.parametrize("name", LATENTS)
def test_damage_in_latents_is_reported_or_repaired(
    name: str, latents: Path, tmp_path: Path
) -> None:
    tried(name, LATENTS[name], latents, tmp_path)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.remade])
def test_without_the_damaged_file_a_run_restores_everything(
    name: str, study: Path, tmp_path: Path
) -> None:
    whole, at = copied(study, tmp_path / "whole"), tmp_path / "trial"
    overwrite(file := prepared(study, at, KINDS[name]), b"")
    if run(at).status or collect(at).status:
        file.unlink(missing_ok=True)
    results = [run(at), collect(at)]
    assert [one.status for one in results] == [0, 0], results
    collect(whole)
    assert outcome(at, [], CLOCK) == outcome(whole, [], CLOCK)


def test_plan_and_status_give_the_same_json_twice(study: Path, tmp_path: Path) -> None:
    """The trials compare it."""
    at = copied(study, tmp_path / "copy")
    for ask in (plan, status):
        assert json.loads(ask(at).out) == json.loads(ask(at).out)
