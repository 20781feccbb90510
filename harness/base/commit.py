"""The commit of this code. No torch."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from harness.base.errors import UserError

PACKAGE = Path(__file__).parents[1]


def git(*words: str) -> bytes:
    """
    Raises:
        ValueError: git is not there or refuses, in its own words.
    """
    try:
        return subprocess.run(
            ["git", "-C", str(PACKAGE), *words], capture_output=True, check=True
        ).stdout
    except FileNotFoundError:
        raise UserError("git is not on the path") from None
    except subprocess.CalledProcessError as error:
        raise UserError(" ".join(error.stderr.decode(errors="replace").split())) from None


def head() -> str:
    """The commit of this code, with "+dirty" where it differs from it.

    Raises:
        ValueError: there is none, with git's reason.
    """
    try:
        git(
            "ls-files", "--error-unmatch", "__init__.py"
        )  # an installed copy may lie within another repository
        name, changes = (
            git("rev-parse", "HEAD").decode().strip(),
            git("status", "--porcelain", "--", "."),
        )
    except UserError as error:
        raise UserError(
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
    except UserError:
        return "unknown"
