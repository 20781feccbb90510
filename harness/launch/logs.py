"""The logs of jobs: their text, and the line that says why one failed. No torch."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.launch.tickets import Line

ENVIRONMENT = "this node: "  # begins an error that another node may not have
NEVER_BEGAN = "no log: it never started, or its node does not see the store"
# Lines of srun and slurmstepd that follow the reason; those that name it are in NAMED.
NOISE = re.compile(
    r"submitit |Traceback|\s"
    r"|srun: (launch/slurm|Force|forcing|got SIG|Job step aborted|Terminating)"
    r"|slurmstepd.*\*\*\* (STEP|JOB) .*(REQUEUE|CANCELLED AT .* DUE TO (TASK|JOB) REQUEUE)"
)
NAMED = re.compile(
    r"slurmstepd.*(exceeded memory limit|oom|out of memory|TIME LIMIT|execve)", re.IGNORECASE
)
BEGINNING = "Starting with JobEnvironment"  # submitit's first words of each attempt
TAIL = 1 << 16  # bytes of a log that are searched


def log_files(line: Line) -> list[Path]:
    """The logs of a job's processes, rank 0 first."""
    files = [Path(line["log"])]
    while (path := files[0].with_name(f"{line['job']}_{len(files)}_log.err")).exists():
        files.append(path)
    return files


def last_error(line: Line) -> str:
    """Why a job failed, from the logs of all its processes; "" where they say nothing."""
    texts = []
    for path in log_files(line):
        try:
            texts.append(tail(path))
        except PermissionError:
            return f"{path} cannot be read: ask {line.get('user', 'its owner')}"
        except OSError:
            continue
    if not texts:
        return NEVER_BEGAN
    found = [rank for rank in map(reason, texts) if rank]
    return next((one for one in found if not is_secondary(one)), found[0] if found else "")


def tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode(errors="replace")


def reason(text: str) -> str:
    """The last line of a log that says why: no progress, no noise of the scheduler."""
    lines = [line for line in text.rpartition(BEGINNING)[2].splitlines() if line.strip()]
    if named := [line for line in lines if NAMED.search(line)]:
        return named[-1]
    own = [x for x in lines if not NOISE.match(x) and not x.split()[0].endswith("%")]
    words = [line for line in own if not line.startswith(("srun:", "slurmstepd"))]
    errors = [line for line in own if line.startswith("srun: error:")]
    return (words or errors or own or [""])[-1]


def is_secondary(line: str) -> bool:
    """Whether a rank only reports that another one is gone."""
    return bool(re.search(r"onnection (closed|reset|refused)|srun: error|another rank ended", line))


def log_text(path: Path, ended: Callable[[], bool], every: float) -> Iterator[str]:
    """The text of a log, and what is appended until `ended()`, asked every so often."""
    over, due = False, 0.0
    with path.open(errors="replace") as file:
        while True:
            if time.monotonic() >= due:  # before reading: what comes later is read the next time
                over, due = ended(), time.monotonic() + every
            while text := file.read(1 << 16):
                yield text
            if over:
                return
            time.sleep(min(1, every))


def silence(paths: list[Path]) -> float | None:
    """Seconds since the newest of these files was written; None where there is none."""
    times = []
    for path in paths:
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(0.0, time.time() - max(times)) if times else None
