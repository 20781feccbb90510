"""Training on latents: posterior samples by position, and folders that do not fit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import TINY, autoencoder
from helpers import (
    apart,
    cluster_file,
    curve,
    do,
    ranks,
    refused,
    run_verb,
    tiny_run,
    tiny_sweep,
    train_all,
    written,
)
from safetensors.torch import load_file

from harness.base import rng
from harness.base.errors import UserError
from harness.base.files import read_json, read_lines, sha256, write_json
from harness.base.npz import image_shape
from harness.data import DATASETS, Data, open_dataset
from harness.data.encoded import Latents
from harness.data.index import (
    Index,
    checksums_path,
    index_path,
    labels_path,
    read_index,
    shard_path,
)
from harness.data.origin import read_origin
from harness.scoring.records import few_images
from harness.spec import Protocol, Run, Sweep
from harness.study.store import Store
from harness.study.tasks import Encode

pytestmark = pytest.mark.usefixtures("tiny")
CPU = torch.device("cpu")
STEPS = (20, 40)
PROTOCOL = Protocol(name="latent", images=5, sampling_steps=2, guidance=1.5)


def latent_run(**fields: Any) -> Run:
    return tiny_run(model="mini-DiT-S/4", data="tiny", **fields)


@pytest.fixture(scope="module")
def folder(pictures: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latents")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "tiny", TINY)
        do(
            Encode(str(pictures), str(out), "tiny", "ft-mse", 5),
            Store(out),
            paths={"ft-mse": str(vae)},
        )
    return out


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "latents"))


def moments(folder: Path) -> torch.Tensor:
    return torch.from_numpy(
        np.concatenate([np.load(shard_path(folder, i)) for i in range(3)])
    ).float()


def test_samples_follow_the_posterior_of_either_mirror_image(folder: Path) -> None:
    data, stored, draws = Latents("tiny", folder), moments(folder), 4000
    index = torch.full((draws,), 7)
    x, y = data.batch(index, 0, CPU, 0, 1)
    mirrored = rng.uniform(0, draws, "cpu", "mirror", 0, 1) < 0.5
    assert x.dtype == torch.float32 and x.shape == (draws, 4, 4, 4) and y.tolist() == [1] * draws
    assert abs(mirrored.float().mean() - 0.5) < 0.04
    for side in (0, 1):
        mean, deviation = stored[7, side] * 0.18215
        noise = (x[mirrored == bool(side)] - mean) / deviation
        assert noise.mean(0).abs().max() < 0.12 and (noise.std(0) - 1).abs().max() < 0.1


def test_a_sample_is_a_function_of_its_slot_and_the_step(folder: Path) -> None:
    data, index = Latents("tiny", folder), torch.tensor([0, 13, 4, 5, 9, 0])
    whole, labels = data.batch(index, 60, CPU, 3, 1)
    part, its = data.batch(index[2:5], 62, CPU, 3, 1)
    assert torch.equal(whole[2:5], part) and torch.equal(labels[2:5], its)
    assert labels.tolist() == np.load(labels_path(folder))[index].tolist()
    fresh, _ = data.batch(index, 60, CPU, 3, 2)
    assert not (fresh == whole).any() and not torch.equal(whole[0], whole[5])


def test_unreadable_rows_are_never_drawn(copy: Path) -> None:
    fields, bad = vars(read_index(copy)), (0, 3, 4, 13)
    fields["unreadable"] = [{"row": row, "name": "x", "fault": "y"} for row in bad]
    index_path(copy).write_text(json.dumps(fields))
    for row in bad:
        shard = np.load(shard_path(copy, row // 5), mmap_mode="r+")
        shard[row % 5] = np.nan
        shard.flush()
    data = Latents("tiny", copy)
    x, y = data.batch(torch.arange(10), 0, CPU, 0, 1)
    assert len(data) == 10 and x.isfinite().all()
    assert y.tolist() == np.delete(np.load(labels_path(copy)), bad).tolist()


def test_a_row_with_a_flipped_bit_is_refused_when_it_is_read_and_no_other(copy: Path) -> None:
    path = shard_path(copy, 1)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1  # of the mirror image of row 9
    path.write_bytes(damaged)
    data = Latents("tiny", copy)
    for row, mirrored in ((8, True), (9, False)):
        data.read(np.array([row]), np.array([mirrored]), pin=False)
    with pytest.raises(UserError, match=rf"{path} is damaged in row 4, or its 00001.crc.npy is"):
        data.read(np.array([0, 9]), np.array([True, True]), pin=False)
    checksums_path(copy, 1).unlink()
    Latents("tiny", copy).read(np.array([9]), np.array([True]), pin=False)  # as older latents


def test_a_folder_that_is_whole_opens(folder: Path) -> None:
    assert len(open_dataset("tiny", folder)) == 14


def changed(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = index_path(folder)
        path.write_text(json.dumps(read_json(path) | fields))

    return change


def mislabelled(folder: Path) -> None:
    labels = np.load(labels_path(folder))
    labels[5] = (labels[5] + 1) % 3
    np.save(labels_path(folder), labels)


def relabelled(folder: Path) -> None:
    labels = np.load(labels_path(folder))
    labels[5] = 3
    np.save(labels_path(folder), labels)
    entry = read_index(folder).labels | {"sha256": sha256(labels_path(folder))}
    changed(labels=entry)(folder)


def headless(folder: Path) -> None:
    data = bytearray(shard_path(folder, 1).read_bytes())
    data[10:14] = b"(((("
    shard_path(folder, 1).write_bytes(data)


def transposed(folder: Path) -> None:
    shard = np.load(shard_path(folder, 1))
    np.save(shard_path(folder, 1), shard.reshape(10, 1, *shard.shape[2:]))


def both(folder: Path) -> None:
    shard_path(folder, 0).unlink()
    os.truncate(shard_path(folder, 2), 1000)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda out: index_path(out).unlink(), "holds no index.json: run harness encode"),
        (lambda out: index_path(out).write_text("{"), "is not JSON"),
        (
            lambda out: index_path(out).write_text('{"schema": 1, "data": "tiny"}'),
            "is no index: .*rows",
        ),
        (
            changed(rows="14"),
            "is no index: delete it and run harness encode again: rows must be int",
        ),
        (changed(shards=3, scale=1), "scale must be float; shards must be list"),
        (changed(shard=0), "rows and shard must be at least 1"),
        (changed(scale=0.0), "scale must be finite and above 0"),
        (changed(scale=float("inf")), "Infinity is no number"),
        (changed(data="other"), "data must be one of .*tiny"),
        (changed(vae={"name": "ft-mse"}), "vae must hold name, encoder and digest"),
        (changed(shards=[{"file": "/etc/passwd"}] * 3), "shards must hold file, bytes and sha256"),
        (changed(labels={}), "labels must hold file, bytes and sha256 of labels.npy"),
        (changed(unreadable=[1]), "unreadable must hold row, name and fault of each image"),
        (
            changed(unreadable=[{"row": 14, "name": "x", "fault": "y"}]),
            "rows of unreadable must ascend below the number of rows",
        ),
        (changed(schema=2), "has schema 2, this version reads 1"),
        (changed(data="imagenet256"), "holds imagenet256, not tiny: fix paths.tiny"),
        (
            changed(shape=[2, 2, 4, 8, 8], crop="none"),
            r"shape is \[2, 2, 4, 8, 8\], must .*; crop is none, must be adm",
        ),
        (changed(rows=16), "shards is 3, must be 4: encode it again"),
        (changed(classes=["ant", "bee", "cat", "dog"]), "it has 4 classes, tiny has 3"),
        (
            both,
            r"00000.npy is not there: harness encode \S+ --out \S+ --data tiny .*;"
            r" .*00002.npy has 10",
        ),
        (relabelled, r"labels.npy holds int32 \(14,\) from 0 to 3, not 14 labels 0 … 2: delete it"),
        (
            mislabelled,
            r"labels.npy is damaged, its SHA-256 is not the index's: delete it, and harn",
        ),
        (
            headless,
            r"00001.npy is no shard \(its header is damaged: .*\): delete it, and harness en",
        ),
        (
            transposed,
            r"00001.npy is no shard \(it holds float16 \(10, 1, 2, 4, 4, 4\), not float16 \(5, 2",
        ),
    ],
)
def test_what_is_not_the_dataset_is_refused(
    spoil: Callable[[Path], None], fault: str, copy: Path
) -> None:
    spoil(copy)
    with pytest.raises(ValueError, match=fault) as error:
        open_dataset("tiny", copy)
    assert "\n" not in str(error.value)


def test_a_batch_larger_than_the_dataset_is_refused(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="batch_size = 15: tiny has 14 images"):
        latent_run(batch_size=15)
    monkeypatch.setitem(DATASETS, "tiny", replace(TINY, images=1000))
    large = tiny_sweep(steps=(2,), runs=(latent_run(batch_size=15),), protocols=())
    file = cluster_file(tmp_path, store=str(tmp_path / "store"))
    file.write_text(file.read_text() + f"[paths]\ntiny = '{folder}'\n")
    line = refused(capsys, "run", written(large, tmp_path), "--cluster", file)
    assert (
        f"batch_size = 15: {folder} has 14 images: choose a smaller batch, or encode more" in line
    )
    with pytest.raises(ValueError, match="has 14 images, fewer than a batch of 15"):
        train_all(large, Store(tmp_path / "other"), paths={"tiny": str(folder)})


def test_a_part_of_a_dataset_says_so_and_is_not_mixed_with_the_whole(
    folder: Path,
    copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(DATASETS, "tiny", replace(TINY, images=1000))
    store, (run,) = Store(tmp_path / "store"), sweep(2).runs
    train_all(sweep(2), store, paths={"tiny": str(folder)})
    assert read_json(store.data(run))["images"] == 14
    assert few_images(run, store) == [
        "trained on 14 of tiny's 1,000 images: results on them are not tiny's"
    ]
    file = cluster_file(tmp_path, store=str(store.root))
    file.write_text(file.read_text() + f"[paths]\ntiny = '{folder}'\n")
    assert (
        "holds 14 of tiny's 1,000 images"
        in run_verb(capsys, "plan", written(sweep(4), tmp_path), "--cluster", file)[1]
    )
    changed(listing="f" * 64)(copy)
    said = r"was begun on other images: digest = \w{64} in .*data.json, f{64} now: set paths.tiny"
    with pytest.raises(UserError, match=said):
        train_all(sweep(4), store, paths={"tiny": str(copy)})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"vae": {"name": "ft-mse", "encoder": "sd-v1", "digest": "f" * 64}},
            r"vae = \w+ in .* f+ ",
        ),
        ({"scale": 0.13025}, "scale = 0.18215 in .*data.json, 0.13025 now: set paths.tiny"),
    ],
)
def test_a_run_goes_on_with_latents_of_the_same_encoder_alone(
    fields: dict[str, Any], said: str, folder: Path, copy: Path, tmp_path: Path
) -> None:
    store, (run,) = Store(tmp_path / "store"), sweep(2).runs
    train_all(sweep(2), store, paths={"tiny": str(folder)})
    whole = read_json(store.data(run))
    assert whole.keys() == {"images", "digest", "vae", "scale", "crop"}
    changed(**fields)(copy)
    with pytest.raises(UserError, match=said):
        train_all(sweep(4), store, paths={"tiny": str(copy)})
    write_json(store.data(run), {key: whole[key] for key in ("images", "digest")})  # of before
    train_all(sweep(4), store, paths={"tiny": str(copy)})


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"images": 14}, "the fields digest"),
        ({"images": "14", "digest": "x"}, "images = '14' must be int, not str"),
        ({"images": 14, "digest": "x", "digets": "x"}, "the fields digets"),
    ],
)
def test_a_damaged_data_json_is_named(spoilt: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(spoilt))
    with pytest.raises(
        UserError, match=rf"data\.json does not .* \({said}.*\): .* delete it and run"
    ):
        read_origin(path)


def test_a_row_of_pixels_without_a_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "mnist16", Data(channels=1, size=16, classes=10))
    with pytest.raises(UserError, match=r"mnist16 has no path: harness encode IMAGES --out DIR"):
        open_dataset("mnist16")


def sweep(*steps: int, **fields: Any) -> Sweep:
    return tiny_sweep(steps=steps, runs=(latent_run(**fields),), protocols=())


@pytest.mark.parametrize("spoil", ["no path", "no folder", "another encoder"])
def test_nothing_starts_on_latents_that_do_not_fit(
    spoil: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tiny_sweep(runs=(latent_run(),), protocols=(PROTOCOL,)), tmp_path)
    given = {
        "no path": "",
        "no folder": f"tiny = '{tmp_path / 'x'}'",
        "another encoder": f"tiny = '{copy}'",
    }[spoil]
    faults = {
        "no path": "tiny has no path: harness encode IMAGES",
        "no folder": "x holds no index.json",
        "another encoder": "decoder 'ft-mse' belongs to the encoder sd-v1, the latents of tiny",
    }
    changed(vae={"name": "xl", "encoder": "sdxl", "digest": "0"})(copy)
    file = cluster_file(tmp_path, store=str(tmp_path / "store"))
    file.write_text(file.read_text() + f"[paths]\n{given}\n")
    for verb in ("run", "launch"):
        assert faults[spoil] in refused(capsys, verb, path, "--cluster", file)
    status, text, _ = run_verb(capsys, "plan", path, "--cluster", file)
    assert (
        status == 0
        and "never trained" in text
        and faults[spoil] in text.split("Before it can run: ")[1]
    )
    assert json.loads(run_verb(capsys, "plan", path, "--cluster", file, "--json")[1])["unfit"]
    assert not (tmp_path / "store" / "runs").exists()


def test_training_on_latents_resumes_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    once, twice, paths = Store(tmp_path / "once"), Store(tmp_path / "twice"), {"tiny": str(folder)}
    (run,) = sweep(*STEPS).runs
    train_all(sweep(*STEPS), once, paths=paths)
    for steps in (STEPS[:1], STEPS):
        train_all(sweep(*steps), twice, paths=paths)
    assert [read_lines(log)[0][0]["start"] for log in twice.logs(run)] == [0, 20]
    assert curve(once, run) == curve(twice, run) and len(curve(once, run)) == 40
    assert once.ema(run, 40).read_bytes() == twice.ema(run, 40).read_bytes()


RANK = """
import sys
sys.path.insert(0, "tests")
from drawings import register
register()
from helpers import *
run = tiny_run(model="mini-DiT-S/4", data="tiny", batch_size=8)
sweep = tiny_sweep(steps=(20,), runs=(run,), protocols=())
train_all(sweep, Store(Path(sys.argv[1])), paths={"tiny": sys.argv[2]})
"""


def test_the_number_of_processes_changes_nothing_but_rounding(folder: Path, tmp_path: Path) -> None:
    alone, shared = Store(tmp_path / "1"), Store(tmp_path / "2")
    (run,) = sweep(20).runs
    train_all(sweep(20), alone, paths={"tiny": str(folder)})
    ranks(2, RANK, shared.root, folder)
    for mine, its in zip(curve(shared, run), curve(alone, run), strict=True):
        assert mine == pytest.approx(its, rel=1e-4, abs=1e-5)
    weights, others = load_file(shared.ema(run, 20)), load_file(alone.ema(run, 20))
    assert max(apart(weights[name], others[name]) for name in others) < 1e-4


def test_from_images_to_decoded_samples(
    pictures: Path, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, npz = tmp_path / "latents", tmp_path / "samples.npz"
    cluster = cluster_file(tmp_path, store=str(tmp_path / "store"), device="cpu")
    cluster.write_text(cluster.read_text() + f"[paths]\ntiny = '{out}'\nft-mse = '{vae}'\n")
    at = ("--cluster", cluster)
    assert run_verb(capsys, "encode", pictures, "--out", out, "--data", "tiny", *at)[0] == 0
    study = written(tiny_sweep(steps=(20,), runs=(latent_run(),), protocols=()), tmp_path)
    status, text, err = run_verb(capsys, "run", study, *at)
    assert status == 0 and "1 of 1 tasks done" in text, err
    study = written(tiny_sweep(steps=(20,), runs=(latent_run(),), protocols=(PROTOCOL,)), tmp_path)
    assert run_verb(capsys, "sample", study, *at, "--run", "mini-DiT-S/4", "--out", npz)[0] == 0
    assert image_shape(npz) == (5, 32, 3)
    cluster.write_text(
        cluster.read_text().replace(str(vae), str(autoencoder(tmp_path / "other", seed=1)))
    )
    status, _, err = run_verb(capsys, "sample", study, *at, "--run", "mini-DiT-S/4", "--out", npz)
    assert status == 1 and "decoder 'ft-mse' has encoder" in err


def test_the_index_says_what_it_holds(folder: Path) -> None:
    index: Index = read_index(folder)
    assert (
        index.made["versions"]["torch"] == torch.__version__
        and index.source
        and index.crop == "adm"
    )
    assert [part["bytes"] for part in index.shards] == [
        shard_path(folder, i).stat().st_size for i in range(3)
    ]
