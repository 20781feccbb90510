"""The folder of a launch: launch.json, which its jobs read, and its files of rows. No torch."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harness.base.files import write_json
from harness.launch import snapshot
from harness.launch.executors import executor
from harness.launch.orders import Submission
from harness.spec.own_rows import LOADED
from harness.study.cluster import Cluster
from harness.study.store import Store


def launch_folder(store: Store) -> Path:
    """A fresh folder, since submitit reads old results in an old one; its owner's alone.

    What lies there is code to a job, and its script holds the values of `environment`. Folders of
    launches that were killed before they could submit anything are removed; the caller has the
    lock, so that none of them is at work.
    """
    for path in store.submissions().glob("[0-9]*T[0-9]*"):
        if path.stat().st_uid == os.getuid() and not (path / "launch.json").exists():
            shutil.rmtree(path)
    name = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    folder = (store.submissions() / name).resolve()
    folder.mkdir(mode=0o700, parents=True)
    return folder


def copy_rows(folder: Path) -> dict[str, str]:
    """Copies the files of rows that the sweep uses for its jobs; their digests by name."""
    (folder / "rows").mkdir()
    for name, file in LOADED.items():
        shutil.copyfile(file.path, folder / "rows" / name)
    return {name: file.digest for name, file in LOADED.items()}


def write_launch(
    folder: Path, orders: Sequence[Submission], store: Store, cluster: Cluster, code: Path
) -> None:
    """What the jobs read when they begin. Values of `environment` are in theirs, not in a file."""
    paths = {key: str(Path(path).expanduser().resolve()) for key, path in cluster.paths.items()}
    fields = asdict(cluster) | {"store": str(store.root.resolve()), "paths": paths}
    spec = {
        "cluster": fields | {"environment": {}},
        "environment": sorted(cluster.environment),
        "tasks": {o.task: o.launch_spec for o in orders},
    }
    if LOADED:
        spec["rows"] = copy_rows(folder)
    if executor(cluster).REMOTE:
        spec["code"] = snapshot.describe(code)
    write_json(folder / "launch.json", spec)
    (folder / "launch.json").chmod(0o600)
