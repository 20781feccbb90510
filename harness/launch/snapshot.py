"""The code that queued jobs run: a copy of this package as it is committed, named by its commit. No torch."""

from __future__ import annotations

import datetime
import functools
import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from harness.study.store import Store

PACKAGE = Path(__file__).parents[1]


def git(*words: str) -> bytes:
    """
    Raises:
        ValueError: git is not there or refuses, in its own words.
    """
    try:
        return subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise ValueError("git is not on the path") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(" ".join(error.stderr.decode(errors="replace").split())) from None


def head() -> str:
    """The commit of this code, with "+dirty" where it differs from it.

    Raises:
        ValueError: there is none, with git's reason.
    """
    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed copy may lie within another repository
        name, changes = git("rev-parse", "HEAD").decode().strip(), git("status", "--porcelain", "--", ".")
    except ValueError as error:
        raise ValueError(
            f"the code at {PACKAGE} has no commit ({error}): commit it, or copy it as it is with --dirty"
        ) from None
    return name + ("+dirty" if changes.strip() else "")


@functools.cache
def commit() -> str:
    """head(), or "unknown"; $HARNESS_COMMIT where this code is a snapshot."""
    if "HARNESS_COMMIT" in os.environ:
        return os.environ["HARNESS_COMMIT"]
    try:
        return head()
    except ValueError:
        return "unknown"


def snapshot(store: Store, dirty: bool) -> Path:
    """The folder of a copy of this package: of its commit, made once; where that is allowed, of the files as they are.

    Raises:
        ValueError: there is no commit, or the files differ from it, and `dirty` is not said.
    """
    name = commit()
    as_it_is = name == "unknown" or name.endswith("+dirty")
    if as_it_is and not dirty:
        raise ValueError(
            f"the code at {PACKAGE} differs from commit {head()[:12]}: commit it, or copy it as it is with --dirty"
        )
    if as_it_is:
        name += datetime.datetime.now(datetime.UTC).strftime(".%Y%m%dT%H%M%S%f")
    folder = store.code(name)
    if not folder.exists():
        beside = folder.with_name(f".{name}.{os.getpid()}")
        try:
            (copy_files if as_it_is else extract_commit)(beside)
            beside.rename(folder)
        except (OSError, ValueError):
            shutil.rmtree(beside, ignore_errors=True)
            if not folder.exists():  # else another launch of the same commit was quicker
                raise
    return folder.resolve()


def copy_files(folder: Path) -> None:
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))


def extract_commit(folder: Path) -> None:
    packed = git("archive", "--format=zip", f"--prefix={PACKAGE.name}/", "HEAD")
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        file.extractall(folder)
