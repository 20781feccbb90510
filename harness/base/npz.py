"""Arrays in npz files: headers without data, arrays without pickles, named damage. No torch."""

from __future__ import annotations

import contextlib
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.base.errors import UserError

Array = np.ndarray[Any, Any]
# What zipfile and numpy raise on bytes that are no npz. RuntimeError: encrypted members.
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    SyntaxError,
    ValueError,
    OverflowError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Header:
    """What an array is, before its data."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Turns damage that a call of zipfile or numpy meets into a UserError with the path.

    Raises:
        UserError: the file is no npz, or not whole.
    """
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a whole npz ({reason}): fetch or write it again") from None


def keys(path: Path) -> set[str]:
    """The names of its arrays.

    Raises:
        UserError: the file is no npz.
    """
    with named(path), zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    return {name.removesuffix(".npy") for name in members if name.endswith(".npy")}


@contextlib.contextmanager
def opened(path: Path, key: str) -> Iterator[tuple[IO[bytes], Header]]:
    """The bytes of one array behind its header, and that header.

    Raises:
        UserError: the file is no npz, lacks the array, or holds another number of bytes for it.
    """
    with contextlib.ExitStack() as stack:
        with named(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            member = archive.getinfo(f"{key}.npy")
            file = stack.enter_context(archive.open(member))
            header = read_header(file)
            size = file.tell() + math.prod(header.shape) * header.dtype.itemsize
            whole = header.dtype.hasobject or size == member.file_size
            if not whole or min(header.shape, default=0) < 0:
                raise UserError(
                    f"{key} of {path} has {member.file_size} bytes, not the {size} of"
                    f" {header.dtype} {header.shape}: fetch or write it again"
                )
        yield file, header


def read_header(file: IO[bytes]) -> Header:
    """Reads the header of an npy file, versions 1 and 2.

    Raises:
        ValueError: the bytes are no header of an npy file of version 1 or 2.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}")
    first = version == (1, 0)
    fmt = np.lib.format
    read = fmt.read_array_header_1_0 if first else fmt.read_array_header_2_0
    return Header(*read(file))


def header(path: Path, key: str) -> Header:
    """Reads the header of one array of an npz file, without its data.

    Raises:
        UserError: as opened().
    """
    with opened(path, key) as (_, found):
        return found


def read_arrays(path: Path, wanted: Iterable[str]) -> dict[str, Array]:
    """Those of the arrays that the file holds.

    Raises:
        UserError: the file is damaged, or one of them is of pickled objects.
    """
    found = {}
    for key in sorted(keys(path) & {*wanted}):
        refuse_objects(path, key, header(path, key))
        with named(path), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            found[key] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def refuse_objects(path: Path, key: str, head: Header) -> None:
    """Refuses an array of Python objects.

    Raises:
        UserError: reading the array would run pickled code.
    """
    if head.dtype.hasobject:
        raise UserError(
            f"{key} of {path} holds pickled objects, which are never loaded: write it as numbers"
        )


def image_shape(path: Path) -> tuple[int, int, int]:
    """Number, side and channels of the images or clips `arr_0`.

    Raises:
        UserError: as stored_shape().
    """
    n, *_, side, channels = stored_shape(path)
    return n, side, channels


def stored_shape(path: Path) -> tuple[int, ...]:
    """The shape of the images or clips `arr_0`.

    Raises:
        UserError: there are none, or they are neither uint8 [N > 0, side, side, channels] nor
            [N > 0, frames, side, side, channels].
    """
    if "arr_0" not in keys(path):
        raise UserError(f"{path} holds no arr_0: store images there, uint8 [N, side, side, C]")
    with opened(path, "arr_0") as (file, head):
        refuse_objects(path, "arr_0", head)
        if head.dtype != np.uint8:
            with named(path):
                start = np.frombuffer(file.read(head.dtype.itemsize * 10**6), head.dtype)
            nan = " with NaN" if head.dtype.kind == "f" and np.isnan(start).any() else ""
            raise UserError(
                f"arr_0 of {path} is {head.dtype}{nan}, not uint8: store clamp(127.5 x + 128, 0,"
                " 255)"
            )
    shape = head.shape
    if len(shape) not in (4, 5) or shape[-3] != shape[-2] or head.fortran or min(shape) < 1:
        raise UserError(
            f"arr_0 of {path} has shape {shape}, not [N > 0, side, side, channels] in C order"
        )
    return shape


def image_side(path: Path) -> int:
    """Width of the images in an npz, 0 where it has none."""
    return image_shape(path)[1] if "arr_0" in keys(path) else 0
