"""Whatever a file holds, a reader takes it or refuses it in one line: every reader, by hypothesis."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import TINY
from helpers import cluster_file, tiny_protocol, tiny_run, tiny_sweep, written
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from trials import LONG, Said, Tally, has_traceback, verb

from harness.cli.main import parser
from harness.data import DATASETS

Draw = Callable[[Any], Any]

# What a file may hold in the place of a value.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.sampled_from(["cpu", "DiT-XL/2", "local", "~nosuchuser/x", "\x00", "../..", "é"]),
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=6), x, max_size=3))


def fuzzed(name: str, few: int, many: int, inputs: st.SearchStrategy[Any], read: Callable[[Any], tuple[Said, Path]]) -> None:
    """Reads many inputs; every end is a success or one line."""
    tally = Tally(f"fuzz {name}")

    @settings(
        max_examples=many if LONG else few, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(inputs)
    def trial(value: Any) -> None:
        said, folder = read(value)
        if has_traceback([said], folder / "store"):
            end = "traceback"
        elif said.status == 0:
            end = "harmless"
        else:
            end = "named" if said.is_a_line else "no line"
        tally.add(end, repr(value)[:300], [said])

    trial()
    tally.settle()


@st.composite
def spoiled(draw: Draw, data: bytes) -> bytes:
    """A whole file with a few bytes changed, cut, or with a piece of itself in another place."""
    way, at = draw(st.sampled_from(["flip", "cut", "insert", "none"])), draw(st.integers(0, len(data) - 1))
    if way == "cut":
        return data[:at]
    if way == "insert":
        return data[:at] + draw(st.binary(max_size=16)) + data[at + draw(st.integers(0, 16)) :]
    if way == "flip":
        spots = draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=8))
        changed = bytearray(data)
        for i, byte in spots:
            changed[i] = byte
        return bytes(changed)
    return data


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, numbers: Tensor) -> Path:
    """A finished study, its tables, and images of digits with their statistics."""
    at = tmp_path_factory.mktemp("fuzz")
    sweep = written(tiny_sweep(runs=(tiny_run(), tiny_run(model="mini-DiT-S/4"), tiny_run(model="mini-DiT-S/2")),
                               steps=(2, 4), protocols=(tiny_protocol(images=8),)), at)  # fmt: skip
    np.savez(at / "digits.npz", arr_0=numbers[:32].permute(0, 2, 3, 1).numpy())
    reference = at / "reference.npz"
    for words in (
        ("launch", sweep, "--store", at / "store", "--cluster", "debug", "--follow"),
        ("collect", sweep, "--store", at / "store", "--out", at),
        ("reference", "--images", at / "digits.npz", "--out", reference, "--extractor", "digits-cnn-1"),
    ):
        said = verb(*words)
        assert said.status == 0, said
    return at


# TOML and sweeps

FIELDS = ("executor store device workers threads checkpoint_minutes compile microbatch sampling_batch gpu_memory_gb paths"
          " retries poll_seconds partition nodes gpus_per_node memory_gb hours setup environment throttle models"
          " evaluate follower strange").split()  # fmt: skip


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return str(value) if value == value else "nan"
    return json.dumps(value) if value is not None else '"none"'


TABLES = st.dictionaries(
    st.sampled_from(FIELDS),
    SCALARS | VALUES | st.dictionaries(st.sampled_from(["DiT-XL/2", "mini-DiT-S/8", "digits", *FIELDS]), VALUES, max_size=3),
    max_size=4,
)  # fmt: skip


def test_cluster_files(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"

    def read(value: dict[str, Any] | bytes) -> tuple[Said, Path]:
        text = value if isinstance(value, bytes) else "".join(f"{k} = {toml(v)}\n" for k, v in value.items()).encode(
            errors="replace"
        )
        path.write_bytes(text)
        return verb("plan", study / "tiny.py", "--cluster", path, "--store", study / "store"), tmp_path

    fuzzed("cluster", 150, 3000, TABLES | spoiled(b'store = "x"\nworkers = 2\n[models."DiT-XL/2"]\nhours = 3\n'), read)


def test_sweep_files(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.py"
    text = (study / "tiny.py").read_text()
    numbers = st.sampled_from(["0", "-1", "1e400", "None", "'x'", "()", "10**30", "float('nan')", "[1]", "1 if", "é", "\x00"])

    @st.composite
    def changed(draw: Draw) -> str:
        parts = text.split("=")
        at = draw(st.integers(2, len(parts) - 1))
        value, comma, rest = parts[at].partition(",")
        return "=".join([*parts[:at], draw(numbers | st.just(value)) + comma + rest, *parts[at + 1 :]])

    def read(value: str | bytes) -> tuple[Said, Path]:
        path.write_bytes(value if isinstance(value, bytes) else value.encode())
        return verb("plan", path, "--store", study / "store"), tmp_path

    fuzzed("sweep", 100, 1000, changed() | spoiled(text.encode()), read)


# Files of the store

LINES = st.dictionaries(
    st.sampled_from(["task", "job", "executor", "launch", "name", "retry", "log", "at", "cancelled", "user", "date", "x"]),
    SCALARS | VALUES, max_size=11,
)  # fmt: skip


def test_lines_of_the_ledger(study: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(study / "store" / "runs", store / "runs")
    whole = (study / "store" / "jobs.jsonl").read_text().splitlines()

    @st.composite
    def lines(draw: Draw) -> bytes:
        line = json.loads(draw(st.sampled_from(whole))) if draw(st.booleans()) else {}
        strange = json.dumps(line | draw(LINES)).encode()
        return b"\n".join([*(x.encode() for x in whole), strange, draw(st.sampled_from([b"", b"7", b'{"task"']))])

    def read(value: bytes) -> tuple[Said, Path]:
        (store / "jobs.jsonl").write_bytes(value)
        return verb("status", study / "tiny.py", "--store", store), tmp_path

    fuzzed("ledger", 100, 1500, lines(), read)


def test_headers_of_safetensors(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "store", tmp_path / "store")
    weights = sorted((tmp_path / "store").glob("runs/*/checkpoints/*/ema.safetensors"))[0]
    data = weights.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])

    @st.composite
    def crafted(draw: Draw) -> bytes:
        name, table = draw(st.sampled_from(sorted(header))), json.loads(json.dumps(header))
        if draw(st.booleans()):
            table[name] = draw(VALUES)
        elif isinstance(table[name], dict):
            table[name][draw(st.sampled_from(["data_offsets", "dtype", "shape"]))] = draw(VALUES)
        text = json.dumps(draw(st.sampled_from([table, table, table, list(table), None, 7]))).encode()
        size = draw(st.sampled_from([len(text)] * 4 + [0, 2**63, len(text) + 8]))
        return struct.pack("<Q", size) + text + data[8 + length :]

    deep = st.integers(1, 10**5).map(lambda n: struct.pack("<Q", 2 * n) + b"[" * n + b"]" * n)

    def read(value: bytes) -> tuple[Said, Path]:
        weights.write_bytes(value)
        return verb("plan", study / "tiny.py", "--store", tmp_path / "store"), tmp_path

    fuzzed("safetensors", 100, 1500, crafted() | deep | spoiled(data), read)


# Images and statistics

SCORE = "score" if "score " in parser().format_usage() or ",score," in parser().format_usage() else "evaluate"


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
        found[name] = array.astype(draw(st.sampled_from(["i1", "f2", "f8", "c16", "?", "U3", "M8[s]", "O"])))
    elif way == "shape":
        found[name] = np.zeros(draw(st.lists(st.integers(0, 17), max_size=5)), array.dtype)
    elif way == "value" and array.dtype.kind == "f":
        found[name] = array * draw(st.sampled_from([np.nan, np.inf, -1.0, 1e300, 0.0]))
    elif way == "object":
        found[name] = np.array([{}, None], dtype=object)
    elif way == "flat":
        found[name] = array.reshape(-1)
    return npz(found)


def pair(folder: Path, samples: Path, reference: Path) -> tuple[Said, Path]:
    return verb(SCORE, "--samples", samples, "--reference", reference, "--extractor", "digits-cnn-1", "--json"), folder


@pytest.mark.parametrize("what", ["samples", "reference"])
def test_npz_files(what: str, study: Path, tmp_path: Path) -> None:
    whole = {"samples": study / "digits.npz", "reference": study / "reference.npz"}
    with np.load(whole[what]) as file:
        known = dict(file)
    path = tmp_path / "given.npz"

    def read(value: bytes) -> tuple[Said, Path]:
        path.write_bytes(value)
        said, folder = pair(tmp_path, **{**whole, what: path})
        if said.status == 0 and not all(np.isfinite(x) for x in json.loads(said.out).values() if isinstance(x, float)):
            return Said(None, "", f"Traceback (most recent: none): not finite: {said.out}"), folder
        return said, folder

    fuzzed(f"npz as {what}", 60, 800, arrays(known) | spoiled(npz(known)), read)


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
    except (OSError, KeyError, ValueError):  # Pillow cannot write it so, or was built without it
        data = pictured("PNG", sides, draw(st.sampled_from(["L", "RGB", "RGBA", "P", "1", "I;16"])) if mode == "L" else mode)
    return draw(spoiled(data))


def test_folders_of_images(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(pictured("PNG"))

    def read(value: bytes) -> tuple[Said, Path]:
        (folder / "x.png").write_bytes(value)
        return pair(tmp_path, folder, study / "reference.npz")

    fuzzed("images of a folder", 80, 800, pictures("L"), read)


@pytest.fixture
def encoding(tmp_path: Path, vae: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Said]:
    monkeypatch.setitem(DATASETS, "tiny", TINY)
    path = cluster_file(tmp_path, store=str(tmp_path / "store"), device="cpu", executor="local")
    with path.open("a") as file:
        file.write(f'[paths]\n"ft-mse" = {str(vae)!r}\n')

    def encode(images: Path) -> Said:
        out = tmp_path / "latents"
        shutil.rmtree(out, ignore_errors=True)
        return verb("encode", images, "--out", out, "--data", "tiny", "--shard", 5, "--cluster", path)

    return encode


def test_images_that_are_encoded(encoding: Callable[[Path], Said], tmp_path: Path) -> None:
    folder = tmp_path / "images" / "ant"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(pictured("PNG", (40, 40), "RGB"))

    def read(value: bytes) -> tuple[Said, Path]:
        (folder / "x.png").write_bytes(value)
        return encoding(folder.parent), tmp_path

    fuzzed("images encoded", 50, 600, pictures("RGB"), read)


@st.composite
def archives(draw: Draw) -> tuple[str, bytes]:
    """A zip or tar of class folders with strange names and members, spoiled or not."""
    file, image = io.BytesIO(), pictured("PNG", (40, 40), "RGB")
    names = ["ant/a.png", *draw(st.lists(st.sampled_from(
        ["../../x.png", "/etc/x.png", "bee//x.png", "./bee/x.png", "x.png", "bee/x.png", "é/x.png", "bee/sub/x.png"]
    ), max_size=3))]  # fmt: skip
    if kind := draw(st.booleans()):
        with zipfile.ZipFile(file, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as pack:
            for name in dict.fromkeys(names):
                pack.writestr(name, image)
    else:
        with tarfile.open(fileobj=file, mode="w") as pack_:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(image)
                member.type = draw(st.sampled_from([tarfile.REGTYPE] * 6 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]))
                member.linkname = "/etc/passwd"
                pack_.addfile(member, io.BytesIO(image))
    return "images.zip" if kind else "images.tar", draw(spoiled(file.getvalue()))


def test_archives_that_are_encoded(encoding: Callable[[Path], Said], tmp_path: Path) -> None:
    def read(value: tuple[str, bytes]) -> tuple[Said, Path]:
        path = tmp_path / value[0]
        path.write_bytes(value[1])
        return encoding(path), tmp_path

    fuzzed("archives encoded", 50, 600, archives(), read)


# Tables

CELLS = st.sampled_from(["", "x", "nan", "inf", "-1", "1e400", "0", "1e-300", "<b>", '"', "999999999999999999999"])


@st.composite
def tables(draw: Draw, text: str) -> bytes:
    """The table of a study with other cells, columns or rows, or spoiled bytes."""
    rows = [line.split(",") for line in text.splitlines()]
    way = draw(st.sampled_from(["cells", "cells", "column", "rows", "bytes", "final"]))
    if way == "bytes":
        return bytes(draw(spoiled(text.encode())))
    if way == "column":
        at = draw(st.integers(0, len(rows[0]) - 1))
        rows = [row[:at] + row[at + 1 :] for row in rows]
    elif way == "rows":
        rows = [rows[0], *draw(st.lists(st.sampled_from(rows[1:]), max_size=6))]
    elif way == "final":
        at = rows[0].index("step")
        rows = [row for row in rows if row[at] != "4"]
    else:
        for _ in range(draw(st.integers(1, 4))):
            row = draw(st.sampled_from(rows))
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
    return "\n".join(map(",".join, rows)).encode() + b"\n"


def of_many_models(text: str) -> str:
    """The same table for the twelve models of the paper, each with a score of its own."""
    head, *lines = [line.split(",") for line in text.splitlines()]
    at = {name: head.index(name) for name in ("run", "model", "size", "patch", "params", "gflops", "metric", "value")}
    lines = [line for line in lines if line[at["metric"]] == "fid" and line[at["model"]] == "mini-DiT-S/8"]
    made = [",".join(head)]
    for i, (size, patch) in enumerate((size, patch) for size in "S B L XL".split() for patch in (8, 4, 2)):
        own = {"run": f"r{i}", "model": f"DiT-{size}/{patch}", "size": size, "patch": str(patch), "params": f"{10 + i}000",
               "gflops": f"{1 + i}.5", "value": f"{100 - 7 * i + i % 3}.0", "metric": "fid"}  # fmt: skip
        names = {position: name for name, position in at.items()}
        made += [",".join(own[names[j]] if j in names else cell for j, cell in enumerate(line)) for line in lines]
    return "\n".join(made) + "\n"


def test_tables_that_are_predicted_from(study: Path, tmp_path: Path) -> None:
    text = of_many_models((study / "tiny.csv").read_text())
    (tmp_path / "tiny.csv").write_text(text)
    whole = verb("predict", study / "tiny.py", "--model", "DiT-XL/2", "--results", tmp_path)
    assert whole.status == 0, whole

    def read(value: bytes) -> tuple[Said, Path]:
        (tmp_path / "tiny.csv").write_bytes(value)
        return verb("predict", study / "tiny.py", "--model", "DiT-XL/2", "--results", tmp_path), tmp_path

    fuzzed("table of predict", 60, 350, tables(text), read)


@pytest.mark.chaos  # a page takes seconds
def test_tables_that_are_reported(study: Path, tmp_path: Path) -> None:
    text, out = (study / "tiny.csv").read_text(), tmp_path / "out"

    def read(value: bytes) -> tuple[Said, Path]:
        (tmp_path / "tiny.csv").write_bytes(value)
        words = ("--results", tmp_path, "--out", out, "--store", study / "store")
        return verb("report", study / "tiny.py", *words), tmp_path

    fuzzed("table of report", 20, 50, tables(text), read)
