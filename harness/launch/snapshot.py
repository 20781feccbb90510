"""The code that queued jobs run: a copy of the commit, which they check. No torch."""

from __future__ import annotations

import datetime
import getpass
import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

from harness.base.commit import PACKAGE, commit, git, head
from harness.base.errors import UserError
from harness.study.store import Store


def snapshot(store: Store, dirty: bool) -> Path:
    """The folder of a copy of this package: of its commit, made once, or of the files as they are.

    A copy that is there already is compared with the commit: a store may be shared, and its jobs
    run what lies there.

    Raises:
        UserError: there is no commit, or the files differ from it and `dirty` is not given; or the
            copy that is there was changed.
    """
    name = commit()
    as_it_is = name == "unknown" or name.endswith("+dirty")
    if as_it_is and not dirty:
        raise UserError(
            f"the code at {PACKAGE} differs from commit {head()[:12]}:"
            " commit it, or copy it as it is with --dirty"
        )
    if as_it_is:
        name += datetime.datetime.now(datetime.UTC).strftime(".%Y%m%dT%H%M%S%f")
    folder = store.code(name)
    if folder.exists() and folder.stat().st_uid != os.getuid():  # its owner may change it any time
        folder = store.code(getpass.getuser()) / name
    beside = folder.with_name(f".{name}.{os.getpid()}")
    try:
        (copy_files if as_it_is else extract_commit)(beside)
        place(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder.resolve()


def place(beside: Path, folder: Path) -> None:
    """Renames a new copy, unless the same one is there.

    Raises:
        UserError: another one is there.
    """
    try:
        beside.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        if digest(folder) != digest(beside):
            raise UserError(
                f"{folder} is not what was committed: somebody changed it. Remove it, and"
                " run harness launch again"
            ) from None


def copy_files(folder: Path) -> None:
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))


def extract_commit(folder: Path) -> None:
    packed = git("archive", "--format=zip", f"--prefix={PACKAGE.name}/", "HEAD")
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        file.extractall(folder)


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a copy, without compiled bytecode."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            text = path.read_bytes()
            found.update(f"{path.relative_to(folder)}\0{len(text)}\0".encode() + text)
    return found.hexdigest()


def describe(code: Path) -> dict[str, Any]:
    """What launch.json holds of a copy."""
    return {"folder": str(code), "digest": digest(code)}


def check(code: dict[str, Any]) -> None:
    """Checks that this process runs the code of its launch.

    Raises:
        UserError: this process does not run that copy, or the copy was changed since the launch.
    """
    folder = Path(code["folder"])
    if PACKAGE.parent.resolve() != folder.resolve():
        raise UserError(
            f"this job imports {PACKAGE.parent} and not {folder}, the copy of its launch:"
            " run harness launch again"
        )
    if digest(folder) != code["digest"]:
        raise UserError(
            f"{folder} was changed after the launch: remove it, and run harness launch again"
        )
