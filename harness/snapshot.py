"""The code that queued jobs run: a copy of this package as it is committed, named by its commit. No torch."""

from __future__ import annotations

import datetime
import functools
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from harness.store import Store

PACKAGE = Path(__file__).parent


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, check=True).stdout


@functools.cache
def commit() -> str:
    """The commit of this code, with "+dirty" where it differs from it; $HARNESS_COMMIT where it is a snapshot."""
    if "HARNESS_COMMIT" in os.environ:
        return os.environ["HARNESS_COMMIT"]
    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed copy may lie within another repository
        head, changes = git("rev-parse", "HEAD").decode().strip(), git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+dirty" if changes.strip() else "")


def snapshot(store: Store, dirty: bool) -> Path:
    """The folder of a copy of this package: of its commit, made once; where that is allowed, of the files as they are.

    Raises:
        ValueError: there is no commit, or the files differ from it, and `dirty` is not said.
    """
    name = commit()
    as_it_is = name == "unknown" or name.endswith("+dirty")
    if as_it_is and not dirty:
        fault = "is in no git repository" if name == "unknown" else f"differs from commit {name[:12]}"
        raise ValueError(f"the code at {PACKAGE} {fault}: commit it, or copy it as it is with --dirty")
    if as_it_is:
        name += datetime.datetime.now(datetime.UTC).strftime(".%Y%m%dT%H%M%S%f")
    folder = store.code(name)
    if not folder.exists():
        beside = folder.with_name(f".{name}.{os.getpid()}")
        (copy_files if as_it_is else extract_commit)(beside)
        try:
            beside.rename(folder)
        except OSError:  # another launch of the same commit was quicker
            shutil.rmtree(beside)
            if not folder.exists():
                raise
    return folder.resolve()


def copy_files(folder: Path) -> None:
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))


def extract_commit(folder: Path) -> None:
    packed = git("archive", f"--prefix={PACKAGE.name}/", "HEAD")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
