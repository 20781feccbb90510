"""The commit of this code. No torch."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from harness.base.errors import UserError

PACKAGE = Path(__file__).parents[1]


def git(*words: str) -> bytes:
    """The output of a git command in this package's folder.

    Raises:
        UserError: git is not there or refuses, in its own words.
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
        UserError: there is none, with git's reason.
    """
    try:
        # An installed copy may lie within another repository.
        git("ls-files", "--error-unmatch", "__init__.py")
        name = git("rev-parse", "HEAD").decode().strip()
        changes = git("status", "--porcelain", "--", ".")
    except UserError as error:
        raise UserError(
            f"the code at {PACKAGE} has no commit ({error}):"
            " commit it, or copy it as it is with --dirty"
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


def code_environment(variables: Mapping[str, str], code: Path = PACKAGE.parent) -> dict[str, str]:
    """Variables for a Python process that imports the package in `code`."""
    path = os.pathsep.join(filter(None, (str(code), variables.get("PYTHONPATH"))))
    return {**variables, "PYTHONPATH": path}
