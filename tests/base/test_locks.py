"""Locks: one holder at a time, freed with its process; those who ask only read."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import ROOT, environment, tree

from harness.base.errors import as_user_error
from harness.base.locks import claim, holder, is_at, is_claimed


def test_a_claim_is_one_process_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a folder, with ' \" $HOME ünï and\ttab" / "train.lock"
    assert not is_claimed(path)
    with claim(path) as mine:
        assert mine and is_claimed(path)
        with claim(path) as second, claim(path, wanted=False) as other_rank:
            assert not second and other_rank
    assert not is_claimed(path)
    code = (
        "import sys; from harness.base.locks import *\n"
        "with claim(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), cwd=ROOT, stdin=pipe, stdout=pipe) as other:
        assert other.stdout and other.stdout.readline() == b"held\n" and is_claimed(path)
        assert holder(path) == f"{os.uname().nodename} {other.pid}"
        other.kill()
        other.wait()
        assert not is_claimed(path)


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "x.lock").symlink_to(tmp_path / "mine")

    def take() -> None:
        with claim(tmp_path / "x.lock"):
            pass

    for ask in (lambda: is_claimed(tmp_path / "x.lock"), take):
        with pytest.raises(OSError, match="symbolic links") as refused:
            ask()
        assert f"{tmp_path}/x.lock: " in str(as_user_error(refused.value))
    assert (tmp_path / "mine").read_text() == "precious" and holder(tmp_path / "x.lock") == ""


def test_asking_for_a_lock_only_reads(tmp_path: Path) -> None:
    """On a store of another user, or one that is mounted read-only."""
    path = tmp_path / "x.lock"
    assert not is_claimed(path) and tree(tmp_path) == set()
    path.write_text("host 7\n")
    path.chmod(0o444)
    before = path.stat().st_mtime_ns
    assert not is_claimed(path) and path.stat().st_mtime_ns == before
    assert path.read_text() == "host 7\n"


def test_a_lock_that_may_not_be_read_counts_as_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text("host 7\n")
    path.chmod(0)
    ask = (
        "import os, sys; from harness.base.locks import Path, is_claimed, holder\n"
        "os.getuid() or os.setuid(65534); path = Path(sys.argv[1])\n"
        "print(is_claimed(path), holder(path))"
    )
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", ask, str(path)], env=environment(), cwd=ROOT, capture_output=True
    )
    assert done.stdout == b"False \n", done.stderr


def test_those_who_ask_keep_nobody_from_the_lock_and_mislead_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.touch()
    done, misled = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            if is_claimed(path):
                misled.append(path)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for thread in askers:
        thread.start()
    other = tmp_path / "y.lock"  # of which nobody asks: what the askers see of x is each other
    with claim(other) as mine:
        assert mine
    done.wait(0.2)
    assert not misled
    for _ in range(20):
        with claim(path, patience=0) as mine:
            assert mine
    done.set()
    for thread in askers:
        thread.join()


def test_a_lock_is_of_the_file_that_has_its_name(tmp_path: Path) -> None:
    """A scratch cleaner may remove it between open and lock."""
    path = tmp_path / "x.lock"
    path.touch()
    with path.open("rb") as file:
        assert is_at(file, path)
        path.unlink()
        assert not is_at(file, path)
        path.touch()
        assert not is_at(file, path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_a_remedy(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError) as refused, claim(tmp_path / "x.lock"):  # noqa: PT011
        pass
    line = str(as_user_error(refused.value))
    assert line.startswith(f"{tmp_path}/x.lock: ") and "(flock)" in line
