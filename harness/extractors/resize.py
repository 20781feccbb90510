"""Images resized by Pillow, as the reference implementations of FD-DINOv2 and CMMD do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def bicubic(images: Tensor, side: int) -> Tensor:
    """uint8 [N, 3, H, W] → uint8 [N, 3, side, side], antialiased and rounded by Pillow.

    On the CPU, an image at a time: torch's bicubic has other weights and does not round to uint8,
    which changes a Fréchet distance.
    """
    resized = [
        np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        for image in images.permute(0, 2, 3, 1).cpu().numpy()
    ]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).to(images.device)


def normalized(images: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """uint8 [N, 3, H, W] → fp32, in [0, 1] and then with a mean and a deviation a channel."""
    centre, scale = (
        torch.tensor(x, device=images.device).view(-1, 1, 1) for x in (mean, deviation)
    )
    return (images.float() / 255 - centre) / scale
