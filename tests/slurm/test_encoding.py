"""Encoding on a real Slurm: submitted once, shared by ranks, requeued by a signal, whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from drawings import TINY, autoencoder, draw
from helpers import ROOT, environment
from processes import until
from site_verbs import Site, toml

from harness.base.files import read_json
from harness.data.index import index_path

IMAGES = 1500


def test_images_are_encoded_on_two_nodes_and_through_a_requeue(plain: Site) -> None:
    code, out, file = plain.folder / "code", plain.folder / "latents", plain.folder / "cluster.toml"
    shutil.copytree(ROOT / "harness", code / "harness")
    with (code / "harness" / "data" / "__init__.py").open(
        "a"
    ) as table:  # a dataset of a user's own
        table.write(
            f'\n\nDATASETS["tiny"] = {TINY!r}\n'.replace(
                f"images={TINY.images}", f"images={IMAGES}"
            )
        )
    paths = {"ft-mse": str(autoencoder(plain.folder / "vae"))}
    given = {
        "executor": "slurm",
        "device": "cpu",
        "store": str(plain.store.root),
        "nodes": 2,
        "gpus_per_node": 1,
    }
    file.write_text(
        "".join(f"{key} = {toml(value)}\n" for key, value in {**given, "paths": paths}.items())
    )
    words = (
        str(draw(plain.folder / "images", IMAGES)),
        "--out",
        out,
        "--data",
        "tiny",
        "--shard",
        10,
    )

    def harness(verb: str, *words: object) -> str:
        command = [sys.executable, "-m", "harness", verb, *map(str, words), "--cluster", str(file)]
        variables = environment(PYTHONPATH=str(code), SLURM_CONF=plain.lab.env["SLURM_CONF"])
        done = subprocess.run(
            command, cwd=code, env=variables, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    assert "1 jobs submitted, 0 already queued or running" in harness("encode", *words, "--dirty")
    assert "0 jobs submitted, 1 already queued or running" in harness("encode", *words, "--dirty")
    (job,) = plain.jobs()
    until(lambda: made(out) > 2)
    plain.lab.run("scancel", "--signal=USR2", job)
    until(lambda: plain.queue().get(job) == "PENDING")
    kept = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*.npy")}
    assert 2 < len(kept) < IMAGES / 10 and not list((out / "shards").glob(".*"))
    until(lambda: index_path(out).exists())
    plain.empty()
    assert (
        made(out) == IMAGES / 10 and kept.items() <= {p: p.stat().st_mtime_ns for p in kept}.items()
    )
    assert read_json(index_path(out))["rows"] == IMAGES and plain.jobs() == [job]
    assert "151 files are whole: 1,500 images of tiny" in harness("encode", out, "--verify")
    assert "1,500 images; name it" in harness("encode", *words) and plain.jobs() == [job]
    assert "tiny: shard " in harness("logs", "encode-tiny")


def made(out: Path) -> int:
    return len(list((out / "shards").glob("[0-9]*.json"))) if os.path.isdir(out) else 0
