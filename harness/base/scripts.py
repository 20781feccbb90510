"""Python files of the user: their errors as one line. No torch."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from harness.base.errors import UserError


@contextlib.contextmanager
def script_errors(path: Path, what: str) -> Iterator[None]:
    """Names the line of `path` at which running it failed; `what` it is, such as "sweep file".

    Raises:
        UserError: it did not run, for any reason.
    """
    try:
        yield
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}: fix the {what}") from None
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        frames = reversed(traceback.extract_tb(error.__traceback__))
        line = next((frame.lineno for frame in frames if frame.filename == str(path)), 0)
        known = isinstance(error, ValueError)  # such as ours, which say what to do
        kind = "" if known else f" ({type(error).__name__}): fix the {what}"
        raise UserError(f"{path}:{line}: {' '.join(str(error).split())}{kind}") from None
