"""The reader of image files: no format but the named ones, and no program started by any file."""

from __future__ import annotations

import errno
import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawings import mutated
from PIL import Image

from harness.base.images import (
    DISK,
    FORMATS,
    MAX_BYTES,
    Unreadable,
    decode,
    inspect,
    read_file,
    reading,
)

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n%%EOF\n"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gs` on PATH that leaves a mark when it is started."""
    folder, mark = tmp_path / "bin", tmp_path / "started"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return mark


def image(kind: str = "PNG", side: int = 16) -> bytes:
    random = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG of that header whatever its pixels, with the right checksums."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_file_of_postscript_starts_no_program(planted: Path) -> None:
    for read in (decode, inspect):
        with pytest.raises(Unreadable, match=r"cannot identify image file$"):
            read(EPS)
    assert not planted.exists()
    with pytest.raises(subprocess.CalledProcessError):  # Pillow by itself
        Image.open(io.BytesIO(EPS)).load()
    assert planted.exists(), "the trap works"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_named_formats_are_read(kind: str) -> None:
    data = image(kind)
    assert inspect(data) == ("RGB", (16, 16))
    assert np.array_equal(np.array(decode(data)), np.array(Image.open(io.BytesIO(data))))
    assert decode(data, "L").mode == "L"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 14_000])
def test_the_number_of_pixels_is_limited_by_the_header(side: int) -> None:
    for read in (decode, inspect):
        with pytest.raises(Unreadable, match=r"[Pp]ixels.* 89,478,485 are read: make it smaller"):
            read(png(side, side))


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to("absent")
    (tmp_path / "large.png").touch()
    os.truncate(tmp_path / "large.png", MAX_BYTES + 1)
    (tmp_path / "good.png").write_bytes(image())
    (tmp_path / "link.png").symlink_to("good.png")
    for name, fault in {
        "fifo": "is no regular file: put the image itself there",
        "zero": "is no regular file",
        "folder": "IsADirectoryError",
        "nowhere": "FileNotFoundError",
        "large": "has 268,435,457 bytes, at most 268,435,456 are read: make it smaller",
    }.items():
        with pytest.raises(Unreadable, match=fault):
            read_file(tmp_path / f"{name}.png")
    assert read_file(tmp_path / "link.png") == image()


def test_a_folder_that_is_gone_is_no_fault_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "unmounted" / "x.png")


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, IndexError, zlib.error, struct.error])
def test_whatever_a_decoder_raises_is_the_files_fault(error: type[Exception]) -> None:
    with pytest.raises(Unreadable, match=f"{error.__name__}: two lines"), reading():
        raise error("two\nlines")


def test_errors_of_the_disk_pass_with_the_files_name(tmp_path: Path) -> None:
    for number in DISK:
        with pytest.raises(OSError, match=r"x\.png") as error, reading(tmp_path / "x.png"):
            raise OSError(number, os.strerror(number))
        assert error.value.errno == number
    with pytest.raises(Unreadable, match="Invalid argument"), reading(tmp_path / "x.zip"):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_checksums_that_are_right_do_not_make_an_image() -> None:
    assert inspect(png(4, 4, b"no pixels")) == ("RGB", (4, 4)), (
        "checksums are all that is looked at"
    )
    with pytest.raises(Unreadable):
        decode(png(4, 4, b"no pixels"))


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_images_are_unreadable_or_decoded(kind: str) -> None:
    random, whole = np.random.default_rng(1), image(kind, side=24)
    outcomes = set()
    for _ in range(150):
        damaged = mutated(whole, random)
        for read in (decode, inspect):
            try:
                read(damaged)
                outcomes.add("decoded")
            except Unreadable:
                outcomes.add("unreadable")
    assert "unreadable" in outcomes
