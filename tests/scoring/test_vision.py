"""DINOv2 and CLIP as extractors: the networks of the released code, fed as their metrics feed them.

What stands as numbers was computed by the code that is named beside it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.base import torchvision_ops  # noqa: F401
from harness.extractors import EXTRACTORS, clip, dinov2
from harness.extractors.resize import bicubic, normalized

# isort: split
from torchvision import transforms


def photographs(count: int, side: int = 40) -> Tensor:
    """uint8 [count, 3, side, side] with large and small structure."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=draw)
    smooth = nn.functional.interpolate(coarse, size=side, mode="bilinear")
    noise = torch.rand(count, 3, side, side, generator=draw)
    return (255 * (0.8 * smooth + 0.2 * noise)).to(torch.uint8)


Network = TypeVar("Network", bound=nn.Module)


def filled(network: Network) -> Network:
    """The network with weights by formula, which any implementation can be given."""
    with torch.no_grad():
        for index, name in enumerate(sorted(network.state_dict())):
            tensor = network.state_dict()[name]
            values = torch.arange(tensor.numel(), dtype=torch.float64) * (index + 1)
            tensor.copy_((0.2 * values.sin()).float().view_as(tensor))
    return network.eval()


def names_and_shapes(network: nn.Module) -> str:
    """A digest of what a file of weights must hold."""
    lines = sorted(f"{name} {tuple(x.shape)}" for name, x in network.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_pictures_are_resized_and_normalized_as_dgm_eval_does() -> None:
    """Its transform of Pillow's images, of torchvision; a picture of the right size stays."""
    reference = transforms.Compose(
        [
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(np.array(dinov2.MEAN), np.array(dinov2.DEVIATION)),
        ]
    )
    for side in (40, 224, 300):
        images = photographs(2, side)
        theirs = [reference(Image.fromarray(x.permute(1, 2, 0).numpy())) for x in images]
        ours = normalized(bicubic(images, 224), dinov2.MEAN, dinov2.DEVIATION)
        assert torch.equal(ours, torch.stack(theirs))


def test_dinov2_is_that_of_the_released_code() -> None:
    """facebookresearch/dinov2 at b8931f7: DinoVisionTransformer(518, 14, 3, 64, 2, 4)."""
    network = filled(dinov2.DINOv2(width=64, depth=2, heads=4))
    grid = torch.arange(3 * 224 * 224, dtype=torch.float64).view(1, 3, 224, 224)
    with torch.inference_mode():
        found = network.encode((grid / 1000).sin().float())
    expected = [-0.2411409616, 0.1967475563, -0.5486541986, -0.009650195, -0.199925065]
    # A resize of the position embeddings to the plain size moves these by up to 3e-5.
    assert found[0, 1:6].tolist() == pytest.approx(expected, abs=5e-6)


def test_dinov2_has_the_names_shapes_and_cost_of_the_released_weights() -> None:
    with torch.device("meta"):
        network, counter = dinov2.DINOv2(), FlopCounterMode(display=False)
        with counter:
            pool = network.encode(torch.zeros(1, 3, 224, 224))
    row = EXTRACTORS["dinov2-vitl14"]
    assert names_and_shapes(network) == "7dc53284017908ac"  # of vit_large of the released code
    assert counter.get_total_flops() / 2e9 == pytest.approx(row.gmacs, rel=1e-4)
    assert {"pool": pool.shape[1]} == row.layers


def test_clip_has_the_cost_and_the_width_of_its_row() -> None:
    with torch.device("meta"):
        network, counter = clip.CLIP().eval(), FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            pool = network.visual(torch.zeros(1, 3, 336, 336))
    row = EXTRACTORS["clip-vitl14-336"]
    assert sum(x.numel() for x in network.parameters()) == 304_293_888
    assert counter.get_total_flops() / 2e9 == pytest.approx(row.gmacs, rel=1e-4)
    assert {"pool": pool.shape[1]} == row.layers


class Whole(nn.Module):
    """CLIP's archive: the image encoder in fp16 beside the text's."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual, self.text_projection = visual.half(), nn.Parameter(torch.zeros(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_clip_reads_openais_archive_and_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = clip.CLIP(side=28, width=64, depth=1, outputs=8)
    pool = filled(small)(photographs(2))[0]

    class Small(clip.CLIP):
        def __init__(self) -> None:
            super().__init__(side=28, width=64, depth=1, outputs=8)

    monkeypatch.setattr(clip, "CLIP", Small)
    save_file(
        {name: x.half() for name, x in small.state_dict().items()}, tmp_path / "w.safetensors"
    )
    torch.jit.script(Whole(small.visual)).save(tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        read = clip.build(tmp_path / name).eval()
        assert all(x.dtype == torch.float32 for x in read.state_dict().values())
        torch.testing.assert_close(read(photographs(2))[0], pool, rtol=1e-2, atol=1e-3)
