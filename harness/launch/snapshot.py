"""The code that queued jobs run: a copy of this package as it is committed, named by its commit. No torch."""

from __future__ import annotations

import datetime
import io
import os
import shutil
import zipfile
from pathlib import Path

from harness.base.commit import PACKAGE, commit, git, head
from harness.base.errors import UserError
from harness.study.store import Store


def snapshot(store: Store, dirty: bool) -> Path:
    """The folder of a copy of this package: of its commit, made once; where that is allowed, of the files as they are.

    Raises:
        ValueError: there is no commit, or the files differ from it, and `dirty` is not said.
    """
    name = commit()
    as_it_is = name == "unknown" or name.endswith("+dirty")
    if as_it_is and not dirty:
        raise UserError(
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
        except (OSError, UserError):
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
