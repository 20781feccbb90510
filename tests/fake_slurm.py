"""Slurm's commands as small scripts on the path: a queue in a file, scripts kept to be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REFUSED = (
    "AssocMaxSubmitJobLimit\n"
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
    " (job submit limit, user's size and/or time limits)"
)
SBATCH = """
script=$1
[ -e REFUSAL ] && { sed 's/^/sbatch: error: /' REFUSAL >&2; exit 1; }
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' $script)
there=$(grep -c '|PENDING|\\||RUNNING|' QUEUE)
if [ $((there + ${last:-0} + 1)) -gt $(cat LIMIT) ]; then
  printf 'sbatch: error: %s\\n' "$(cat WORDS)" >&2; exit 1
fi
id=$(($(ls SCRIPTS | wc -l) + 1))
cp $script SCRIPTS/$id.sh
comment=$(sed -n 's/^#SBATCH --comment="*\\([^"]*\\)"*$/\\1/p' $script)
if [ -z "$last" ]; then
  echo "$id|PENDING||0:00|Priority|$comment|$script" >> QUEUE
else
  for i in $(seq 0 $last); do
    echo "${id}_$i|PENDING||0:00|Priority|$comment|$script" >> QUEUE
  done
fi
echo "Submitted batch job $id"
"""
SCONTROL = """
case "$*" in
  *config*) echo "MaxArraySize            = 1001";;
  *partition*) cat PARTITIONS;;
esac
"""
SCANCEL = """
for job in "$@"; do sed -i "/^$job|/d" QUEUE; done
"""


class FakeSlurm:
    """A cluster whose queue is a file. `jobs` are its rows, by job id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "SCRIPTS").mkdir(parents=True)
        self.write("QUEUE", "")
        self.write("LIMIT", "1000000")
        self.write("WORDS", REFUSED)
        self.write("PARTITIONS", "PartitionName=main Default=YES MaxTime=UNLIMITED\n")
        for name, script in {
            "sbatch": SBATCH,
            "squeue": "cat QUEUE",
            "scontrol": SCONTROL,
            "scancel": SCANCEL,
            "srun": "true",
            "sacct": "echo no accounting >&2; exit 1",
        }.items():
            path = folder / name
            text = f'#!/bin/sh\necho "{name} $@" >> {folder}/calls\n{self.placed(script)}\n'
            path.write_text(text)
            path.chmod(0o755)

    def placed(self, script: str) -> str:
        """The script with the paths of the files that it names in capitals."""
        for name in ("SCRIPTS", "QUEUE", "LIMIT", "WORDS", "PARTITIONS", "REFUSAL"):
            script = script.replace(name, str(self.folder / name))
        return script

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def refuse(self, words: str) -> None:
        """sbatch refuses everything, with these words; "" ends it."""
        self.write("REFUSAL", words)
        if not words:
            (self.folder / "REFUSAL").unlink()

    @property
    def jobs(self) -> dict[str, list[str]]:
        rows = (line.split("|") for line in (self.folder / "QUEUE").read_text().splitlines())
        return {row[0]: row for row in rows}

    def set(self, job: str, state: str, node: str = "", used: str = "0:00") -> None:
        """Changes the row of a job."""
        rows = self.jobs
        rows[job][1:4] = [state, node, used]
        self.write("QUEUE", "".join("|".join(row) + "\n" for row in rows.values()))

    def forget(self, job: str) -> None:
        rows = self.jobs
        del rows[job]
        self.write("QUEUE", "".join("|".join(row) + "\n" for row in rows.values()))

    @property
    def scripts(self) -> list[str]:
        """The submission scripts, in order."""
        paths = sorted((self.folder / "SCRIPTS").iterdir(), key=lambda path: int(path.stem))
        return [path.read_text() for path in paths]

    def calls(self, command: str) -> list[str]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(f"{command} ")]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.folder}{os.pathsep}/usr/bin:/bin")
    return fake
