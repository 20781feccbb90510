"""Encoding: right to the number, never twice, nothing half-written; misfits refused first."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import TINY, autoencoder
from helpers import do, ranks, refused, run_verb, tree
from PIL import Image

from harness.base.distributed import Interrupted, Stop, stop_on_signal
from harness.base.errors import UserError, as_user_error
from harness.base.files import read_json, read_lines
from harness.base.locks import claim
from harness.data import DATASETS, Data
from harness.data.index import index_path, note_path, read_index, shard_path
from harness.encoding.images import center_crop
from harness.encoding.shards import Batch, write_shard
from harness.launch.perform import perform
from harness.models.autoencoder import encoder_digest, load_vae
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Encode, from_json, to_json

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def task(pictures: Path, tmp_path: Path) -> Encode:
    return Encode(str(pictures), str(tmp_path / "latents"), "tiny", "ft-mse", 5)


def encode(task: Encode, vae: Path, **cluster: Any) -> list[str]:
    return do(task, Store(Path(task.out).parent / "store"), paths={"ft-mse": str(vae)}, **cluster)


def rows(folder: Path) -> np.ndarray[Any, Any]:
    return np.concatenate(
        [np.load(shard_path(folder, i)) for i in range(len(read_index(folder).shards))]
    )


def unchanged(folder: Path) -> tuple[int, int]:
    """What writing the first shard again would change."""
    stat = shard_path(folder, 0).stat()
    return stat.st_ino, stat.st_mtime_ns


def written(folder: Path) -> dict[str, bytes]:
    """The shards that are there."""
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").glob("?????.npy"))}


@pytest.fixture(scope="module")
def undisturbed(pictures: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "latents"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "tiny", TINY)
        encode(Encode(str(pictures), str(out), "tiny", "ft-mse", 5), vae)
    return out


@torch.no_grad()
def test_both_mirror_images_are_what_the_vae_makes_of_them(
    undisturbed: Path, pictures: Path, vae: Path
) -> None:
    net, found, index = load_vae("ft-mse", vae), rows(undisturbed), read_index(undisturbed)
    names = sorted(str(path.relative_to(pictures)) for path in pictures.glob("*/*"))
    for name, row in zip(names, found, strict=True):
        pixels = (
            torch.from_numpy(center_crop(Image.open(pictures / name), 32).copy()).permute(2, 0, 1)
            / 127.5
            - 1
        )
        for x, (mean, deviation) in zip(
            (pixels, pixels.flip(-1)), torch.from_numpy(row).float(), strict=True
        ):
            posterior = net.encode(x[None]).latent_dist
            assert torch.allclose(posterior.mean[0], mean, atol=2e-3, rtol=2e-3)
            assert torch.allclose(posterior.std[0], deviation, atol=2e-3, rtol=2e-3)
    assert found.dtype == np.float16 and found.shape == (14, 2, 2, 4, 4, 4)
    labels = np.load(undisturbed / index.labels["file"])
    assert [index.classes[y] for y in labels] == [name.split("/")[0] for name in names]
    assert (
        index.scale == 0.18215 and index.vae["digest"] == encoder_digest(net) and index.count == 14
    )


def test_the_digest_is_of_the_encoder_alone(vae: Path, tmp_path: Path) -> None:
    net, other = load_vae("ft-mse", vae), load_vae("ft-mse", autoencoder(tmp_path, seed=1))
    other.encoder.load_state_dict(net.encoder.state_dict())
    other.quant_conv.load_state_dict(net.quant_conv.state_dict())
    assert encoder_digest(other) == encoder_digest(net)
    other.quant_conv.bias += 1e-3
    assert encoder_digest(other) != encoder_digest(net)


def test_what_is_lost_is_made_again_and_nothing_else(
    task: Encode, undisturbed: Path, vae: Path
) -> None:
    out = Path(shutil.copytree(undisturbed, task.out))
    whole, kept = written(out), unchanged(out)
    shard_path(out, 1).unlink()
    shard_path(out, 2).write_bytes(whole["00002.npy"][:-1])
    (out / "shards" / ".00002.npy.123").write_bytes(b"of a killed writer")
    encode(task, vae)
    assert written(out) == whole and unchanged(out) == kept
    assert {name for name in tree(out) if "/." in name} == set() and task.is_done(Store(out))
    now = index_path(out).stat().st_mtime_ns
    encode(task, vae)
    assert index_path(out).stat().st_mtime_ns == now, "asked twice, done once"


def test_a_signal_keeps_whole_shards_and_the_next_goes_on(
    task: Encode, undisturbed: Path, vae: Path
) -> None:
    out, cluster = Path(task.out), Cluster(device="cpu", paths={"ft-mse": str(vae)})

    def stop(line: str, share: float) -> None:  # the first line comes with the first shard
        os.kill(os.getpid(), signal.SIGUSR2)

    with (
        pytest.raises(Interrupted, match="run the same command to continue"),
        stop_on_signal() as flag,
    ):
        perform(task, Store(out), cluster, stop, flag)
    assert set(tree(out)) == {
        "encode.lock",
        "shards",
        *(f"shards/00000.{kind}" for kind in ("npy", "crc.npy", "json")),
    }
    assert task.position(Store(out)) == 1
    kept = unchanged(out)
    encode(task, vae)
    assert written(out) == written(undisturbed) and unchanged(out) == kept


def test_a_signal_within_a_shard_leaves_nothing_of_it(tmp_path: Path) -> None:
    stop, rows = Stop(), np.zeros((2, 2, 2, 4, 4, 4), np.float16)

    def batches() -> Iterator[Batch]:
        yield Batch(rows, {})
        stop.signals.append(signal.SIGUSR2)
        yield Batch(rows, {})

    made = {"dtype": "float16", "shape": [2, 2, 4, 4, 4]}
    with pytest.raises(Interrupted):
        write_shard(tmp_path, 0, range(6), batches(), made, stop, lambda share: None)
    assert tree(tmp_path) == {"shards"}


@pytest.mark.parametrize(
    "fields",
    [
        {"unreadable": [{"row": 1}]},
        {"unreadable": [{"row": 99, "fault": "x"}]},
        {"unreadable": "none"},
        {"made": []},
        {"bytes": "2176"},
        {"sha256": None},
    ],
)
def test_a_damaged_note_is_named(
    fields: dict[str, Any], task: Encode, undisturbed: Path, vae: Path
) -> None:
    out = Path(shutil.copytree(undisturbed, task.out))
    index_path(out).unlink()
    note = note_path(out, 1)
    note.write_text(json.dumps(read_json(note) | fields))
    with pytest.raises(UserError, match=f"{note} is no note of a shard: delete it and run the"):
        encode(task, vae)
    note.unlink()
    encode(task, vae)
    assert written(out) == written(undisturbed)


def test_leftovers_of_killed_writers_are_removed_and_other_files_kept(
    task: Encode, undisturbed: Path, vae: Path
) -> None:
    out = Path(shutil.copytree(undisturbed, task.out))
    index_path(out).unlink()
    for name in (".index.json.123", ".labels.npy.123", "shards/.00000.npy.123"):
        (out / name).write_bytes(b"of a killed writer")
    (out / ".gitignore").write_text("of a user")
    encode(task, vae)
    assert {name for name in tree(out) if "/." in f"/{name}"} == {".gitignore"}


RANK = """
import sys
sys.path.insert(0, "tests")
from drawings import register
from helpers import Path, Store, do
from harness.study.tasks import Encode
register()
source, out, vae = sys.argv[1:]
do(Encode(source, out, "tiny", "ft-mse", 5), Store(Path(out)), paths={"ft-mse": vae})
"""


def test_ranks_share_the_shards(task: Encode, undisturbed: Path, vae: Path) -> None:
    ranks(2, RANK, task.source, task.out, vae)
    mine, its = (read_json(index_path(Path(path))) for path in (task.out, undisturbed))
    assert written(Path(task.out)) == written(undisturbed) and {**mine, "made": 0} == {
        **its,
        "made": 0,
    }


def test_a_shard_of_another_vae_is_noticed(task: Encode, undisturbed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(undisturbed, task.out))
    shard_path(out, 1).unlink()
    with pytest.raises(
        ValueError, match=r"00000.npy was made with \{'vae': .*choose another --out"
    ):
        encode(task, autoencoder(tmp_path / "vae", seed=1))
    assert set(written(out)) == {"00000.npy", "00002.npy"}
    shutil.copy(shard_path(undisturbed, 1), shard_path(out, 1))
    with pytest.raises(ValueError, match=r"holds \(data, VAE, shard\) = .*choose another --out"):
        encode(replace(task, shard=7), tmp_path / "vae")


@pytest.mark.parametrize(
    ("fields", "network", "fault"),
    [
        ({"classes": 2}, {}, r"has 3 classes, tiny has 2: a class is a folder right below it"),
        ({"size": 8}, {}, r"makes 4 × 4 × 4 of 32 pixels, tiny has 4 × 8 × 8: set paths.ft-mse"),
        ({}, {"latent_channels": 16}, r"makes 16 × 4 × 4 of 32 pixels, tiny has 4 × 4 × 4"),
        ({}, None, r"VAE 'ft-mse' is not at .*set paths.ft-mse in the cluster file"),
    ],
)
def test_what_does_not_fit_is_refused_first(
    fields: dict[str, int],
    network: dict[str, Any] | None,
    fault: str,
    task: Encode,
    vae: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DATASETS, "tiny", Data(**vars(TINY) | fields))
    path = (
        tmp_path / "other"
        if network is None
        else autoencoder(tmp_path / "vae", **network)
        if network
        else vae
    )
    with pytest.raises(ValueError, match=fault) as error:
        encode(task, path)
    assert "\n" not in str(error.value) and tree(Path(task.out)) <= {"encode.lock"}


def test_broken_weights_are_refused(task: Encode, vae: Path, tmp_path: Path) -> None:
    broken = load_vae("ft-mse", vae)
    broken.quant_conv.bias.fill_(torch.nan)
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(UserError, match="numbers that are not finite"):
        encode(task, tmp_path / "broken")
    assert written(Path(task.out)) == {}


def test_unreadable_images_are_left_out_and_listed(
    task: Encode, undisturbed: Path, vae: Path, tmp_path: Path
) -> None:
    source = tmp_path / "images"
    shutil.copytree(task.source, source)
    names = sorted(str(path.relative_to(source)) for path in source.glob("*/*"))
    (source / names[3]).write_bytes(b"")
    (source / names[13]).write_bytes((source / names[13]).read_bytes()[:100])
    task, out = replace(task, source=str(source)), Path(task.out)
    with pytest.raises(
        ValueError,
        match=rf"2 images were unreadable .* lists all: {names[3]} \(in 00000.npy\): .*fix them",
    ):
        encode(task, vae)
    index, found = read_index(out), rows(out)
    assert [(x["row"], x["name"]) for x in index.unreadable] == [
        (3, names[3]),
        (13, names[13]),
    ] and index.count == 12
    bad = np.isnan(found.reshape(14, -1))
    assert np.flatnonzero(bad.any(1)).tolist() == np.flatnonzero(bad.all(1)).tolist() == [3, 13]
    assert np.abs(found[:3].astype(float) - rows(undisturbed)[:3]).max() < 2e-3

    # Mended, and its shard deleted.
    shutil.copy(source / names[4], source / names[3])
    shard_path(out, 0).unlink()
    with pytest.raises(ValueError, match="1 images were unreadable"):
        encode(task, vae)
    assert read_index(out).count == 13


def test_a_disk_that_fills_half_way_keeps_whole_shards(
    task: Encode, mount: Callable[[str], Path], vae: Path
) -> None:
    disk = mount("size=300k")
    task, filler = replace(task, out=str(disk / "latents"), shard=1), disk / "filler"

    def fill(news: str, share: float) -> None:
        if share > 0.3:  # another user's
            with pytest.raises(OSError, match="No space"):
                filler.write_bytes(b"x" * 300_000)

    cluster = Cluster(device="cpu", paths={"ft-mse": str(vae)})
    with pytest.raises(OSError, match=str(disk)) as error:
        perform(task, Store(disk), cluster, fill, Stop())
    assert "free some space and run the same command again" in str(as_user_error(error.value))
    kept = len(written(Path(task.out)))
    assert 0 < kept < 14 and not [name for name in tree(disk) if "/." in name]
    filler.unlink()
    assert len(encode(task, vae)) == 14 - kept and read_index(Path(task.out)).count == 14


def test_a_disk_that_is_too_small_is_refused_first(
    task: Encode, vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 14 * 2 * 2 * 64 * 2 - 1})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"has 0.0 GB free, the latents need 0.0"):
        encode(task, vae)
    assert written(Path(task.out)) == {}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda out: flip(shard_path(out, 1)),
            "00001.npy is damaged, .*: delete it, and harness encode .*makes it again",
        ),
        (lambda out: flip(out / "labels.npy"), r"labels.npy is damaged"),
        (lambda out: shard_path(out, 0).unlink(), "00000.npy is not there: harness encode"),
        (
            lambda out: os.truncate(shard_path(out, 2), 99),
            "00002.npy has 99 bytes, not 2176: harness encode",
        ),
    ],
)
def test_verify_reads_every_byte(
    spoil: Callable[[Path], None],
    fault: str,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Path(shutil.copytree(undisturbed, tmp_path / "latents"))
    status, said, _ = run_verb(capsys, "encode", out, "--verify")
    assert status == 0 and "4 files are whole: 14 images of tiny" in said
    spoil(out)
    status, said, err = run_verb(capsys, "encode", out, "--verify")
    assert status == 1 and said == "" and re.search(fault, err) and "Traceback" not in err


def words(task: Encode, folder: Path, vae: Path, executor: str) -> list[object]:
    paths = f'executor = "{executor}"\nstore = "{folder}/store"\n[paths]\nft-mse = "{vae}"\n'
    (folder / "cluster.toml").write_text(paths)
    given = ["encode", task.source, "--out", task.out, "--data", "tiny", "--shard", 5]
    return [*given, "--cluster", folder / "cluster.toml"]


def test_the_verb_encodes_here_with_a_bar(
    task: Encode, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(task, tmp_path, vae, "local")
    status, said, bar = run_verb(capsys, *command)
    assert status == 0 and "latents: 14 images; name it as paths.tiny" in said and "100%" in bar
    assert run_verb(capsys, *command)[1:] == (said, ""), "asked twice, done once"
    with claim(Path(task.out) / "encode.lock"):
        shard_path(Path(task.out), 0).unlink()
        status, _, err = run_verb(capsys, *command)
    assert status == 1 and "is locked by another process" in err


def test_the_verb_submits_once(
    task: Encode, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(task, tmp_path, vae, "debug")
    status, said, _ = run_verb(capsys, *command)
    assert (
        status == 0
        and "1 jobs submitted, 0 already queued or running; harness logs encode-tiny" in said
    )
    assert read_index(Path(task.out)).count == 14
    status, said, _ = run_verb(capsys, *command)
    assert status == 0 and "14 images; name it" in said
    lines, _ = read_lines(tmp_path / "store" / "jobs.jsonl")
    assert [line["task"] for line in lines] == [task.id]
    assert from_json(json.loads(json.dumps(to_json(task)))) == task


def test_all_mistakes_of_the_command_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(
        capsys, "encode", tmp_path / "absent", "--data", "digits", "--vae", "identity", "--shard", 0
    )
    for fault in (
        "--data digits is unknown",
        "--vae identity is unknown",
        "--shard 0 must be at least 1",
        "--out DIR is missing",
        "does not exist: give a folder or an archive",
    ):
        assert fault in line
