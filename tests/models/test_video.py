"""DiT on clips: published counts, the image model as its case of one frame, and what attends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import apart
from networks import awake, built, inputs, saved_bytes

from harness.models import MODELS, Setting, flops
from harness.models.rows import Counts, loss_bytes

CLIPS = Setting((1, 8, 12, 12), 10, 2)
FACTORISED = replace(CLIPS, variant="factorised")
SMALL = [
    ("digit-video-DiT-L/1x4", CLIPS),
    ("digit-video-DiT-S/4x4", CLIPS),
    ("digit-video-DiT-XL/2x4", FACTORISED),
]
# Gflops of 16 latent frames of 32²: joint attention on tubes of 1, 2 and 4 frames; and Latte's
# parameters and Gflops, of its code on tubes of 1 frame and by the same formula on tubes of 2: it
# modulates every frame and place anew.
JOINT = {
    "S": (241.8, 82.3, 31.5),
    "B": (657.6, 251.6, 106.6),
    "L": (2062.8, 825.4, 361.3),
    "XL": (2910.3, 1184.8, 525.0),
}
LATTE = {
    "S": (32.62, 93.79, 47.5),
    "B": (129.83, 364.42, 184.9),
    "L": (457.20, 1285.9, 652.3),
    "XL": (674.11, 1894.0, 960.9),
}


@pytest.mark.parametrize("size", JOINT)
def test_joint_attention_has_the_published_gflops(size: str) -> None:
    setting = Setting((4, 16, 32, 32), 1000, 2)
    for tube, gflops in zip((1, 2, 4), JOINT[size], strict=True):
        found = MODELS[f"video-DiT-{size}/{tube}x2"].counts(setting)
        assert found and found.macs / 1e9 == pytest.approx(gflops, abs=0.05)


@pytest.mark.parametrize("size", LATTE)
def test_the_factorised_model_is_latte_with_its_modulation_made_once(size: str) -> None:
    setting = Setting((4, 16, 32, 32), 101, 2, variant="factorised")
    parameters, *published = LATTE[size]
    for tube, gflops in zip((1, 2), published, strict=True):
        row: Any = MODELS[f"video-DiT-{size}/{tube}x2"]
        found, others = row.counts(setting), row.tubes(setting) - 1
        again = row.depth // 2 * (others + 255) * 6 + others * 2  # modulations, in d²
        assert (found.macs + again * row.width**2) / 1e9 == pytest.approx(gflops, abs=0.05)
    with torch.device("meta"):
        net = MODELS[f"video-DiT-{size}/1x2"].build(setting)
    held = sum(p.numel() for p in net.parameters())
    found = MODELS[f"video-DiT-{size}/1x2"].counts(setting)
    assert found and found.parameters == held
    assert held / 1e6 == pytest.approx(parameters, abs=0.005)


@pytest.mark.parametrize(("name", "setting"), SMALL)
def test_the_closed_form_is_fvcores_count(name: str, setting: Setting) -> None:
    net = built(name, setting)
    held = sum(p.numel() for p in net.parameters())
    counted = Counts(flops.macs(net, setting.shape)["total"], held)
    assert MODELS[name].counts(setting) == counted


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_clip_of_one_frame_is_an_image_bit_for_bit(outputs: int) -> None:
    image, clip = Setting((3, 8, 8), 10, outputs), Setting((3, 1, 8, 8), 10, outputs)
    given, net = inputs(image), awake(built("digit-DiT-L/2", image))
    video = built("digit-video-DiT-L/1x2", clip)
    fresh = built("digit-DiT-L/2", image).state_dict()
    assert all(torch.equal(x, fresh[key]) for key, x in video.state_dict().items() if key in fresh)
    assert not video.temp_embed.any()
    video.load_state_dict(net.state_dict() | {"temp_embed": video.temp_embed})
    x, t, y = given
    moving = video(x[:, :, None], t, y)
    assert moving.shape == (3, 3 * outputs, 1, 8, 8) and torch.equal(moving[:, :, 0], net(*given))
    for each in (net, video):
        each.zero_grad()
    net(*given).square().sum().backward()
    video(x[:, :, None], t, y).square().sum().backward()
    grads = {name: p.grad for name, p in video.named_parameters() if p.grad is not None}
    assert all(torch.equal(grads[n], p.grad) for n, p in net.named_parameters() if n in grads)


@pytest.mark.parametrize(("name", "setting"), SMALL)
def test_it_listens_to_timestep_label_and_every_frame(name: str, setting: Setting) -> None:
    net, (x, t, y) = awake(built(name, setting)), inputs(setting)
    out = net(x, t, y)
    assert out.shape == (3, 2, 8, 12, 12)
    assert apart(net(x, (t + 500) % 1000, y), out) > 1e-4
    assert apart(net(x, t, (y + 1) % 10), out) > 1e-4
    assert apart(net(x[:1], t[:1], y[:1]), out[:1]) < 1e-5
    later = x.clone()
    later[:, :, -1] += 1
    assert apart(net(later, t, y)[:, :, 0], out[:, :, 0]) > 1e-5
    turned = net(x.flip(2), t, y).flip(2)
    assert apart(turned, out) > 1e-4, "frames have positions in time"


def test_factorised_attention_looks_within_a_frame_then_along_time() -> None:
    net = awake(built("digit-video-DiT-L/1x4", FACTORISED))
    x = torch.randn(1, 72, 112)
    for block, axis in ((0, 0), (1, 1)):  # same tube, same place
        moved = x.clone()
        moved[0, 9 * 3 + 5] += 1  # tube 3, place 5
        change = (net.blocks[block].attn(moved) - net.blocks[block].attn(x))[0].abs().amax(1)
        reached = {divmod(i, 9) for i in change.nonzero()[:, 0].tolist()}
        assert reached == {divmod(i, 9) for i in range(72) if divmod(i, 9)[axis] == (3, 5)[axis]}


def test_the_memory_of_joint_attention_is_what_autograd_saves() -> None:
    setting, row = Setting((4, 4, 32, 32), 1000, 2), MODELS["video-DiT-S/2x4"]
    net = built("video-DiT-S/2x4", setting)
    saved, kept = saved_bytes(net, *inputs(setting, 1)), row.kept_bytes(setting, "fp32")
    assert kept and saved == pytest.approx(kept - loss_bytes(setting), rel=0.03)


@pytest.mark.parametrize(
    ("name", "setting", "reason"),
    [
        ("digit-DiT-S/2", CLIPS, "it takes images, these are clips"),
        ("digit-U-Net-S", CLIPS, "it takes images, these are clips"),
        ("digit-video-DiT-S/2x4", Setting((1, 8, 8), 10, 2), "it takes clips, these are images"),
        ("digit-video-DiT-S/4x4", Setting((1, 6, 12, 12), 10, 2), "tubes of 4 frames do not"),
        ("digit-video-DiT-S/1x4", FACTORISED, "factorised needs 2 blocks"),
    ],
)
def test_a_model_says_why_it_does_not_fit(name: str, setting: Setting, reason: str) -> None:
    assert reason in (MODELS[name].problem(setting) or "")


@pytest.mark.parametrize("name", ["digit-video-DiT-S/1x4", "digit-video-DiT-S/2x4"])
def test_what_comes_out_at_a_place_and_time_went_in_there(name: str) -> None:
    """New blocks are the identity: without attention a tube's output is of its own pixels."""
    net: Any = built(name, CLIPS)
    torch.nn.init.normal_(net.final_layer.linear.weight)
    x, t, y = inputs(CLIPS, 1)
    moved = x.clone()
    moved[0, 0, 5, 6, 9] += 1
    changed = (net(moved, t, y) - net(x, t, y)).detach()[0].abs().amax(0) > 1e-6
    frames = changed.any(2).any(1).nonzero()[:, 0].tolist()
    assert frames == ([5] if net.tube == 1 else [4, 5])
    assert changed[5].nonzero().tolist() == [[r, c] for r in range(4, 8) for c in range(8, 12)]
