"""Where images lie: a folder, zip, tar or Hugging Face dataset, read by index, never trusted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.base.errors import UserError
from harness.base.images import SUFFIXES, Unreadable, read_file, reading, refuse_bytes

BLOCK = 512  # bytes of a tar's header, and of its end mark
LINK = "is a link within the archive: pack the file itself"
Place = tuple[int, int] | str  # a member's offset and size, or why it cannot be read


@dataclass(frozen=True)
class Source:
    """Images by index: names, labels, encoded bytes; many threads may call `read` at a time.

    `read` raises Unreadable for a bad image, OSError for a failing disk.
    """

    names: Sequence[str]
    labels: np.ndarray[Any, Any]
    classes: list[str]
    read: Callable[[int], bytes]

    def digest(self) -> str:
        """SHA-256 of names and labels: another order or number of images is another source."""
        digest = hashlib.sha256("\n".join(self.names).encode(errors="surrogateescape"))
        digest.update(self.labels.astype("<i4").tobytes())
        return digest.hexdigest()


def open_source(path: Path) -> Source:
    """The images at `path`, sorted by class and name: a class is a folder.

    Raises:
        UserError: no images there, or nothing that holds any.
    """
    if (path / "state.json").exists():
        return hugging_face(path)
    if (path / "dataset_dict.json").exists():
        splits = ", ".join(sorted(str(part.parent) for part in path.glob("*/state.json")))
        raise UserError(f"{path} holds several splits: name one of {splits}")
    if path.is_dir():
        return folder(path)
    if not path.is_file():
        raise UserError(
            f"no images at {path}: name a folder of class folders, a tar or zip of one, or a"
            " dataset"
        )
    with damage_named(path):
        return zipped(path) if zipfile.is_zipfile(path) else tarred(path)


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Names the archive in errors of whatever reads it inside.

    Raises:
        UserError: whatever goes wrong with the archive as a whole.
    """
    try:
        with reading(path):
            yield
    except Unreadable as fault:
        raise UserError(f"{path} is damaged: {fault}: fetch it or pack it again") from None


def sorted_source(
    path: Path, entries: Iterable[tuple[str, str, Any]], read: Callable[[Any], bytes]
) -> Source:
    """Of (class, name, where to read it) in any order; files without an image's suffix are skipped.

    Raises:
        UserError: there are no images.
    """
    kept = sorted((x for x in entries if x[1].lower().endswith(SUFFIXES)), key=lambda x: x[:2])
    if not kept:
        raise UserError(
            f"no images at {path}: it must hold {', '.join(SUFFIXES)} files, in class folders where"
            " there are classes"
        )
    classes = sorted({name for name, _, _ in kept})
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[name] for name, _, _ in kept], np.int32)
    names, places = [f"{kind}/{name}" for kind, name, _ in kept], [place for _, _, place in kept]
    return Source(names, labels, classes, lambda i: read(places[i]))


def folder(path: Path) -> Source:
    """A folder of class folders; without any, of images of one class that has no name."""
    kinds = [(entry.name, entry.path) for entry in os.scandir(path) if entry.is_dir()]
    entries = (
        (kind, name, f"{place}/{name}")
        for kind, place in kinds or [("", str(path))]
        for name in os.listdir(place)
    )
    return sorted_source(path, entries, lambda file: read_file(Path(file)))


def zipped(path: Path) -> Source:
    archive = zipfile.ZipFile(path)  # open as long as the process
    infos = [(Path(info.filename), info) for info in archive.infolist() if not info.is_dir()]
    entries = ((file.parent.name, file.name, info) for file, info in infos)
    return sorted_source(path, entries, partial(read_entry, archive, path))


def read_entry(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo) -> bytes:
    """Reads one file of a zip, within the bounds on its size.

    Raises:
        Unreadable: a link, too large, damaged, encrypted, or compressed in a way that has no bound.
        OSError: the disk failed.
    """
    if stat.S_ISLNK(info.external_attr >> 16):
        raise Unreadable(LINK)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable("is packed by another method than store or deflate: pack it again")
    refuse_bytes(info.file_size)
    with reading(path), archive.open(info) as file:
        return file.read(info.file_size)  # without a size all that was packed would be unpacked


def tarred(path: Path) -> Source:
    """A tar of class folders, or ImageNet's: a tar of tars, one a class.

    Raises:
        UserError: it is no tar, or holds no images.
        Unreadable: it was cut or damaged.
    """
    entries = list(members(path, 0, path.stat().st_size))
    file = os.open(path, os.O_RDONLY)  # open as long as the process, and read at any offset

    def read(place: Place) -> bytes:
        if isinstance(place, str):
            raise Unreadable(place)
        offset, size = place
        refuse_bytes(size)
        with reading(path):
            return os.pread(file, size, offset)

    return sorted_source(path, entries, read)


def members(path: Path, start: int, end: int, kind: str = "") -> Iterator[tuple[str, str, Place]]:
    """Class, name and place of each file of the plain tar in the bytes start … end of `path`.

    Raises:
        UserError: it is no tar.
        Unreadable: it was cut or damaged; tarfile itself takes either for the end.
    """
    with path.open("rb") as file:
        file.seek(start)
        try:
            archive = tarfile.TarFile(fileobj=file)
        except tarfile.TarError:
            raise UserError(
                f"{path} is no folder, no zip and no plain tar: unpack it, and name the folder"
            ) from None
        for member in archive:
            if member.size < 0 or (member.isreg() and member.offset_data + member.size > end):
                raise Unreadable(f"the entry at byte {member.offset:,} goes beyond its end")
            inside = Path(member.name)
            if member.isreg() and inside.suffix == ".tar" and not kind:
                low = member.offset_data
                yield from members(path, low, low + member.size, inside.stem)
            elif not member.isdir():
                yield kind or inside.parent.name, inside.name, place_of(member)
        file.seek(archive.offset)
        if archive.offset + BLOCK > end or file.read(BLOCK) != bytes(BLOCK):
            raise Unreadable(f"no end mark at byte {archive.offset:,}, it was cut there")


def place_of(member: tarfile.TarInfo) -> Place:
    if member.issym() or member.islnk():
        return LINK
    if not member.isreg() or member.issparse():
        return "is no plain file within the archive: pack the file itself"
    return member.offset_data, member.size


def hugging_face(path: Path) -> Source:
    """What `datasets` saved to disk, in its own order: the columns of type Image and ClassLabel.

    Raises:
        UserError: `datasets` is not installed, or cannot read it, or it has no such columns.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise UserError(
            f"{path} is a Hugging Face dataset: pip install datasets, and run this again"
        ) from None
    with damage_named(path):
        saved = datasets.load_from_disk(str(path))
    kinds = {type(kind): name for name, kind in saved.features.items()}
    if not {datasets.Image, datasets.ClassLabel} <= kinds.keys():
        raise UserError(
            f"{path} has columns of {', '.join(kind.__name__ for kind in kinds)}, none of Image, or"
            " none of ClassLabel: cast them"
        )
    image, label = kinds[datasets.Image], kinds[datasets.ClassLabel]
    pictures = saved.select_columns([image]).cast_column(image, datasets.Image(decode=False))

    def read(i: int) -> bytes:
        with reading(path):
            stored = pictures[i][image]
            data: bytes = stored["bytes"] or read_file(Path(stored["path"]))
            refuse_bytes(len(data))
            return data

    labels = np.array(saved.with_format("numpy")[label][:], np.int32)
    names = [f"{i:08d}" for i in range(len(saved))]
    return Source(names, labels, saved.features[label].names, read)
