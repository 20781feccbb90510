"""Clips from data to score: the law of motion, and which metric sees which corruption of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import (
    curve,
    run_verb,
    score_all,
    tiny_protocol,
    tiny_run,
    tiny_sweep,
    train_all,
    written,
)
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from harness.base.files import read_json, sha256
from harness.base.motion import FRAMES
from harness.data import DATASETS, open_dataset, open_held_out
from harness.data.clips import WAYS, MovingDigits, load, places
from harness.extractors import EXTRACTORS, digits_cnn
from harness.extractors.moving_digits import FROZEN, LAYERS, build
from harness.metrics.motion import deviation
from harness.metrics.reference import Features, Reference
from harness.metrics.values import values
from harness.models.autoencoder import to_uint8
from harness.scoring import features, reference
from harness.scoring.make_clips import accuracy
from harness.scoring.picture import strips
from harness.study.samples import read_preview
from harness.study.store import Store

NAMES = ("fid", "frame_fid", "motion_error", "speed_distance", "label_accuracy")
N = 1000
LAWFUL = ("real", "reversed")


Scores = dict[str, dict[str, float]]


def shuffled(clips: Tensor) -> Tensor:
    """Every clip's frames in an order of its own."""
    order = torch.rand(len(clips), FRAMES, generator=torch.Generator().manual_seed(0)).argsort(1)
    return clips[torch.arange(len(clips))[:, None], :, order].movedim(1, 2)


def frozen(clips: Tensor) -> Tensor:
    """The first frame all along."""
    return clips[:, :, :1].expand(-1, -1, FRAMES, -1, -1)


def turned_back(clips: Tensor) -> Tensor:
    """The second half played backwards."""
    half = FRAMES // 2
    return torch.cat([clips[:, :, :half], clips[:, :, half:].flip(2)], dim=2)


def jittered(clips: Tensor) -> Tensor:
    """Every frame moved by a pixel or none, up or down and sideways; ink may leave the picture."""
    draw = torch.Generator().manual_seed(0)
    moves = torch.randint(-1, 2, (len(clips), FRAMES, 2), generator=draw)
    padded = torch.nn.functional.pad(clips, [1] * 4)
    line = torch.arange(clips.shape[-1]) + 1 - moves[..., None]
    each = torch.arange(len(clips))[:, None, None, None]
    frame = torch.arange(FRAMES)[:, None, None]
    return padded[each, 0, frame, line[:, :, 0, :, None], line[:, :, 1, None, :]][:, None]


CORRUPTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "real": lambda clips: clips,
    "reversed": lambda clips: clips.flip(2),
    "shuffled": shuffled,
    "frozen": frozen,
    "turned back": turned_back,
    "jittered": jittered,
}


@pytest.fixture(scope="module")
def extractor() -> features.Loaded:
    return features.load("moving-digits-1")


@pytest.fixture(scope="module")
def target(extractor: features.Loaded) -> Reference:
    return reference.from_images("moving-digits", to_uint8(load()[0][::2]).split(512), extractor)


@pytest.fixture(scope="module")
def scores(extractor: features.Loaded, target: Reference) -> Scores:
    """Other real clips than the reference's, whole and corrupted."""
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(1))[:N]
    clips, labels = (x[order] for x in load(first=36))

    def measured(corrupt: Callable[[Tensor], Tensor]) -> dict[str, float]:
        found: Features = features.extract(corrupt(to_uint8(clips)).split(512), extractor)
        return values(found | {"labels": labels[:, None]}, target, NAMES)

    return {name: measured(corrupt) for name, corrupt in CORRUPTIONS.items()}


def test_the_features_of_motion_see_every_broken_motion(scores: Scores) -> None:
    broken = {name: score["fid"] for name, score in scores.items() if name not in LAWFUL}
    assert scores["real"]["fid"] < 0.25 * min(broken.values())


def test_the_features_of_frames_see_no_motion(scores: Scores) -> None:
    """Frames are the same in another order; the first frames alone are fewer digits' worth."""
    real = scores["real"]["frame_fid"]
    for name in ("reversed", "shuffled", "turned back"):
        assert scores[name]["frame_fid"] == pytest.approx(real, rel=1e-6)
    assert scores["frozen"]["frame_fid"] < 1.2 * real
    assert scores["jittered"]["frame_fid"] > 1.1 * real, "ink that leaves the picture is missed"


def test_the_law_of_motion_is_kept_by_real_clips_alone(scores: Scores) -> None:
    for name, score in scores.items():
        lawful = name in LAWFUL
        assert score["motion_error"] < 0.01 if lawful else score["motion_error"] > 1
        assert (score["speed_distance"] < 0.05) == lawful
        assert score["label_accuracy"] > 0.98


def test_a_motion_played_backwards_is_as_lawful(scores: Scores) -> None:
    """Constant speed and reflection have no direction of time: no metric may see it."""
    ways = places(torch.arange(WAYS))
    every = {tuple(way.flatten().tolist()) for way in ways}
    assert len(every) == WAYS == 256
    assert every == {tuple(way.flatten().tolist()) for way in ways.flip(2)}
    assert scores["reversed"]["fid"] == pytest.approx(scores["real"]["fid"], abs=4)


def test_deviation_is_measured_in_pixels() -> None:
    track = places(torch.arange(WAYS)).transpose(1, 2).double() + torch.tensor([3.2, 4.1])
    assert float(deviation(track).max()) < 1e-6
    moved = track.clone()
    moved[:, 3, 0] += 0.8
    spread = 0.8 * (7 / 8 / 8) ** 0.5  # about the mean, which a way is compared without
    assert torch.allclose(deviation(moved), torch.full((WAYS,), spread, dtype=torch.float64))


def test_a_clip_is_a_function_of_its_index() -> None:
    data = open_dataset("moving-digits")
    assert len(data) == DATASETS["moving-digits"].images == 1437 * WAYS
    index = torch.tensor([0, 5, 1437 * 7 + 5, len(data) - 1])
    clips, labels = data.batch(index, 0, torch.device("cpu"), "any")
    assert clips.shape == (4, 1, 8, 12, 12) == (4, *DATASETS["moving-digits"].shape)
    alone, label = data.batch(index[2:3], 9, torch.device("cpu"), "other")
    assert torch.equal(alone[0], clips[2]) and label[0] == labels[2] == labels[1]
    corners = places(torch.tensor([7]))[0]
    box = clips[2, 0, 4, corners[0, 4] :, corners[1, 4] :][:8, :8]
    still = clips[1, 0, 0, places(torch.tensor([0]))[0, 0, 0] :][:8, :8]
    assert torch.equal(box, still), "the digit is the same wherever it goes"
    assert int((clips > -1).sum(dim=(1, 3, 4)).unique(dim=1).shape[1]) == 1, "ink is kept"


def test_held_out_clips_are_of_other_digits() -> None:
    held_out = open_held_out("moving-digits")
    assert len(held_out) == DATASETS["moving-digits"].held_out == 360 * WAYS
    shown = {x.numpy().tobytes() for x in MovingDigits(held_out=True).padded}
    assert not shown & {x.numpy().tobytes() for x in MovingDigits().padded}
    assert held_out.origin != open_dataset("moving-digits").origin


def test_the_extractor_is_the_one_of_the_table(extractor: features.Loaded) -> None:
    row = EXTRACTORS["moving-digits-1"]
    assert row.weights and row.weights.path() == FROZEN
    assert extractor.digest == row.weights.digest == sha256(FROZEN)
    assert row.layers == LAYERS and FROZEN.stat().st_size < 300_000
    held = load_file(FROZEN)
    for name, x in load_file(digits_cnn.FROZEN).items():
        assert torch.equal(held[f"frames.{name}"], x), "frames are seen by digits-cnn-1"
    network = build(FROZEN)
    digit, place = accuracy(network.motion, MovingDigits(held_out=True), 2000)
    assert digit > 0.93 and place > 0.95
    with pytest.raises(ValueError, match=r"reads uint8 images \[N, 1, 8, H, W\], not torch.uint8"):
        extractor(torch.zeros(2, 1, 12, 12, dtype=torch.uint8))


RUN = tiny_run(model="digit-video-DiT-L/4x4", data="moving-digits", variant="factorised")
PROTOCOL = tiny_protocol(features="moving-digits-1", reference="moving-digits")


def test_clips_are_trained_resumed_sampled_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bit for bit the same after a stop; previews and pictures are strips of frames."""
    once, twice = Store(tmp_path / "once"), Store(tmp_path / "twice")
    sweep = tiny_sweep(runs=RUN, steps=(2, 4), protocols={PROTOCOL: 4})
    train_all(sweep, once)
    train_all(tiny_sweep(runs=RUN, steps=2, protocols=()), twice)
    train_all(sweep, twice)
    assert len(twice.logs(RUN)) == 2 and curve(twice, RUN) == curve(once, RUN)
    assert once.ema(RUN, 4).read_bytes() == twice.ema(RUN, 4).read_bytes()
    score_all(sweep, once)
    found = read_json(once.record(RUN, 4, PROTOCOL))["values"]
    assert {"fid", "frame_fid", "motion_error", "speed_distance", "label_accuracy"} <= {*found}
    assert read_preview(once.preview(RUN, 4, PROTOCOL))["images"].shape == (2, 12, 8 * 12, 1)
    out, png = tmp_path / "clips.npz", tmp_path / "clips.png"
    words = ("sample", written(sweep, tmp_path), "--store", once.root, "--device", "cpu")
    assert run_verb(capsys, *words, "--out", out)[0] == 0
    assert run_verb(capsys, *words, "--png", png)[0] == 0
    assert Image.open(png).size[0] > 8 * 12 * 5
    seen = ("--extractor", "moving-digits-1")
    made = tmp_path / "reference.npz"
    assert run_verb(capsys, "reference", "--images", out, "--out", made, *seen)[0] == 0
    status, text, _ = run_verb(capsys, "score", "--samples", out, "--reference", made, *seen)
    assert status == 0 and "motion_error" in text


def test_strips_show_frames_in_their_order() -> None:
    clips = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 1, 3, 4, 4)
    shown = strips(clips)
    assert shown.shape == (2, 1, 4, 12)
    assert all(torch.equal(shown[..., 4 * f : 4 * f + 4], clips[:, :, f]) for f in range(3))
    assert strips(shown) is shown


def test_images_and_clips_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="it takes images, these are clips"):
        tiny_run(data="moving-digits")
    with pytest.raises(ValueError, match="'digits-cnn-1' do not see moving-digits: set it to 'mo"):
        tiny_sweep(runs=RUN, protocols=tiny_protocol())
