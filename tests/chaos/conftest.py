"""Finished studies to damage and to fuzz, and the shim that makes a disk fail."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawings import TINY
from finished_study import encode
from helpers import cluster_file, tiny_protocol, tiny_run, tiny_sweep, written
from torch import Tensor
from trials import verb

from harness.data import DATASETS


def succeeds(*words: object) -> None:
    result = verb(*words)
    assert result.status == 0, result


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, numbers: Tensor) -> Path:
    """A study of one run, trained and scored at steps 4 and 8, with every kind of file."""
    at = tmp_path_factory.mktemp("study")
    sweep = tiny_sweep(steps=(4, 8), protocols=(tiny_protocol(images=16, reference="mine"),))
    path, store = written(sweep, at), at / "store"
    cluster_file(at, store=str(store), device="cpu", executor="local")
    np.savez(at / "digits.npz", arr_0=numbers[:64].permute(0, 2, 3, 1).numpy())
    (store / "references").mkdir(parents=True)
    images = ("--images", at / "digits.npz", "--extractor", "digits-cnn-1")
    succeeds("reference", *images, "--out", store / "references" / "mine.npz")
    succeeds("launch", path, "--store", store, "--cluster", "debug", "--follow")
    succeeds("bench", path, "--store", store, "--seconds", 0.01, "--device", "cpu")
    return at


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory, pictures: Path, vae: Path) -> Iterator[Path]:
    """Encoded images, and a study on them that has not begun."""
    at = tmp_path_factory.mktemp("latents")
    shutil.copytree(pictures, at / "pictures")
    with cluster_file(at, store=str(at / "store"), device="cpu", executor="local").open(
        "a"
    ) as toml:
        toml.write(f'[paths]\n"tiny" = {str(at / "latents")!r}\n"ft-mse" = {str(vae)!r}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "tiny", TINY)
        run = tiny_run(model="mini-DiT-S/4", data="tiny")
        written(tiny_sweep(runs=(run,), steps=(4,), protocols=()), at)
        result = encode(at)
        assert result.status == 0, result
        yield at


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory, numbers: Tensor) -> Path:
    """A finished study of three runs, its tables, images of digits and their statistics."""
    at = tmp_path_factory.mktemp("readable")
    runs = tuple(tiny_run(model=f"mini-DiT-S/{patch}") for patch in (8, 4, 2))
    path = written(tiny_sweep(runs=runs, steps=(2, 4), protocols=(tiny_protocol(images=8),)), at)
    np.savez(at / "digits.npz", arr_0=numbers[:32].permute(0, 2, 3, 1).numpy())
    images = ("--images", at / "digits.npz", "--extractor", "digits-cnn-1")
    succeeds("reference", *images, "--out", at / "reference.npz")
    succeeds("launch", path, "--store", at / "store", "--cluster", "debug", "--follow")
    succeeds("collect", path, "--store", at / "store", "--out", at)
    return at


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shim.c as a library for LD_PRELOAD; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made
