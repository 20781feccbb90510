"""Images as ADM sees them: the crop, odd modes, odd files; and where they can lie."""

from __future__ import annotations

import errno
import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import CLASSES
from PIL import Image

from harness.base.prefetch import prefetch
from harness.encoding.images import Source, center_crop, decoded, open_source

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8))


def adm(image: Image.Image, size: int) -> Array:
    """openai/guided-diffusion, image_datasets.py, as it stands there."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    image = image.resize(
        tuple(round(x * scale) for x in image.size), resample=Image.Resampling.BICUBIC
    )
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


def test_what_exif_says_of_a_rotation_is_not_heeded() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image = Image.fromarray(np.stack([RAMP] * 3, -1))
    assert np.array_equal(only(encoded(image, exif=exif.tobytes())), only(encoded(image)))


def test_files_that_are_no_images_are_told_in_their_places() -> None:
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


def test_where_there_are_no_images_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, dataset = tmp_path / "notes.txt", tmp_path / "dataset"
    text.write_text("no archive")
    (dataset / "train").mkdir(parents=True)
    (dataset / "dataset_dict.json").touch()
    (dataset / "train" / "state.json").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for path, fault in {
        tmp_path / "absent": "no images at .*absent: name a folder of class folders",
        tmp_path: "must hold class folders with .jpg",
        text: "is no folder, no zip and no plain tar: unpack it",
        dataset: f"holds several splits: name one of {dataset}/train",
        dataset / "train": "is a Hugging Face dataset: pip install pyarrow",
    }.items():
        with pytest.raises(ValueError, match=fault):
            open_source(path)


def saved(folder: Path, columns: dict[str, Any], features: dict[str, Any]) -> Path:
    """As `datasets` 5.2 saves it."""
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
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in files]})
    )
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def test_a_hugging_face_dataset_on_disk(pictures: Path, tmp_path: Path) -> None:
    known, label = open_source(pictures), {"_type": "ClassLabel", "names": list(CLASSES)}
    images = [{"bytes": known.read(i), "path": None} for i in range(13)]
    images.append({"bytes": None, "path": str(pictures / known.names[13])})
    columns = {"label": known.labels.tolist(), "picture": images}
    found = open_source(
        saved(tmp_path / "saved", columns, {"label": label, "picture": {"_type": "Image"}})
    )
    assert found.classes == known.classes and found.labels.tolist() == known.labels.tolist()
    assert [found.read(i) for i in range(14)] == [known.read(i) for i in range(14)]
    with pytest.raises(ValueError, match="has columns of ClassLabel, none of Image, or"):
        open_source(saved(tmp_path / "other", {"label": [0] * 9}, {"label": label}))


def test_the_next_item_is_made_before_it_is_asked_for() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i in range(3):
            begun[i].set()
            yield i
        raise ValueError("the last")

    found = prefetch(items(), torch.device("cpu"))
    assert next(found) == 0 and begun[1].wait(10) and not begun[2].is_set()
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="the last"):
        next(found)
    before, early = threading.active_count(), prefetch(items(), torch.device("cpu"))
    assert next(early) == 0
    early.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
