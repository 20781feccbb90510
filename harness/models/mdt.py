"""MDT and MDTv2 (Gao et al. 2023): DiT that also learns from masked tokens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.base import rng
from harness.models import dit_rows
from harness.models.dit import Block, DiT
from harness.models.dit_rows import DiTModel
from harness.models.layers import sincos_2d, unpatchify
from harness.models.mdt_rows import HIDDEN, SPARE, MDTModel

if TYPE_CHECKING:
    from harness.models.rows import Setting


def visible(
    model: MDTModel, setting: Setting, low: int, high: int, device: torch.device, *key: object
) -> Tensor:
    """Draws the tokens [high - low, K] that the masked pass sees of the slots low … high.

    K is the same for a whole step: in the released MDTv2 it is drawn by each process, here by the
    step, so that it does not depend on how many there are.
    """
    least, most = HIDDEN[model.version]
    share = float(rng.uniform(0, 1, "cpu", "hidden", *key))
    seen = model.seen(setting, least + (most - least) * share)
    tokens = dit_rows.tokens(model, setting)
    order = rng.normal(low, high, (tokens,), device, "mask", *key).argsort(dim=1)
    return order[:, :seen]


class MDT(DiT):
    """(x [N, C, H, W], t [N], y [N]) → [N, outputs · C, H, W]; weights are named as released."""

    def add_blocks(self, model: DiTModel, parts: frozenset[str]) -> None:
        assert isinstance(model, MDTModel)
        block = partial(
            Block, model.width, model.heads, self.conditioning, parts, self.side, spare=SPARE
        )
        self.encoding = model.depth - model.decode
        self.version = model.version
        if model.version == 1:
            self.blocks = nn.ModuleList(block() for _ in range(model.depth))
        else:
            half = self.encoding // 2
            self.en_inblocks = nn.ModuleList(block() for _ in range(half))
            self.en_outblocks = nn.ModuleList(block(skip=True) for _ in range(half))
            self.de_blocks = nn.ModuleList(block(skip=True) for _ in range(model.decode))
        self.sideblocks = nn.ModuleList([block()])
        self.decoder_pos_embed = nn.Parameter(sincos_2d(model.width, self.side))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, model.width))

    def forward(self, x: Tensor, t: Tensor, y: Tensor, kept: Tensor | None = None) -> Tensor:
        """x [N, C, H, W], t [N], y [N] → [N, outputs · C, H, W].

        kept: of the last samples the tokens [n, K] that the encoder sees; of the others all.
        """
        source, c = self.x_embedder(x) + self.pos_embed, self.condition(t, y)
        whole = len(x) - (0 if kept is None else len(kept))
        tokens = self.encode(source[:whole], c[:whole]) + self.decoder_pos_embed
        if kept is not None:
            places = kept[..., None].expand(-1, -1, source.shape[-1])
            seen = self.encode(source[whole:].gather(1, places), c[whole:], kept)
            tokens = torch.cat([tokens, self.fill(seen, c[whole:], kept)])
        tokens = self.decode(tokens, c, source)
        return unpatchify(self.final_layer(tokens, c), self.patch, self.side)

    def encode(self, x: Tensor, c: Tensor, kept: Tensor | None = None) -> Tensor:
        """Runs the blocks before masked tokens are filled in; in version 2 with long skips."""
        if self.version == 1:
            for block in self.blocks[: self.encoding]:
                x = block(x, c, kept=kept)
            return x
        skips: list[Tensor] = []
        for block in self.en_inblocks:
            x = block(x, c, kept=kept)
            skips.append(x)
        for block in self.en_outblocks:
            x = block(x, c, skips.pop(), kept)
        return x

    def fill(self, seen: Tensor, c: Tensor, kept: Tensor) -> Tensor:
        """The side-interpolater: guesses the hidden tokens from those seen [N, K, width]."""
        places = kept[..., None].expand_as(seen)
        blank = self.mask_token.to(seen.dtype).expand(len(seen), self.side**2, -1)
        filled = blank.scatter(1, places, seen) + self.decoder_pos_embed
        hidden = torch.ones_like(filled[..., 0], dtype=torch.bool).scatter(1, kept, False)
        guess = filled
        for block in self.sideblocks:
            guess = block(guess, c)
        return torch.where(hidden[..., None], guess, filled)

    def decode(self, x: Tensor, c: Tensor, source: Tensor) -> Tensor:
        """Runs the last blocks; in version 2 each takes in the patches of the noisy input."""
        for block in self.blocks[self.encoding :] if self.version == 1 else self.de_blocks:
            x = block(x, c, source)
        return x
