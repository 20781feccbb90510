"""How long launch and status take on a real Slurm, in wall seconds.

Targets: 500 tasks launched in 30 s; status of 1,000 jobs in 2 s with one call of squeue; a
follower, one call a round.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "slurm")]
os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian has the daemons

from helpers import finished, tiny_run, tiny_sweep  # noqa: E402
from lab import Lab  # noqa: E402
from site_verbs import ENDLESS, Files, Site  # noqa: E402


def counted(site: Site) -> dict[str, str]:
    """An environment whose squeue writes down that it was called."""
    wrapper = site.folder / "squeue"
    wrapper.write_text(
        f'#!/bin/sh\necho call >> {site.folder}/calls\nexec {shutil.which("squeue")} "$@"\n'
    )
    wrapper.chmod(0o755)
    return {"PATH": f"{site.folder}:{site.lab.env['PATH']}"}


def calls(site: Site) -> int:
    return (site.folder / "calls").read_text().count("call")


def seconds(site: Site, verb: str, files: Files, *words: str) -> float:
    began = time.perf_counter()
    status, out, err = site.harness(verb, files, *words, **counted(site))
    assert status == 0, (out, err)
    return time.perf_counter() - began


def measure(lab: Lab, folder: Path, tasks: int) -> None:
    site = Site(lab, folder)
    folder.mkdir()
    sweep = tiny_sweep(runs=tuple(tiny_run(seed=seed) for seed in range(tasks)), steps=(ENDLESS,))
    files = site.write(
        sweep, nodes=4, cpus_per_task=4, throttle=1
    )  # one runs: the rest of the machine is free
    launched = seconds(site, "launch", files, "--dirty")
    before = calls(site)
    looks = [seconds(site, "status", files) for _ in range(5)]
    each = (calls(site) - before) / len(looks)
    before, began = calls(site), time.perf_counter()
    follower = site.begun("launch", files, "--dirty", "--follow", **counted(site))
    time.sleep(20)
    rounds, asked = (time.perf_counter() - began) // 1, calls(site) - before
    follower.terminate()
    finished(follower)
    lab.run("scancel", "--name=tiny")
    site.empty()
    print(
        f"{tasks:>6}{launched:>10.2f}{statistics.median(looks):>10.2f}{max(looks):>8.2f}{each:>14g}"
        f"{asked:>10} in {rounds:g} rounds at most"
    )


def main() -> None:
    if not shutil.which("slurmctld"):
        print("no Slurm here: python tests/slurm/lab.py install")
        return
    with tempfile.TemporaryDirectory() as name:
        lab = Lab(Path(name) / "lab", 27800)
        lab.start()
        try:
            print(
                f"{'tasks':>6}{'launch s':>10}{'status s':>10}{'most':>8}"
                f"{'squeue calls':>14}{'follower':>10}"
            )
            for tasks in (500, 1000):
                measure(lab, Path(name) / str(tasks), tasks)
        finally:
            lab.stop()


if __name__ == "__main__":
    main()
