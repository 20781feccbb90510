"""The processes of the executor "local": a queue per launch, and one per job. No torch."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.base.commit import code_environment

MODULE = "harness.launch.local_queue"


class Order(NamedTuple):
    """A job in a queue."""

    job: bytes  # pickled
    setup: list[str]  # shell lines before its Python
    environment: dict[str, str]


class Process(NamedTuple):
    """A process of this machine that was started here, by the folder of its launch."""

    pid: int
    folder: Path


def log_of(folder: Path, number: str) -> Path:
    """A job's log. The process that creates it decides whether the job ever begins."""
    return folder / f"{number}_log.err"


def end_of(folder: Path, number: str) -> Path:
    """There once a job has ended."""
    return folder / f"{number}_end"


def processes() -> dict[tuple[str, str], Process]:
    """This user's jobs, by the name of their launch and their number; queues have the number ""."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if entry.stat().st_uid != os.getuid():
                continue
            words = (entry / "cmdline").read_text(errors="replace").split("\0")[:-1]
            if MODULE in words[:-1]:
                folder, number = (*words[words.index(MODULE) + 1 :], "")[:2]
                found[Path(folder).name, number] = Process(int(entry.name), Path(folder))
    return found


def serve(folder: Path, orders: list[Order], workers: int) -> None:
    """Runs the jobs in their order, `workers` at a time."""
    waiting = [(str(number), order) for number, order in enumerate(orders)]
    alive: dict[str, subprocess.Popen[bytes]] = {}
    while waiting or alive:
        while waiting and len(alive) < workers:
            number, order = waiting.pop(0)
            if process := start(folder, number, order):
                alive[number] = process
        for number in [n for n, process in alive.items() if process.poll() is not None]:
            record_end(folder, number, alive.pop(number).returncode)
        time.sleep(0.1)


def start(folder: Path, number: str, order: Order) -> subprocess.Popen[bytes] | None:
    """Starts a job, with its standard streams in its log; None where it was cancelled."""
    command = [sys.executable, "-P", "-m", MODULE, str(folder), number]
    if order.setup:
        script = "\n".join([*order.setup, 'exec "$@"'])
        command = ["bash", "-c", script, "bash", *command]
    try:
        with log_of(folder, number).open("x") as log:
            process = subprocess.Popen(
                command,
                env=code_environment({**os.environ, **order.environment}),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
    except FileExistsError:
        return None
    assert process.stdin
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(order.job)
    return process


def record_end(folder: Path, number: str, status: int) -> None:
    if status < 0:  # it could not say so itself
        with log_of(folder, number).open("a") as log:
            log.write(f"harness: the job's process ended with {signal.Signals(-status).name}\n")
    end_of(folder, number).touch()


def main(folder: str, number: str = "") -> None:
    """A job where a number is given, or else the queue of a launch. Its work comes by stdin."""
    work = pickle.load(sys.stdin.buffer)
    if number:
        work()
    else:
        serve(Path(folder), *work)


if __name__ == "__main__":
    main(*sys.argv[1:])
