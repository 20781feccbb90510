"""What scoring needs is checked before training, without torch, and named with its address."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_protocol, tiny_run, tiny_sweep
from huggingface_hub import constants

from harness.base.files import sha256
from harness.extractors import EXTRACTORS, INCEPTION, RELEASES
from harness.extractors.rows import hub_folder
from harness.models.decoders import PUBLISHED_DECODERS
from harness.spec import Protocol
from harness.study import digests
from harness.study.checks import problems
from harness.study.cluster import Cluster
from harness.study.digests import remembered_sha256
from harness.study.plan import missing
from harness.study.requirements import (
    cached,
    hub_cache,
    reference_path,
    scoring_problems,
)
from harness.study.store import Store

PAPER = Protocol(name="fid50k")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches."""
    for name in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def statistics(path: Path, side: int = 16, **change: Any) -> Path:
    """A reference of the digits extractor's widths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"mu": np.zeros(64), "sigma": np.eye(64), "mu_s": np.zeros(256)}
    arrays |= {"sigma_s": np.eye(256), "arr_0": np.zeros((4, side, side, 1), np.uint8)}
    np.savez(path, **arrays | change)
    return path


def test_a_folder_of_latents_is_no_reference_of_the_same_name(tmp_path: Path) -> None:
    cluster = Cluster(paths={"imagenet256": str(tmp_path)})
    store = Store(tmp_path)
    assert reference_path("imagenet256", cluster, store) == tmp_path / "references/imagenet256.npz"


def test_what_the_paper_needs_is_named_with_its_addresses(tmp_path: Path) -> None:
    decoder, inception, reference = scoring_problems([PAPER], Cluster(), Store(tmp_path))
    assert "hf download stabilityai/sd-vae-ft-mse fetches it; or set paths.ft-mse" in decoder
    assert f"put {RELEASES}/{INCEPTION} there" in inception
    assert "VIRTUAL_imagenet256_labeled.npz there, or make one with" in reference
    (original, *_) = scoring_problems(
        [Protocol(name="p", decoder="original")], Cluster(), Store(tmp_path)
    )
    assert "hf download CompVis/stable-diffusion-v1-4 --include 'vae/*' fetches it" in original


def test_the_embedded_digits_need_nothing(tmp_path: Path) -> None:
    assert scoring_problems([tiny_protocol()], Cluster(), Store(tmp_path), {16}) == []


def test_a_decoder_serves_from_a_folder_or_from_the_cache(vae: Path, tmp_path: Path) -> None:
    def found(cluster: Cluster, name: str = "ft-mse") -> bool:
        protocol = Protocol(name="p", decoder=name)
        first = scoring_problems([protocol], cluster, Store(tmp_path))[0]
        return not first.startswith("decoder")

    assert found(Cluster(paths={"ft-mse": str(vae)}))
    (tmp_path / "empty").mkdir()
    assert not found(Cluster(paths={"ft-mse": str(tmp_path / "empty")}))
    for name, published in PUBLISHED_DECODERS.items():
        repo = hub_cache() / f"models--{published.repo.replace('/', '--')}"
        folder = repo / "snapshots" / "0123" / published.subfolder
        folder.mkdir(parents=True)
        assert not found(Cluster(), name), "a download that was broken off"
        for file in vae.iterdir():
            (folder / file.name).symlink_to(file)
        assert found(Cluster(), name) and len(list(cached(name))) == 1


def test_caches_are_looked_for_where_their_libraries_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    for name in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"
    assert str(hub_cache()) == constants.HF_HUB_CACHE


def test_weights_that_are_not_the_published_ones_are_refused(
    random_inception: Path, tmp_path: Path
) -> None:
    cluster = Cluster(paths={"inception": str(random_inception)})
    found = scoring_problems([PAPER], cluster, Store(tmp_path))
    assert any("have SHA-256" in line and "not 6726825d: fetch https" in line for line in found)


def test_every_extractor_names_where_its_weights_are_published(tmp_path: Path) -> None:
    for name, row in EXTRACTORS.items():
        assert row.weights is not None
        if row.weights.folder is None:
            absent = row.problem(name)
            assert absent.startswith(f"no weights of {name} at {hub_folder()}")
            assert f"put {row.weights.source} there" in absent
            (tmp_path / "weights").write_bytes(b"others")
            other = row.problem(name, tmp_path / "weights")
            assert "have SHA-256 01db91d0, not" in other and row.weights.source in other
        else:
            assert row.problem(name) == ""


def test_the_digest_of_a_large_file_is_remembered_by_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "LARGE", 0)
    path = tmp_path / "weights"
    path.write_bytes(b"some")
    first = remembered_sha256(path)
    assert first == sha256(path)
    before = path.stat()
    path.write_bytes(b"same")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert remembered_sha256(path) == first, "it was read again"
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert remembered_sha256(path) == sha256(path) != first
    (note,) = (tmp_path / "cache" / "dit-scaling" / "digests").iterdir()
    note.write_bytes(note.read_bytes()[:20])
    assert remembered_sha256(path) == sha256(path), "a damaged note is no digest"
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    assert remembered_sha256(path) == sha256(path), "there is no folder for notes"


def test_only_inceptions_reference_is_adms(tmp_path: Path) -> None:
    """Statistics belong to an extractor: those of another are made, not fetched."""
    own = Protocol(name="p", features="dinov2-vitl14")
    line = scoring_problems([own], Cluster(), Store(tmp_path))[-1]
    assert "make one with harness reference --extractor dinov2-vitl14" in line
    assert "VIRTUAL" not in line


def test_an_extractor_fits_images_by_channels_and_side() -> None:
    fits = {
        shape: [name for name, row in EXTRACTORS.items() if row.fits(shape)]
        for shape in ((3, 256, 256), (1, 16, 16), (1, 28, 28), (1, 8, 12, 12))
    }
    colours = ["inception", "dinov2-vitl14", "clip-vitl14-336"]
    assert fits == {
        (3, 256, 256): colours,
        (1, 16, 16): ["digits-cnn-1"],
        (1, 28, 28): [],
        (1, 8, 12, 12): ["moving-digits-1"],
    }


def test_a_reference_is_looked_into(tmp_path: Path) -> None:
    store, protocol = Store(tmp_path), tiny_protocol(reference="mine")
    path = statistics(store.references() / "mine.npz")
    assert scoring_problems([protocol], Cluster(), store, {16}) == []
    assert (
        "16 pixels a side, the samples 32"
        in scoring_problems([protocol], Cluster(), store, {32})[0]
    )
    for change, fault in (
        ({"mu": np.full(64, np.nan)}, "64 numbers that are not finite"),
        ({"sigma": np.eye(32)}, "has shape (32, 32), digits-cnn-1 gives (64, 64)"),
        ({"arr_0": np.zeros((4, 16, 16, 1))}, "not uint8"),
    ):
        statistics(path, **change)
        (line,) = scoring_problems([protocol], Cluster(), store, {16})
        assert fault in line and str(path) in line
    path.write_bytes(path.read_bytes()[:1000])
    (line,) = scoring_problems([protocol], Cluster(), store, {16})
    assert "is not a whole npz" in line


def test_they_are_checked_with_the_data_and_the_memory(tmp_path: Path) -> None:
    sweep = tiny_sweep(runs=(tiny_run(),), protocols=(tiny_protocol(reference="nowhere"),))
    store = Store(tmp_path)
    (line,) = problems(sweep, missing(sweep, store), Cluster(store=str(tmp_path)))
    assert line.startswith(f"reference 'nowhere' is not at {tmp_path}/references/nowhere.npz")
