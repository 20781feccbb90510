"""Images as ADM sees them: the crop, odd modes, odd files; and where they can lie."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import CLASSES, mutated
from PIL import Image

from harness.base.errors import UserError
from harness.encoding.images import center_crop, decoded
from harness.encoding.sources import Source, open_source

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8))


def adm(image: Image.Image, size: int) -> Array:
    """openai/guided-diffusion, image_datasets.py, as it stands there."""
    while min(*image.size) >= 2 * size:
        half = [x // 2 for x in image.size]
        image = image.resize(half, resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    scaled = [round(x * scale) for x in image.size]
    image = image.resize(scaled, resample=Image.Resampling.BICUBIC)
    arr = np.array(image)
    crop_y, crop_x = (arr.shape[0] - size) // 2, (arr.shape[1] - size) // 2
    return arr[crop_y : crop_y + size, crop_x : crop_x + size]


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (500, 375),
        (333, 500),
        (64, 64),
        (127, 128),
        (128, 127),
        (65, 1000),
        (20, 33),
        (1, 7),
        (513, 257),
    ],
)
def test_the_crop_is_adms(width: int, height: int) -> None:
    image = picture(width, height)
    assert np.array_equal(center_crop(image, 64), adm(image, 64))


def test_a_power_of_two_is_halved_by_means_of_four() -> None:
    image = picture(256, 128)
    means = np.asarray(image).astype(float)[:, 64:192].reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(center_crop(image, 64) - means).max() <= 1  # rounded twice: across, then down


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def of(*files: bytes) -> Source:
    return Source(
        [str(i) for i in range(len(files))],
        np.zeros(len(files), np.int32),
        ["all"],
        files.__getitem__,
    )


def only(data: bytes, side: int = 8) -> Array:
    (found,) = decoded(of(data), [0], side, threads=1)
    assert not isinstance(found, str), found
    return found


RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
DEEP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 100  # 16-bit grey: Pillow clips it at 255


def palette() -> Image.Image:
    image = Image.fromarray(RAMP // 4).convert("L")
    image.putpalette([x for i in range(256) for x in (i, 255 - i, 7)])
    return image


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (encoded(Image.fromarray(RAMP)), np.stack([RAMP] * 3, -1)),
        (
            encoded(Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)])),
            np.stack([RAMP] * 3, -1),
        ),
        (
            encoded(
                Image.merge(
                    "RGBA", [Image.fromarray(x) for x in (RAMP, RAMP.T, 255 - RAMP, 0 * RAMP)]
                )
            ),
            np.stack([RAMP, RAMP.T, 255 - RAMP], -1),
        ),
        (
            encoded(palette(), transparency=3),
            np.stack([RAMP // 4, 255 - RAMP // 4, 0 * RAMP + 7], -1),
        ),
        (encoded(Image.fromarray(DEEP)), np.stack([DEEP.clip(0, 255)] * 3, -1)),
        (
            encoded(
                Image.merge(
                    "CMYK", [Image.fromarray(x) for x in (RAMP, RAMP.T, 255 - RAMP, 0 * RAMP)]
                ),
                "TIFF",
            ),
            np.stack([255 - RAMP, 255 - RAMP.T, RAMP], -1),
        ),
        (encoded(Image.fromarray(RAMP > 99)), np.stack([255 * (RAMP > 99)] * 3, -1)),
    ],
    ids=[
        "grey",
        "grey with alpha",
        "alpha is dropped",
        "palette",
        "16 bits are clipped",
        "CMYK",
        "two colours",
    ],
)
def test_odd_modes_become_rgb_as_pillow_has_it(data: bytes, wanted: Array) -> None:
    assert np.array_equal(only(data), wanted)


def test_what_exif_says_of_a_rotation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image = Image.fromarray(np.stack([RAMP] * 3, -1))
    assert np.array_equal(only(encoded(image, exif=exif.tobytes())), only(encoded(image)))


def test_files_that_are_no_images_are_named_in_their_places() -> None:
    good = encoded(picture(20, 20), "JPEG")
    files = (good, b"", b"no image", good[:-200], good, encoded(picture(9, 9))[:60])
    found = list(decoded(of(*files), [4, 3, 2, 1, 0, 5], 8, threads=3))
    assert [isinstance(x, str) for x in found] == [False, True, True, True, False, True]
    assert found[2] == "UnidentifiedImageError: cannot identify image file" and "truncated" in str(
        found[1]
    )
    assert np.array_equal(found[0], found[4])


def test_an_error_of_the_disk_is_no_unreadable_image() -> None:
    def read(i: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error", "n01/a.JPEG")

    with pytest.raises(OSError, match=r"n01/a\.JPEG"):
        list(decoded(Source(["a"], np.zeros(1, np.int32), ["n01"], read), [0], 8, threads=1))


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def plain(files: dict[str, bytes], folder: Path) -> Path:
    return tar(folder / "x.tar", {f"train/{name}": data for name, data in files.items()})


def of_tars(files: dict[str, bytes], folder: Path) -> Path:
    """As ImageNet's training set is given out."""
    parts = {}
    for kind in CLASSES:
        inside = {name.split("/")[1]: data for name, data in files.items() if name.startswith(kind)}
        parts[f"{kind}.tar"] = tar(folder / f"{kind}.part", inside).read_bytes()
    return tar(folder / "x.tar", parts)


def zipped(files: dict[str, bytes], folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"some/where/{name}", data)
    return folder / "x.zip"


@pytest.mark.parametrize("pack", [plain, of_tars, zipped])
def test_an_archive_is_the_folder_it_was_made_of(
    pack: Callable[[dict[str, bytes], Path], Path], pictures: Path, tmp_path: Path
) -> None:
    known = open_source(pictures)
    assert (
        known.classes == list(CLASSES)
        and sorted(known.names) == known.names
        and len(known.names) == 14
    )
    files = {
        name: (pictures / name).read_bytes() for name in reversed(known.names)
    }  # in another order
    found = open_source(pack(files | {"cat/notes.txt": b"no image"}, tmp_path))
    assert (found.names, found.classes, found.digest()) == (
        known.names,
        known.classes,
        known.digest(),
    )
    assert [found.read(i) for i in range(14)] == [known.read(i) for i in range(14)]


def test_the_digest_of_a_source_is_of_names_and_labels() -> None:
    kinds = [
        of(b"", b""),
        of(b""),
        Source(["0", "1"], np.array([0, 1], np.int32), ["a", "b"], lambda i: b""),
    ]
    assert len({source.digest() for source in kinds}) == 3


def test_where_there_are_no_images_it_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, dataset = tmp_path / "notes.txt", tmp_path / "dataset"
    text.write_text("no archive")
    (dataset / "train").mkdir(parents=True)
    (dataset / "dataset_dict.json").touch()
    (dataset / "train" / "state.json").touch()
    monkeypatch.setitem(sys.modules, "datasets", None)
    for path, fault in {
        tmp_path / "absent": "no images at .*absent: name a folder of class folders",
        tmp_path: "must hold .jpg",
        text: "is no folder, no zip and no plain tar: unpack it",
        dataset: f"holds several splits: name one of {dataset}/train",
        dataset / "train": "is a Hugging Face dataset: pip install datasets",
    }.items():
        with pytest.raises(ValueError, match=fault):
            open_source(path)


def test_what_is_no_image_is_named_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "ant"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "1.png")
    (folder / "2.png").symlink_to("/dev/zero")
    (folder / "3.png").symlink_to("absent")
    (folder / "4.png").write_bytes(encoded(picture(1, 90_000)))
    (folder / "5.png").write_bytes(encoded(picture(9, 9)))
    source = open_source(tmp_path / "images")
    faults = list(decoded(source, range(5), 64, threads=2))
    assert [fault if isinstance(fault, str) else "" for fault in faults] == [
        "is no regular file: put the image itself there",
        "is no regular file: put the image itself there",
        f"FileNotFoundError: [Errno 2] No such file or directory: '{folder}/3.png'",
        "has 64 × 5,760,000 pixels, at most 89,478,485 are read: make it smaller",
        "",
    ]


def faults_of(source: Source) -> dict[str, str]:
    found = zip(source.names, decoded(source, range(len(source.names)), 8, threads=1), strict=True)
    return {name: fault for name, fault in found if isinstance(fault, str)}


def spoiled(path: Path, mark: bytes, offset: int, field: bytes) -> Path:
    """`field` written `offset` bytes behind the last `mark`."""
    data = bytearray(path.read_bytes())
    place = data.rindex(mark) + offset
    data[place : place + len(field)] = field
    path.write_bytes(data)
    return path


ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"  # of a zip's directory, and behind it


def test_names_of_a_zip_may_be_written_in_odd_ways(tmp_path: Path) -> None:
    data = encoded(picture(9, 9))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("./ant/1.png", "ant//2.png", "a/../ant/3.png"):
            archive.writestr(name, data)
        archive.writestr("ant/folder.png/", b"")
    source = open_source(tmp_path / "x.zip")
    assert source.names == ["ant/1.png", "ant/2.png", "ant/3.png"] and not faults_of(source)


@pytest.mark.parametrize(
    ("place", "field", "fault"),
    [
        (24, (1 << 30).to_bytes(4, "little"), "has 1,073,741,824 bytes, at most 268,435,456"),
        (24, (9).to_bytes(4, "little"), "BadZipFile: Bad CRC-32"),
        (8, b"\1", "RuntimeError: .*encrypted"),
        (10, b"\x0c", "by another method than store or deflate: pack it again"),
        (10, b"\x63", "by another method than store or deflate"),
        (40, b"\xed\xa1", "is a link within the archive: pack the file itself"),
        (42, b"\1", "BadZipFile"),
        (16, b"\1", "BadZipFile: Bad CRC-32"),
    ],
)
def test_a_bad_entry_of_a_zip_is_a_fault_of_that_image(
    place: int, field: bytes, fault: str, tmp_path: Path
) -> None:
    files = {f"ant/{i}.png": encoded(picture(9, 9)) for i in range(3)}
    (name, found), *more = faults_of(
        open_source(spoiled(zipped(files, tmp_path), ENTRY, place, field))
    ).items()
    assert name == "ant/2.png" and re.search(fault, found) and not more


def test_a_zip_that_unpacks_to_more_than_it_says_takes_no_memory(tmp_path: Path) -> None:
    zipped({"ant/0.png": bytes(50_000_000)}, tmp_path)
    source = open_source(spoiled(tmp_path / "x.zip", ENTRY, 24, (99).to_bytes(4, "little")))
    tracemalloc.start()
    assert "Bad CRC" in faults_of(source)["ant/0.png"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_place_before_the_file_is_a_fault_of_the_entry(tmp_path: Path) -> None:
    """A directory said to lie further behind than it does moves all entries before the file."""
    path = zipped({"ant/0.png": encoded(picture(9, 9))}, tmp_path)
    source = open_source(spoiled(path, END, 16, (1 << 20).to_bytes(4, "little")))
    assert "Invalid argument" in faults_of(source)["ant/0.png"]


@pytest.mark.parametrize(("place", "field"), [(12, b"\xff\xff\xff\x7f"), (-60, b"xxxx")])
def test_a_damaged_zip_is_named(place: int, field: bytes, tmp_path: Path) -> None:
    path = spoiled(zipped({"ant/0.png": b""}, tmp_path), END, place, field)
    with pytest.raises(UserError, match=f"{path} is damaged: .*: fetch it or pack it again"):
        open_source(path).read(0)


@pytest.mark.parametrize("pack", [plain, of_tars])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_tar_that_was_cut_is_refused(
    pack: Callable[[dict[str, bytes], Path], Path], share: float, tmp_path: Path
) -> None:
    """At whatever byte, and where tarfile takes a cut for the end: between two members."""
    files = {f"{kind}/{i}.png": encoded(picture(9, 9)) for i in range(3) for kind in CLASSES}
    path = pack(files, tmp_path)
    whole = path.read_bytes().rstrip(b"\0")
    for size in (int(share * len(whole)), int(share * len(whole)) // 512 * 512):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=f"{path} is damaged: .*: fetch it or pack it again"):
            open_source(path)


def test_a_tar_cut_between_two_members_says_where(tmp_path: Path) -> None:
    path = plain({f"ant/{i}.png": bytes(512) for i in range(3)}, tmp_path)
    os.truncate(path, 2048)
    with pytest.raises(UserError, match=r"no end mark at byte 2,048, it was cut there: fetch it"):
        open_source(path)


def test_a_tar_within_a_tar_that_lacks_its_end_is_refused(tmp_path: Path) -> None:
    """What follows would be taken for images of its class."""
    inner = tar(tmp_path / "inner", {"0.png": bytes(512)}).read_bytes()[:1024]
    path = tar(tmp_path / "x.tar", {"ant.tar": inner, "bee.tar": inner})
    with pytest.raises(UserError, match=r"is damaged: .*: fetch it or pack it again"):
        open_source(path)


def test_links_and_odd_members_of_a_tar_are_counted_and_named(tmp_path: Path) -> None:
    data = encoded(picture(9, 9))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i, kind in enumerate(
            (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE)
        ):
            member = tarfile.TarInfo(f"ant/{i}.png")
            member.type, member.linkname = kind, "ant/0.png"
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(data))
    link = "is a link within the archive: pack the file itself"
    assert faults_of(open_source(tmp_path / "x.tar")) == {
        "ant/1.png": link,
        "ant/2.png": link,
        "ant/3.png": "is no plain file within the archive: pack the file itself",
    }


def test_a_member_of_a_tar_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("ant/0.png")
    member.size = 1 << 30
    path = tmp_path / "x.tar"
    path.write_bytes(member.tobuf())
    os.truncate(path, 512 + (1 << 30) + 1024)  # sparse
    assert "has 1,073,741,824 bytes" in faults_of(open_source(path))["ant/0.png"]


@pytest.mark.parametrize("pack", [plain, of_tars, zipped])
def test_damaged_archives_are_refused_or_read(
    pack: Callable[[dict[str, bytes], Path], Path], tmp_path: Path
) -> None:
    files = {f"{kind}/{i}.png": encoded(picture(9, 9)) for i in range(2) for kind in CLASSES}
    path, random = pack(files, tmp_path), np.random.default_rng(0)
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        path.write_bytes(mutated(whole, random))
        try:
            faults_of(open_source(path))
        except UserError as error:
            refused += str(path) in str(error)
    assert refused


def saved(folder: Path, columns: dict[str, Any], features: dict[str, Any]) -> Path:
    """As `datasets` 5.2 saves it."""
    pytest.importorskip("datasets")
    pyarrow = pytest.importorskip("pyarrow")
    table, files = pyarrow.table(columns), [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    folder.mkdir()
    for i, name in enumerate(files):
        part = table.slice(i * 5, 5 if i == 0 else None)
        with (
            pyarrow.OSFile(str(folder / name), "wb") as file,
            pyarrow.ipc.new_stream(file, part.schema) as stream,
        ):
            stream.write_table(part)
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": "0123456789abcdef",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def test_a_hugging_face_dataset_on_disk(pictures: Path, tmp_path: Path) -> None:
    known, label = open_source(pictures), {"_type": "ClassLabel", "names": list(CLASSES)}
    images: list[dict[str, Any]] = [{"bytes": known.read(i), "path": None} for i in range(12)]
    images.append({"bytes": None, "path": str(pictures / known.names[12])})
    images.append({"bytes": None, "path": None})
    columns = {"label": known.labels.tolist(), "picture": images}
    path = saved(tmp_path / "saved", columns, {"label": label, "picture": {"_type": "Image"}})
    found = open_source(path)
    assert found.classes == known.classes and found.labels.tolist() == known.labels.tolist()
    assert [found.read(i) for i in range(13)] == [known.read(i) for i in range(13)]
    assert list(faults_of(found)) == ["00000013"]
    with pytest.raises(UserError, match="has columns of ClassLabel, none of Image, or"):
        open_source(saved(tmp_path / "other", {"label": [0] * 9}, {"label": label}))
    for file in path.glob("*.arrow"):
        os.truncate(file, 100)
    with pytest.raises(UserError, match=f"{path} is damaged: .*: fetch it or pack it again"):
        open_source(path)
