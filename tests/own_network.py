"""A network of a user's own, as docs/own_network.md has it: convolutions, in a file of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models import MODELS, Model, Setting

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ConvNet(Model):
    """Two convolutions, shifted by timestep and label."""

    width: int = 16

    def build(self, setting: Setting) -> nn.Module:
        import torch
        from torch import Tensor, nn

        class Net(nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.embed = nn.Embedding(setting.classes + 1, width)
                self.time = nn.Linear(1, width)
                self.enter = nn.Conv2d(setting.channels, width, 3, padding=1)
                self.leave = nn.Conv2d(width, setting.outputs * setting.channels, 3, padding=1)

            def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
                shift = self.embed(y) + self.time(t[:, None].float() / 1000)
                return self.leave(torch.nn.functional.silu(self.enter(x) + shift[:, :, None, None]))

        return Net(self.width)


MODELS["ConvNet-S"] = ConvNet("ConvNet", "S", width=8)
MODELS["ConvNet-B"] = ConvNet("ConvNet", "B", width=16)
