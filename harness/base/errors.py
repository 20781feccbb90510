"""UserError: what a person can fix, in one line. All else is a bug and keeps its traceback."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be read and written",
    errno.EPERM: "choose a folder that can be read and written",
    errno.EMFILE: "raise the limit on open files (ulimit -n) and run the same command again",
    errno.ENFILE: "close files on this machine and run the same command again",
    errno.EIO: "check that disk, then run the same command again",
    errno.ESTALE: "check that the file system is mounted, then run the same command again",
    errno.ENOTCONN: "check that the file system is mounted, then run the same command again",
    errno.ENOLCK: "mount that file system with locks (flock), or choose another folder",
    errno.EOPNOTSUPP: "choose a folder on a file system with locks (flock)",
    errno.ENOSYS: "choose a folder on a file system with locks (flock)",
    errno.ELOOP: "remove that symbolic link",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "name a folder",
    errno.EISDIR: "name a file",
    errno.EEXIST: "move it away and run the same command again",
    errno.ENOMEM: "free some memory and run the same command again",
}


class UserError(ValueError):
    """What a person can fix: the message names the thing, its value and the remedy, in one line."""


class Locked(UserError):
    """Another process is doing the same task."""


class EnvironmentProblem(UserError):
    """A fault of the machine a task runs on, such as a node without GPUs: no fault of the task."""


def as_user_error(error: BaseException) -> UserError | None:
    """The one-line form of an error that a person can fix, or None for a bug.

    Of the operating system's errors those about files count, such as a full disk.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = (
            os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the system"
        )
        return UserError(f"{where}: {os.strerror(error.errno)}: {REMEDIES[error.errno]}")
    return None


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns the system's errors about files into UserError; bugs pass with their traceback.

    Raises:
        UserError: a full disk, a folder that cannot be written, ...
    """
    known: UserError | None = None
    try:
        yield
    except OSError as error:
        known = as_user_error(error)
        if known is None:
            raise
        raise known from error
    finally:
        del known  # its traceback holds this frame: the circle would keep mapped files open
