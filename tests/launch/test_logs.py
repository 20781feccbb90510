"""Why a job failed, as its logs say it: past the words of srun, slurmstepd and submitit."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.launch.logs import NEVER_BEGAN, last_error, log_files

PYTHON = """submitit INFO (2026-11-21 16:00:00,000) - Starting with JobEnvironment(job_id=75)
submitit INFO (2026-11-21 16:00:00,000) - Loading pickle: /s/jobs/L/75_submitted.pkl
 10% mini-DiT-S/8 step 10/100
submitit ERROR (2026-11-21 16:00:03,000) - Submitted job triggered an exception
Traceback (most recent call last):
  File "/s/jobs/code/abc/harness/launch/job.py", line 40, in __call__
    perform(task)
ImportError: cannot import name 'x' from 'harness'
"""
SRUN = """srun: error: node4: task 0: Exited with exit code 1
srun: launch/slurm: _step_signal: Terminating StepId=75.0
slurmstepd: error: *** STEP 75.0 ON node4 CANCELLED AT 2026-11-21T16:00:04 ***
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PYTHON + SRUN, "ImportError: cannot import name 'x' from 'harness'"),
        (
            "slurmstepd: error: Job 75 exceeded memory limit (200M > 100M), being killed\n"
            "srun: error: node4: tasks 2-3: Killed\n" + SRUN,
            "exceeded memory limit",
        ),
        (
            " 10% step 1\nslurmstepd: error: *** STEP 75.0 ON node1 CANCELLED AT 2026-11-21T16:00"
            " DUE TO TIME LIMIT ***\nsrun: Job step aborted: Waiting up to 7 seconds\n",
            "DUE TO TIME LIMIT",
        ),
        (
            "slurmstepd: error: execve(): /venv/bin/python: No such file or directory\n" + SRUN,
            "execve(): /venv/bin/python",
        ),
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=75.0. Some of the step tasks"
            " have been OOM Killed.\nsrun: error: node4: task 0: Out Of Memory\n",
            "oom_kill",
        ),
        (PYTHON + "/s/runs: No space left on device: free some space\n" + SRUN, "No space left"),
        (" 10% step 1\nsrun: error: node4: task 0: Segmentation fault\n", "Segmentation fault"),
        (" 10% step 1\n", ""),
        # A job that was requeued at its time limit, and then failed for another reason.
        ("slurmstepd: error: CANCELLED DUE TO TIME LIMIT\n" + PYTHON, "ImportError"),
    ],
)
def test_the_reason_is_found_in_a_log(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "75_0_log.err").write_text(text)
    found = last_error({"job": "75", "log": str(tmp_path / "75_0_log.err")})
    assert words in found and bool(found) == bool(words)


def test_the_reason_may_stand_in_another_ranks_log(tmp_path: Path) -> None:
    logs = ("RuntimeError: Connection closed by peer [127.0.0.1]:4\n", "ValueError: loss is nan\n")
    for rank, text in enumerate(logs):
        (tmp_path / f"7_3_{rank}_log.err").write_text(text)
    (tmp_path / "7_30_0_log.err").write_text("another job\n")
    line = {"job": "7_3", "log": str(tmp_path / "7_3_0_log.err")}
    assert [path.name for path in log_files(line)] == ["7_3_0_log.err", "7_3_1_log.err"]
    assert last_error(line) == "ValueError: loss is nan"


def test_a_job_without_a_log_never_began(tmp_path: Path) -> None:
    assert last_error({"job": "7", "log": str(tmp_path / "7_0_log.err")}) == NEVER_BEGAN
