"""Damage to any file of a store: no other number without a word, no traceback; it is named, or made anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import TINY
from helpers import cluster_file, tiny_protocol, tiny_run, tiny_sweep, written
from mutations import damages
from torch import Tensor
from trials import CLOCK, LONG, Said, Tally, has_traceback, pictures_of, table, verb

from harness.data import DATASETS

Verb = Callable[[Path], Said]
Outcome = dict[str, list[Any]]

# The verbs of a trial, each in the folder of a copy.


def plan(at: Path) -> Said:
    return verb("plan", at / "tiny.py", "--store", at / "store", "--json")


def status(at: Path) -> Said:
    return verb("status", at / "tiny.py", "--store", at / "store", "--json")


def run(at: Path) -> Said:
    return verb("run", at / "tiny.py", "--cluster", at / "cluster.toml")


def collect(at: Path) -> Said:
    return verb("collect", at / "tiny.py", "--store", at / "store", "--out", at / "results")


def encode(at: Path) -> Said:
    words = ("--out", at / "latents", "--data", "tiny", "--shard", 5, "--cluster", at / "cluster.toml")
    return verb("encode", at / "pictures", *words)


def verify(at: Path) -> Said:
    return verb("encode", at / "latents", "--verify")


@dataclass(frozen=True)
class Kind:
    """A kind of file: where one is, what is removed so that it is read, the verbs that read it, trials by default."""

    file: str
    lost: tuple[str, ...]
    verbs: tuple[Verb, ...]
    trials: int
    free: frozenset[str] = CLOCK
    remade: bool = True  # whoever removes the file has everything again by running the verbs
    shown: bool = False  # plan and status say the same, or name the file


LAST = ("store/runs/*/evals/*/0000008*", "store/runs/*/checkpoints/0000008")
RECORDS = ("store/runs/*/evals/*/0000008*",)
NOW: frozenset[str] = frozenset()  # nothing is made again: every column is as it was
WEIGHTS = CLOCK | {"checkpoint"}
KINDS = {
    "run.json": Kind("store/runs/*/run.json", (), (plan, run, collect), 16),
    "model.json": Kind("store/runs/*/model.json", (), (plan, collect), 40, NOW),
    "data.json": Kind("store/runs/*/data.json", LAST, (run, collect), 16),
    "log": Kind("store/runs/*/log.000.jsonl", (), (status, collect), 48, NOW, remade=False, shown=True),
    "record": Kind("store/runs/*/evals/*/0000008.json", (), (plan, status, collect), 40, NOW),
    "preview": Kind("store/runs/*/evals/*/0000008.npz", (), (collect,), 40, NOW, remade=False),
    "reference": Kind("store/references/mine.npz", RECORDS, (run, collect), 20, remade=False),
    "ema": Kind("store/runs/*/checkpoints/0000008/ema.safetensors", RECORDS, (plan, run, collect), 16, WEIGHTS),
    "state": Kind("store/runs/*/checkpoints/0000004/state.safetensors", LAST, (plan, run, collect), 16),
    "speed": Kind("store/speed/*.json", RECORDS, (plan,), 30, NOW, remade=False, shown=True),
    "jobs.jsonl": Kind("store/jobs.jsonl", (), (status, plan), 30, NOW, shown=True),
    "launch.json": Kind("store/jobs/*/launch.json", (), (status, plan), 12, NOW, shown=True),
}  # fmt: skip
LATENTS = {
    "index.json": Kind("latents/index.json", (), (run, collect), 16),
    "labels.npy": Kind("latents/labels.npy", (), (run, collect), 16),
    "shard": Kind("latents/shards/00001.npy", (), (verify, run), 16),  # training does not hash 42 GB: verify does
    "note": Kind("latents/shards/00001.json", ("latents/index.json",), (encode, verify, run, collect), 16),
}


def outcome(at: Path, said: list[Said], free: frozenset[str]) -> Outcome:
    """What the verbs left to read."""
    results = at / "results"
    return {
        "scores": table(results / "tiny.csv", free), "log": table(results / "tiny_log.csv", free),
        "samples": [pictures_of(results / "tiny_samples.npz")],
        "json": [one.out.replace(str(at), "") for one in said if one.out.startswith("{")],
    }  # fmt: skip


def verdict(kind: Kind, at: Path, file: Path, said: list[Said], whole: Outcome) -> str:
    """harmless, named, or how the law is broken."""
    if has_traceback(said, at):
        return "traceback"
    found = outcome(at, said, kind.free)
    lines = [line for one in said for line in one.text.splitlines()]
    warned = any(name in line for line in lines for name in (file.name, file.with_suffix(".npy").name))  # of a note
    for name in ("scores", "log"):
        if not all(row in whole[name] for row in found[name]):
            return f"another number in {name}"
    if found["samples"][0] not in (*whole["samples"], *whole["earlier"], []):
        return "other samples"
    if any(one.status for one in said):
        return "named" if warned or any("mini-DiT-S-" in line for line in lines) else "refused without its name"
    if kind.shown and found["json"] != whole["json"]:
        return "named" if warned else "another plan or status"
    if any(found[name] != whole[name] for name in ("scores", "log", "samples")):
        return "named" if warned else "less without a word"
    return "harmless"


def copied(folder: Path, at: Path) -> Path:
    """A copy that may be spoiled; what is large and only ever replaced is linked."""
    shutil.copytree(folder, at, copy_function=lambda a, b: (os.link if Path(a).suffix == ".safetensors" else shutil.copy2)(a, b))
    cluster = (at / "cluster.toml").read_text()
    (at / "cluster.toml").write_text(cluster.replace(str(folder), str(at)))
    return at


def prepared(folder: Path, at: Path, kind: Kind) -> Path:
    """A copy without what would keep the file from being read; the file in it."""
    copied(folder, at)
    for path in [path for pattern in kind.lost for path in at.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return next(iter(sorted(at.glob(kind.file))))


def earlier(folder: Path, tmp: Path) -> list[list[bytes]]:
    """The samples of the step before, which are shown where the last step has none."""
    at = tmp / "earlier"
    for path in list(copied(folder, at).glob(RECORDS[0])):
        path.unlink()
    collect(at)
    return [pictures_of(at / "results" / "tiny_samples.npz")]


def spoil(file: Path, data: bytes) -> None:
    file.unlink()  # it may be a link
    file.write_bytes(data)


def tried(name: str, kind: Kind, folder: Path, tmp: Path) -> None:
    """All trials of one kind of file."""
    tally = Tally(name)
    at = tmp / "whole"
    data = prepared(folder, at, kind).read_bytes()
    whole = outcome(at, [do(at) for do in kind.verbs], kind.free) | {"earlier": earlier(folder, tmp)}
    assert whole["scores"] or whole["log"] or whole["json"]
    for i, (how, spoiled) in enumerate(damages(data, 300 if LONG else kind.trials, name)):
        at = tmp / f"trial{i}"
        spoil(file := prepared(folder, at, kind), spoiled)
        said = [do(at) for do in kind.verbs]
        tally.add(verdict(kind, at, file, said, whole), how, said)
        shutil.rmtree(at)
    tally.settle()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, numbers: Tensor) -> Path:
    """A finished study with every kind of file."""
    at = tmp_path_factory.mktemp("study")
    protocols = (tiny_protocol(images=16, reference="mine"),)
    written(tiny_sweep(steps=(4, 8), protocols=protocols), at)
    cluster_file(at, store=str(at / "store"), device="cpu", executor="local")
    np.savez(at / "digits.npz", arr_0=numbers[:64].permute(0, 2, 3, 1).numpy())
    (at / "store" / "references").mkdir(parents=True)
    extractor = ("--extractor", "digits-cnn-1")
    commands: list[tuple[object, ...]] = [
        ("reference", "--images", at / "digits.npz", "--out", at / "store" / "references" / "mine.npz", *extractor),
        ("launch", at / "tiny.py", "--store", at / "store", "--cluster", "debug", "--follow"),
        ("bench", at / "tiny.py", "--store", at / "store", "--seconds", 0.01, "--device", "cpu"),
    ]
    for words in commands:
        said = verb(*words)
        assert said.status == 0, said
    return at


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory, pictures: Path, vae: Path) -> Iterator[Path]:
    """A study on latents that was not begun, and its images."""
    at = tmp_path_factory.mktemp("latents")
    shutil.copytree(pictures, at / "pictures")
    paths = f'[paths]\n"tiny" = {str(at / "latents")!r}\n"ft-mse" = {str(vae)!r}\n'
    with cluster_file(at, store=str(at / "store"), device="cpu", executor="local").open("a") as file:
        file.write(paths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "tiny", TINY)
        written(tiny_sweep(runs=(tiny_run(model="mini-DiT-S/4", data="tiny"),), steps=(4,), protocols=()), at)
        said = encode(at)
        assert said.status == 0, said
        yield at


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_of_the_store_is_named_or_made_anew(name: str, folder: Path, tmp_path: Path) -> None:
    tried(name, KINDS[name], folder, tmp_path)


@pytest.mark.parametrize("name", LATENTS)
def test_a_damaged_file_of_latents_is_named_or_made_anew(name: str, latents: Path, tmp_path: Path) -> None:
    tried(name, LATENTS[name], latents, tmp_path)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.remade])
def test_whoever_removes_the_damaged_file_has_everything_again(name: str, folder: Path, tmp_path: Path) -> None:
    kind, whole, at = KINDS[name], tmp_path / "whole", tmp_path / "trial"
    copied(folder, whole)
    spoil(file := prepared(folder, at, kind), b"")
    first = [run(at), collect(at)]
    if any(one.status for one in first):
        file.unlink(missing_ok=True)
        first = [run(at), collect(at)]
    assert [one.status for one in first] == [0, 0], first
    expected = outcome(whole, [collect(whole)], CLOCK)
    assert outcome(at, [], CLOCK) | {"json": []} == expected | {"json": []}


def test_json_of_plan_and_status_is_the_same_when_asked_again(folder: Path, tmp_path: Path) -> None:
    """What the trials compare with."""
    at = copied(folder, tmp_path / "copy")
    for ask in (plan, status):
        assert json.loads(ask(at).out) == json.loads(ask(at).out)
