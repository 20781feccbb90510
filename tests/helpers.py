"""What tests share: the smallest run, sweep files, and the command line as a user has it."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from torch import Tensor

from harness.base.distributed import stop_on_signal
from harness.base.files import read_json, write_json
from harness.cli import main as cli
from harness.launch.perform import perform
from harness.spec import Protocol, Run, Sweep, own_rows
from harness.study import counts
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.registry import register
from harness.study.store import Store
from harness.study.tasks import Evaluate, Task, Train

ROOT = Path(__file__).parents[1]
PATCHES = (8, 4, 2)
SIZES = ("S", "B", "L", "XL")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["helpers", "harness.training.loop"])  # imported once for all ranks


def tiny_run(**fields: Any) -> Run:
    """The cheapest training there is."""
    given: dict[str, Any] = {
        "model": "mini-DiT-S/8",
        "data": "digits",
        "batch_size": 8,
        "lr": 1e-3,
        "ema_decay": 0.9,
        "precision": "fp32",
    }
    return Run(**given | fields)


def tiny_protocol(**fields: Any) -> Protocol:
    """The cheapest score there is."""
    given: dict[str, Any] = {
        "name": "tiny",
        "images": 64,
        "sampling_steps": 2,
        "guidance_channels": 1,
        "decoder": "identity",
        "features": "digits-cnn-1",
        "reference": "digits",
    }
    return Protocol(**given | fields)


def tiny_sweep(**fields: Any) -> Sweep:
    given: dict[str, Any] = {
        "name": "tiny",
        "runs": (tiny_run(),),
        "steps": (10, 20),
        "protocols": (tiny_protocol(),),
    }
    return Sweep(**given | fields)


def only_training(steps: tuple[int, ...], **fields: Any) -> Sweep:
    """The cheapest sweep without a score; `fields` are the run's."""
    return tiny_sweep(steps=steps, runs=(tiny_run(**fields),), protocols=())


def written(sweep: Sweep, folder: Path) -> Path:
    """The sweep as a file a user could have written: the repr of a dataclass is its constructor."""
    path = folder / "tiny.py"
    path.write_text(f"from harness.spec import Protocol, Run, Sweep\n\nSWEEP = {sweep!r}\n")
    return path


def cluster_file(folder: Path, **fields: object) -> Path:
    path = folder / "cluster.toml"
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in fields.items()))
    return path


def environment(**more: str) -> dict[str, str]:
    """One thread a process, and no rank of an outer process group."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    path = os.pathsep.join(filter(None, (str(ROOT), clean.get("PYTHONPATH"))))
    return clean | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"} | more


def started(*words: object, **more: str) -> subprocess.Popen[str]:
    """`python -m harness …` in a process of its own."""
    command = [sys.executable, "-m", "harness", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment(**more), cwd=ROOT, stdout=pipe, stderr=pipe, text=True
    )


def finished(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def run_verb(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """The exit status, stdout and stderr of a verb, in this process."""
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    return status, *capsys.readouterr()


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line by which a verb refuses."""
    status, out, err = run_verb(capsys, *words)
    assert status != 0 and out == "" and err.count("\n") == 1 and err.startswith("harness: "), (
        status,
        out,
        err,
    )
    return err


def do(task: Task, store: Store, **cluster: Any) -> list[str]:
    """Does one task here, and returns the lines that it reported."""
    said: list[str] = []
    with stop_on_signal() as stop:
        perform(
            task,
            store,
            Cluster(**{"store": str(store.root), "device": "cpu"} | cluster),
            lambda line, share: said.append(line),
            stop,
        )
    return said


def train_all(sweep: Sweep, store: Store, **cluster: Any) -> list[str]:
    return [
        line
        for t in missing(sweep, store)
        if isinstance(t, Train)
        for line in do(t, store, **cluster)
    ]


def score_all(sweep: Sweep, store: Store, **cluster: Any) -> None:
    for task in missing(sweep, store):
        if isinstance(task, Evaluate):
            do(task, store, **cluster)


def scored(store: Store, run: Run, step: int, fid: float, protocol: Protocol | None = None) -> None:
    """A record of this score, as harness run would have written it."""
    of = protocol or tiny_protocol()
    like = Store(ROOT / "tests" / "fixtures" / "store_3880366")
    record = read_json(like.record(tiny_run(), 10, tiny_protocol()))
    mine = {"run": run.id, "step": step, "protocol": of.id, "n": of.n, "protocol_fields": None}
    values = {**record["values"], "fid": float(fid)}
    register(run, store)
    write_json(store.record(run, step, of), {**record, **mine, "values": values})


def curve(store: Store, run: Run) -> list[tuple[Any, ...]]:
    """What training measured, step by step, without what depends on the clock."""
    lines, _ = store.read_log(run)
    return [
        tuple(line.get(key) for key in ("step", "loss", "mse", "vb", "grad_norm")) for line in lines
    ]


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference."""
    return float((a - b).detach().abs().max())


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def ranks(world: int, script: str, *words: object) -> list[str]:
    """stdout of the script under `world` gloo processes, with the environment of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    path = os.pathsep.join([str(ROOT / "tests"), environment()["PYTHONPATH"]])
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, environment(PYTHONPATH=path)),  # of the fork server
    ):
        outs = [Path(folder) / str(rank) for rank in range(world)]
        processes = [
            FORKS.Process(
                target=rank_main,
                args=(script, words, {**shared, "RANK": str(r), "LOCAL_RANK": str(r)}, out),
            )
            for r, out in enumerate(outs)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            process.kill()
        texts = [out.read_text() for out in outs]
    assert all(process.exitcode == 0 for process in processes), texts
    return texts


def rank_main(script: str, words: Sequence[object], variables: dict[str, str], out: Path) -> None:
    """Runs a script in this process, whose output goes to a file."""
    os.environ.update(variables)
    os.chdir(ROOT)
    sys.argv = ["-c", *map(str, words)]
    sys.stdout = out.open("w")
    try:
        exec(compile(script, "rank", "exec"), {"__name__": "__main__"})
    except Exception:
        traceback.print_exc(file=sys.stdout)
        raise
    finally:
        sys.stdout.close()


def draw_for_a_screen(patch: pytest.MonkeyPatch) -> None:
    """Leaves out PDF, PNG and the phone's SVG of figures: they are most of a report's time."""
    from analysis import drawing, files  # imports matplotlib

    patch.setattr(files, "METADATA", {"svg": files.METADATA["svg"]})
    patch.setattr(drawing, "phone_svg", lambda *_: "")


def forget_rows() -> None:
    """As a new process: no file of rows is loaded, and nothing is known of a network."""
    for file in own_rows.LOADED.values():
        for field, names in file.rows.items():
            for name in names:
                del own_rows.TABLES[field][name]
    own_rows.LOADED.clear()
    for cached in (counts.counts, counts.kept_bytes, counts.live_bytes, counts.measured):
        cached.cache_clear()
    counts.code_of.cache_clear()
