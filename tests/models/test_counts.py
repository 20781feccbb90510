"""Published parameters and Gflops of every network, as counted of its authors' code.

Counted by fvcore with a handler of attention, in the harness's convention; DiffiT's by the paper's
description. DiT's own are in tests/study/test_cost.py, clips' in test_video.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from networks import PIXELS

from harness.models import MODELS, Setting

LATENT, NOISE = Setting((4, 32, 32), 1000, 2), Setting((4, 32, 32), 1000, 1)
WIDE = replace(NOISE, shape=(4, 64, 64))  # of 512 px


EXACT = [
    ("DiT-XL/2", LATENT, 675_129_632, 118.689),
    ("DiT-XL/2", NOISE, 675_111_184, 118.684),  # SiT without the variance
    ("U-ViT-S/2", NOISE, 44_772_516, 12.271),
    ("U-ViT-S-deep/2", NOISE, 58_425_508, 16.066),
    ("U-ViT-M/2", NOISE, 130_891_940, 35.258),
    ("U-ViT-L/2", NOISE, 286_763_172, 76.513),
    ("U-ViT-H/2", NOISE, 500_832_016, 133.284),
    ("U-ViT-L/4", WIDE, 286_861_524, 76.539),
    ("U-ViT-H/4", WIDE, 500_942_656, 133.313),
    ("DiffiT-XL/2", LATENT, 561_330_144, 118.575),
    ("MDTv1-S/2", LATENT, 35_797_208, 6.066),
    ("MDTv1-B/2", LATENT, 141_488_528, 23.025),
    ("MDTv1-L/2", LATENT, 477_641_312, 80.749),
    ("MDTv1-XL/2", LATENT, 699_778_144, 118.689),
    ("MDTv2-S/2", LATENT, 38_454_872, 6.745),
    ("MDTv2-B/2", LATENT, 152_112_272, 25.743),
    ("MDTv2-L/2", LATENT, 507_015_776, 88.265),
    ("MDTv2-XL/2", LATENT, 742_263_904, 129.560),
    *((name, *of) for name, of in PIXELS.items()),
    # Without the 512 numbers of each class, which lie outside the U-Net.
    ("LDM-4", Setting((3, 64, 64), 1000, 1), 400_920_579, 104.39),
    ("LDM-8", NOISE, 394_984_196, 57.12),
]
# Those whose parameters are known to 10,000.
ROUNDED = [
    ("U-ViT-S/4", NOISE, 44.72, 2.974),
    ("U-ViT-S-deep/4", NOISE, 58.38, 3.892),
    ("U-ViT-M/4", NOISE, 130.82, 8.693),
    ("U-ViT-L/4", NOISE, 286.66, 19.035),
    ("U-ViT-H/4", NOISE, 500.72, 33.256),
    ("DiffiT-S/2", LATENT, 27.41, 6.060),
    ("DiffiT-B/2", LATENT, 108.21, 23.002),
    ("DiffiT-L/2", LATENT, 380.80, 80.671),
]


@pytest.mark.parametrize(("name", "setting", "parameters", "gflops"), EXACT)
def test_every_network_has_the_published_counts(
    name: str, setting: Setting, parameters: int, gflops: float
) -> None:
    row = MODELS[name]
    found = row.counts(setting)
    with torch.device("meta"):
        net = row.build(setting)
    outside = 512 * 1001 if name.startswith("LDM") else 0
    held = sum(p.numel() for p in net.parameters())
    assert found and found.parameters == held == parameters + outside
    assert found.macs / 1e9 == pytest.approx(gflops, rel=1e-4)


@pytest.mark.parametrize(("name", "setting", "millions", "gflops"), ROUNDED)
def test_the_others_have_them_to_the_digits_known(
    name: str, setting: Setting, millions: float, gflops: float
) -> None:
    found = MODELS[name].counts(setting)
    assert found and found.parameters / 1e6 == pytest.approx(millions, abs=0.00501)
    assert found.macs / 1e9 == pytest.approx(gflops, abs=6e-4)
