"""Strange npz files, images and archives: scored or encoded, or refused in one line."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import TINY
from fuzzing import Draw, fuzzed, spoiled
from helpers import cluster_file
from hypothesis import strategies as st
from PIL import Image
from trials import Result, verb

from harness.cli.main import parser
from harness.data import DATASETS

SCORE = "score" if re.search(r"^ +score\b", parser().format_help(), re.M) else "evaluate"


def npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@st.composite
def arrays(draw: Draw, whole: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """An npz of which one array has another shape, type or content, or is not there."""
    name, found = draw(st.sampled_from(sorted(whole))), dict(whole)
    array = found.pop(name)
    way = draw(st.sampled_from(["gone", "type", "shape", "value", "object", "flat"]))
    if way == "type":
        kinds = ["i1", "f2", "f8", "c16", "?", "U3", "O"]
        with contextlib.suppress(ValueError):  # a text is no number: then the array is gone
            found[name] = array.astype(draw(st.sampled_from(kinds)))
    elif way == "shape":
        found[name] = np.zeros(draw(st.lists(st.integers(0, 17), max_size=5)), array.dtype)
    elif way == "value" and array.dtype.kind == "f":
        found[name] = array * draw(st.sampled_from([np.nan, np.inf, -1.0, 1e300, 0.0]))
    elif way == "object":
        found[name] = np.array([{}, None], dtype=object)
    elif way == "flat":
        found[name] = array.reshape(-1)
    return npz(found)


def score(samples: Path, reference: Path) -> Result:
    """The scores; a number that is not finite counts as a fault."""
    files = ("--samples", samples, "--reference", reference)
    result = verb(SCORE, *files, "--extractor", "digits-cnn-1", "--json")
    if result.status == 0:
        numbers = [x for x in json.loads(result.out).values() if isinstance(x, float)]
        assert np.isfinite(numbers).all(), result.out
    return result


@pytest.mark.parametrize("what", ["samples", "reference"])
def test_npz_files(what: str, readable: Path, tmp_path: Path) -> None:
    whole = {"samples": readable / "digits.npz", "reference": readable / "reference.npz"}
    with np.load(whole[what]) as file:
        known = dict(file)
    path = tmp_path / "given.npz"

    def read(value: bytes) -> Result:
        path.write_bytes(value)
        return score(**{**whole, what: path})

    fuzzed(f"npz as {what}", 30, 800, arrays(known) | spoiled(npz(known)), read)


def pictured(kind: str, size: tuple[int, int] = (16, 16), mode: str = "L") -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(file, kind)
    return file.getvalue()


FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "DDS", "EPS", "ICO", "PPM", "TGA")


@st.composite
def pictures(draw: Draw, mode: str) -> bytes:
    """An image of any format, spoiled or not, of a size that may not fit."""
    kind = draw(st.sampled_from(FORMATS))
    sides = draw(st.sampled_from([(16, 16)] * 4 + [(1, 1), (16, 5), (300, 2)]))
    try:
        data = pictured(kind, sides, mode)
    except (OSError, KeyError, ValueError):  # Pillow cannot write that
        data = pictured("PNG", sides, draw(st.sampled_from(["L", "RGB", "RGBA", "P", "1"])))
    return draw(spoiled(data))


@pytest.fixture
def started_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Grows when an image makes Pillow start Ghostscript."""
    script, calls = tmp_path / "gs", tmp_path / "gs.calls"
    script.write_text(f"#!/bin/sh\necho started >> {calls}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return calls


def test_folders_of_images(readable: Path, started_programs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(pictured("PNG"))

    def read(value: bytes) -> Result:
        (folder / "x.png").write_bytes(value)
        return score(folder, readable / "reference.npz")

    fuzzed("images of a folder", 40, 800, pictures("L"), read)
    assert not started_programs.exists(), "an image starts a program"


@pytest.fixture
def encoding(
    tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Result]:
    monkeypatch.setitem(DATASETS, "tiny", TINY)
    path = cluster_file(tmp_path, store=str(tmp_path / "store"), device="cpu", executor="local")
    with path.open("a") as file:
        file.write(f'[paths]\n"ft-mse" = {str(vae)!r}\n')

    def encode(images: Path) -> Result:
        out = tmp_path / "latents"
        shutil.rmtree(out, ignore_errors=True)
        where = ("--out", out, "--cluster", path)
        return verb("encode", images, "--data", "tiny", "--shard", 5, *where)

    return encode


def test_encoded_images(
    encoding: Callable[[Path], Result], started_programs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images" / "ant"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(pictured("PNG", (40, 40), "RGB"))

    def read(value: bytes) -> Result:
        (folder / "x.png").write_bytes(value)
        return encoding(folder.parent)

    fuzzed("encoded images", 20, 600, pictures("RGB"), read)
    assert not started_programs.exists(), "an image starts a program"


# Names that are odd, or lead out of the archive.
NAMES = (
    "../../x.png /etc/x.png bee//x.png ./bee/x.png x.png bee/x.png é/x.png bee/sub/x.png".split()
)
MEMBERS = [tarfile.REGTYPE] * 6 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]


@st.composite
def archives(draw: Draw) -> tuple[str, bytes]:
    """A zip or tar of class folders with odd names and members, damaged or not."""
    names = ["ant/a.png", *draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))]
    image = pictured("PNG", (40, 40), "RGB")
    if draw(st.booleans()):
        return "images.zip", draw(spoiled(zipped(names, image)))
    kinds = [draw(st.sampled_from(MEMBERS)) for _ in names]
    return "images.tar", draw(spoiled(tarred(names, kinds, image)))


def zipped(names: list[str], image: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(
                name, image, compress_type=(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[i % 2]
            )
    return file.getvalue()


def tarred(names: list[str], kinds: list[bytes], image: bytes) -> bytes:
    """A link points to a file of this machine."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind in zip(names, kinds, strict=True):
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(image), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(image))
    return file.getvalue()


def test_encoded_archives(encoding: Callable[[Path], Result], tmp_path: Path) -> None:
    def read(value: tuple[str, bytes]) -> Result:
        path = tmp_path / value[0]
        path.write_bytes(value[1])
        return encoding(path)

    fuzzed("encoded archives", 20, 600, archives(), read)
