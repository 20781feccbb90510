"""Images of a folder, an archive or a Hugging Face dataset, by index; and the square that ADM makes of each."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.base.errors import UserError
from harness.base.files import read_json

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
IN_HAND = 4  # images decoded or waiting, a thread

Pixels = np.ndarray[Any, Any]  # uint8 [side, side, 3]


@dataclass(frozen=True)
class Source:
    """Images by index: their names, a label for each, and their encoded bytes; `read` may be called by many threads."""

    names: Sequence[str]
    labels: np.ndarray[Any, Any]
    classes: list[str]
    read: Callable[[int], bytes]

    def digest(self) -> str:
        """Of names and labels: another order or number of images is another source."""
        digest = hashlib.sha256("\n".join(self.names).encode(errors="surrogateescape"))
        digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()


def open_source(path: Path) -> Source:
    """The images at `path`, sorted by class and name: a class is a folder, its index that of its sorted name.

    Raises:
        ValueError: no images there, or nothing that holds any.
    """
    if (path / "state.json").exists():
        return hugging_face(path)
    if (path / "dataset_dict.json").exists():
        splits = ", ".join(sorted(str(part.parent) for part in path.glob("*/state.json")))
        raise UserError(f"{path} holds several splits: name one of {splits}")
    if path.is_dir():
        return folder(path)
    if not path.exists():
        raise UserError(
            f"no images at {path}: name a folder of class folders, a tar or zip of one, or a dataset"
        )
    if zipfile.is_zipfile(path):
        return zipped(path)
    try:
        return tarred(path)
    except tarfile.TarError:
        raise UserError(
            f"{path} is no folder, no zip and no plain tar: unpack it, and name the folder"
        ) from None


def sorted_source(
    path: Path, found: Iterable[tuple[str, str, Any]], read: Callable[[Any], bytes]
) -> Source:
    """Of (class, name, where to read it) in any order; what has no image's suffix is passed over."""
    kept = sorted((x for x in found if x[1].lower().endswith(SUFFIXES)), key=lambda x: x[:2])
    if not kept:
        raise UserError(
            f"no images at {path}: it must hold class folders with {', '.join(SUFFIXES)} files"
        )
    classes = sorted({name for name, _, _ in kept})
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[name] for name, _, _ in kept], np.int32)
    places = [where for _, _, where in kept]
    return Source(
        [f"{kind}/{name}" for kind, name, _ in kept], labels, classes, lambda i: read(places[i])
    )


def folder(path: Path) -> Source:
    kinds = [entry for entry in os.scandir(path) if entry.is_dir()]
    found = (
        (kind.name, name, f"{kind.path}/{name}") for kind in kinds for name in os.listdir(kind.path)
    )
    return sorted_source(path, found, lambda where: Path(where).read_bytes())


def zipped(path: Path) -> Source:
    archive = zipfile.ZipFile(path)
    files = (Path(name) for name in archive.namelist())
    found = ((file.parent.name, file.name, str(file)) for file in files)
    return sorted_source(path, found, archive.read)


def tarred(path: Path) -> Source:
    """A tar of class folders, or ImageNet's: a tar of tars, one a class."""
    file = os.open(
        path, os.O_RDONLY
    )  # open as long as the process: threads read it at places of their own
    return sorted_source(path, members(path, 0), lambda where: os.pread(file, *where))


def members(path: Path, start: int, kind: str = "") -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Class, name and (size, offset) of each file of the uncompressed tar that begins `start` bytes into `path`."""
    with path.open("rb") as file:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                inside = Path(member.name)
                if member.isfile() and inside.suffix == ".tar":
                    yield from members(path, member.offset_data, inside.stem)
                elif member.isfile():
                    yield kind or inside.parent.name, inside.name, (member.size, member.offset_data)


def hugging_face(path: Path) -> Source:
    """What `datasets` saved to disk, in its own order: the columns of type Image and ClassLabel, memory-mapped."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UserError(
            f"{path} is a Hugging Face dataset: pip install pyarrow, and run this again"
        ) from None
    columns = {
        kind["_type"]: (name, kind)
        for name, kind in read_json(path / "dataset_info.json")["features"].items()
    }
    if not {"Image", "ClassLabel"} <= columns.keys():
        raise UserError(
            f"{path} has columns of {', '.join(columns)}, none of Image, or none of ClassLabel: cast them"
        )
    (image, _), (label, classes) = columns["Image"], columns["ClassLabel"]
    files = [path / part["filename"] for part in read_json(path / "state.json")["_data_files"]]
    table = pyarrow.concat_tables(
        pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).read_all() for file in files
    )

    def read(i: int) -> bytes:
        stored = pictures[i].as_py()
        return stored["bytes"] or Path(stored["path"]).read_bytes()

    pictures = table[image]
    names = [f"{i:08d}" for i in range(len(table))]
    return Source(names, table[label].to_numpy().astype(np.int32), classes["names"], read)


def center_crop(image: Image.Image, side: int) -> Pixels:
    """ADM's square: halved by a box filter while twice too large, bicubic to the short side, cut from the middle.

    The pixels are turned into RGB as Pillow does it, as in ADM: alpha is dropped, 16-bit grey is
    clipped at 255, and what EXIF says of a rotation is not heeded. Source: openai/guided-diffusion,
    image_datasets.py.
    """
    image = image.convert("RGB")
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
    )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image)[top : top + side, left : left + side]


def decoded(source: Source, rows: Iterable[int], side: int, threads: int) -> Iterator[Pixels | str]:
    """The squares of `rows` in their order, or what is wrong with one, made ahead of need by `threads` threads."""

    def load(row: int) -> Pixels | str:
        try:
            with Image.open(io.BytesIO(source.read(row))) as image:
                return center_crop(image, side)
        except Exception as error:  # a damaged file makes Pillow raise anything
            # The disk's or the memory's: of no file could be said that it is damaged.
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
                raise
            return f"{type(error).__name__}: {str(error).split(' <')[0]}"

    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Pixels | str]] = deque()
        try:
            for row in rows:
                coming.append(pool.submit(load, row))
                if len(coming) > IN_HAND * threads:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
