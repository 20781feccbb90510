"""A Slurm of shell scripts, whose jobs end with results copied from a finished store."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from threading import Event, Thread

from harness.base.files import read_lines

# Reads name and size of an array from the batch script; FOLDER/queue then lists its elements.
SBATCH = r"""#!/bin/sh
number=$(($(cat FOLDER/last 2>/dev/null || echo 0) + 1)); echo $number > FOLDER/last
for script; do :; done
last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
rest="RUNNING|node1|1:00|None|(null)|$script"
for i in $(seq 0 ${last:--1}); do echo "${number}_$i|$rest"; done >> FOLDER/queue
[ -n "$last" ] || echo "$number|$rest" >> FOLDER/queue
echo "Submitted batch job $number"
"""
# What is in FOLDER/queue and not in FOLDER/over.
SQUEUE = """#!/bin/sh
echo asked >> FOLDER/asked
touch FOLDER/queue FOLDER/over
awk -F'|' 'FILENAME == ARGV[1] {over[$1]; next} !($1 in over)' FOLDER/over FOLDER/queue
"""
SCRIPTS = {
    "sbatch": SBATCH,
    "squeue": SQUEUE,
    "scontrol": "#!/bin/sh\necho 'MaxArraySize = 300'\n",
    "scancel": "#!/bin/sh\nexit 0\n",
}
LOST = 0.02  # share of jobs that end without a result


class Site(Thread):
    """The queue and the nodes: eight jobs end every 0.2 s until `closed` is set."""

    def __init__(self, folder: Path, finished: Path, store: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.finished, self.store = folder, finished, store
        self.closed, self.count, self.chance = Event(), 0, random.Random(0)
        folder.mkdir()
        for name, script in SCRIPTS.items():
            (folder / name).write_text(script.replace("FOLDER", str(folder)))
            (folder / name).chmod(0o755)

    def run(self) -> None:
        while not self.closed.wait(0.2):
            ledger = self.store / "jobs.jsonl"
            lines, _ = read_lines(ledger) if ledger.exists() else ([], [])
            jobs = [line for line in lines if "job" in line][self.count : self.count + 8]
            for line in jobs:
                if self.chance.random() > LOST:
                    self.copy_result(line["task"])
            with (self.folder / "over").open("a") as over:
                over.writelines(f"{line['job']}\n" for line in jobs)
            self.count += len(jobs)

    def copy_result(self, task: str) -> None:
        """`run` has checkpoints and logs for a result, `run@step:protocol` a record."""
        run, _, cell = task.partition("@")
        part = f"evals/{cell.partition(':')[2]}" if cell else ""
        ignore = None if cell else shutil.ignore_patterns("evals", "samples")
        target = self.store / "runs" / run / part
        source = self.finished / "runs" / run / part
        shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)

    @property
    def questions(self) -> int:
        return (self.folder / "asked").read_text().count("asked")
