"""The one reader of image files: five formats, bounded sizes, every fault as a message."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from harness.base.errors import UserError

# Named, since Pillow guesses by content and hands some formats to programs: EPS to Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
JPEG = (".jpg", ".jpeg")
SUFFIXES = (*JPEG, ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_BYTES = 1 << 28  # of a file: 268 MB, above any photograph's
MAX_PIXELS = MAX_BYTES // 3  # as many in 8-bit RGB, where Pillow warns of decompression bombs

# Errors of the disk and of this process's limits: they say nothing about one file.
DISK = {
    errno.EIO,
    errno.ESTALE,
    errno.EACCES,
    errno.ENOSPC,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOTCONN,
}


class Unreadable(Exception):
    """One file cannot be read; the message says why, and the remedy where it is known."""


@contextlib.contextmanager
def reading(path: Path | None = None) -> Iterator[None]:
    """Turns whatever a bad file raises into Unreadable; `path` is where the bytes come from.

    Raises:
        Unreadable: the file is bad.
        OSError: the disk is, with its file's name.
    """
    try:
        yield
    except (Unreadable, UserError):
        raise
    # Decoders and archives meet bytes that nobody checked. Fuzzing saw, beside OSError and
    # SyntaxError: RuntimeError, NotImplementedError, IndexError, EOFError, MemoryError, zlib.error,
    # struct.error, BadZipFile. None may end the encoding of a million other images.
    except Exception as error:
        if isinstance(error, OSError) and is_of_the_disk(error, path):
            error.filename = error.filename or (path and str(path))
            raise
        reason = " ".join(re.sub("<.*?>", "", str(error)).split())  # no "<_io.BytesIO object at …>"
        raise Unreadable(f"{type(error).__name__}: {reason}") from error


def is_of_the_disk(error: OSError, path: Path | None) -> bool:
    """Whether an error is the disk's; of a file that is gone, whether its folder is gone too."""
    gone = error.errno == errno.ENOENT and path is not None and not path.parent.exists()
    return gone or error.errno in DISK


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; a FIFO is not waited for, a device not read.

    Raises:
        Unreadable: it is no regular file, or too large.
        OSError: the disk failed.
    """
    with reading(path), open(path, "rb", opener=without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("is no regular file: put the image itself there")
        refuse_bytes(status.st_size)
        return file.read(status.st_size)


def without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def refuse_bytes(size: int) -> None:
    """Refuses a file of too many bytes, before it is read.

    Raises:
        Unreadable: more than MAX_BYTES.
    """
    if size > MAX_BYTES:
        raise Unreadable(f"has {size:,} bytes, at most {MAX_BYTES:,} are read: make it smaller")


def refuse_pixels(width: int, height: int) -> None:
    """Refuses an image of too many pixels, before it is decoded.

    Raises:
        Unreadable: more than MAX_PIXELS.
    """
    if width * height > MAX_PIXELS:
        raise Unreadable(
            f"has {width:,} × {height:,} pixels, at most {MAX_PIXELS:,} are read: make it smaller"
        )


def opened(data: bytes) -> Image.Image:
    """The image behind its header; the pixels are decoded when they are needed."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:  # Pillow's own limit is twice ours
        raise Unreadable(f"{error} At most {MAX_PIXELS:,} are read: make it smaller") from None
    refuse_pixels(*image.size)
    return image


def decode(data: bytes, mode: str | None = None) -> Image.Image:
    """The image, decoded, in Pillow's `mode`, or in its own by None.

    Raises:
        Unreadable: it is damaged, too large, or of another format.
    """
    with reading():
        image = opened(data)
        image.load()
        return image if mode in (None, image.mode) else image.convert(mode)


def inspect(data: bytes) -> tuple[str, tuple[int, int]]:
    """Pillow's mode, and width and height; a PNG is checked by its checksums, others by decoding.

    Raises:
        Unreadable: it is damaged, too large, or of another format.
    """
    with reading():
        image = opened(data)
        image.verify() if image.format == "PNG" else image.load()
        return image.mode, image.size
