"""Decoders: recorded by digest, and one name is one decoder within a store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from drawings import autoencoder
from safetensors.torch import load_file, save_file

from harness.base.errors import UserError
from harness.base.files import write_json
from harness.models.autoencoder import decoder_digest, encoder_digest, load_vae
from harness.models.decoders import PUBLISHED_DECODERS, Published
from harness.scoring.inputs import decoder_warnings, refuse_mixed_decoders
from harness.spec import ENCODERS, Protocol, Run
from harness.study.store import Store

RUN = Run(model="mini-DiT-S/8")


def other_decoder(vae: Path, folder: Path) -> Path:
    """The same encoder, and a decoder with one number changed: as ft-ema is to ft-mse."""
    autoencoder(folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.conv_out.bias"] += 0.1
    save_file(tensors, weights, {"format": "pt"})
    return folder


def scored(store: Store, decoder: str, step: int, **fields: object) -> None:
    """A record as far as its decoder goes."""
    protocol = Protocol(name="p", decoder=decoder)
    record = {"protocol_fields": protocol.canonical(), **fields}
    write_json(store.record(RUN, step, protocol), record)


def test_the_digest_tells_decoders_apart_that_share_an_encoder(vae: Path, tmp_path: Path) -> None:
    one, two = (load_vae("ft-mse", path) for path in (vae, other_decoder(vae, tmp_path)))
    assert encoder_digest(one) == encoder_digest(two)
    assert decoder_digest(one) != decoder_digest(two)
    names = {n for n in one.state_dict() if n.startswith(("decoder.", "post_quant_conv."))}
    with torch.no_grad():
        for name in names:
            one.state_dict()[name].copy_(two.state_dict()[name])
    assert decoder_digest(one) == decoder_digest(two)


def test_one_name_is_one_decoder_within_a_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    refuse_mixed_decoders("ft-mse", "a" * 64, store)
    scored(store, "ft-mse", 10)  # of a version that recorded no digest
    scored(store, "ft-mse", 20, decoder_digest="a" * 64)
    (store.record(RUN, 30, Protocol(name="p"))).write_text("{")
    for name in ("ft-mse", "ft-ema"):
        refuse_mixed_decoders(name, {"ft-mse": "a", "ft-ema": "b"}[name] * 64, store)
    with pytest.raises(
        UserError, match=r"'ft-mse' has digest b{12}, .* by a{12}: set paths.ft-mse"
    ):
        refuse_mixed_decoders("ft-mse", "b" * 64, store)
    with pytest.raises(UserError, match=r"'ft-ema' has digest a{12}, which is 'ft-mse' in"):
        refuse_mixed_decoders("ft-ema", "a" * 64, store)
    refuse_mixed_decoders("identity", "", store)


def test_a_decoder_that_is_not_the_published_one_is_warned_of() -> None:
    assert PUBLISHED_DECODERS.keys() == ENCODERS.keys()
    known = {"ft-mse": Published("somebody/vae", digest="a" * 64)}
    assert decoder_warnings("ft-mse", "a" * 64, known) == []
    assert decoder_warnings("identity", "", known) == []
    (line,) = decoder_warnings("ft-mse", "b" * 64, known)
    assert line == "decoder 'ft-mse' has digest bbbbbbbbbbbb, the published one aaaaaaaaaaaa"
