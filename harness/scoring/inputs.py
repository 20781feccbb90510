"""What an evaluation needs, loaded and checked before anything is sampled."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from harness.base.errors import UserError
from harness.data import DATASETS
from harness.data.index import read_index
from harness.models.autoencoder import (
    Decoder,
    decoder_digest,
    decoder_of,
    encoder_digest,
    identity,
    load_vae,
    to_uint8,
)
from harness.scoring import features, reference
from harness.scoring.features import Extractor
from harness.scoring.reference import Reference
from harness.scoring.sample import load_network
from harness.spec import Protocol, Run
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Evaluate

BATCH = 512  # images of the embedded digits in one forward of the extractor


@dataclass(frozen=True)
class Inputs:
    """What the score of a checkpoint is made from; the digests say which files these were."""

    net: nn.Module
    checkpoint: str  # SHA-256 of the file of weights
    decode: Decoder
    decoder_digest: str  # "" for the identity
    extractor: Extractor
    reference: Reference


def load_inputs(task: Evaluate, store: Store, cluster: Cluster, device: torch.device) -> Inputs:
    """Everything that scoring needs, before anything is sampled.

    Raises:
        UserError: reference, extractor, decoder or weights are absent or do not fit.
    """
    run, protocol = task.run, task.protocol
    extractor = load_extractor(protocol, cluster, device)
    pixels = DATASETS[run.data].pixels
    reference = load_reference(protocol, cluster, store, extractor, pixels)
    decode, decoder = load_decoder(run, protocol, cluster, device)
    net, checkpoint = load_network(store, run, task.step, protocol.weights, device, cluster.compile)
    return Inputs(net, checkpoint, decode, decoder, extractor, reference)


@functools.lru_cache(maxsize=2)
def cached_extractor(name: str, path: Path | None, device: str) -> Extractor:
    return features.load(name, path, device)


def load_extractor(protocol: Protocol, cluster: Cluster, device: torch.device) -> Extractor:
    return cached_extractor(protocol.features, cluster.path(protocol.features), str(device))


@functools.lru_cache(maxsize=2)
def cached_reference(name: str, path: Path | None, extractor: Extractor) -> Reference:
    if path is None:
        from harness.data.digits import load

        return reference.from_images(name, to_uint8(load()[0]).split(BATCH), extractor)
    return reference.read(path, extractor)


def load_reference(
    protocol: Protocol, cluster: Cluster, store: Store, extractor: Extractor, pixels: int
) -> Reference:
    """The reference by name: from the cluster's paths, the store, or the embedded digits.

    Raises:
        UserError: there is none, its images are not `pixels` wide, or it is not the one the
        protocol pins.
    """
    path = cluster.path(protocol.reference) or store.references() / f"{protocol.reference}.npz"
    embedded = protocol.reference == "digits" and not path.exists()
    if not embedded and not path.exists():
        raise UserError(
            f"reference {protocol.reference!r} is not at {path}: put ADM's npz there, set"
            f" paths.{protocol.reference} in the cluster file, or make one with harness reference"
        )
    side = pixels if embedded else reference.side(path)
    if side not in (0, pixels):
        raise UserError(
            f"reference {protocol.reference!r} has {side} pixels a side, the samples {pixels}:"
            " use one of that size"
        )
    found = cached_reference(protocol.reference, None if embedded else path, extractor)
    if protocol.reference_digest and not found.digest.startswith(protocol.reference_digest):
        raise UserError(
            f"reference {protocol.reference!r} has digest {found.digest[:12]}, the protocol wants"
            f" {protocol.reference_digest}: use that file, or another protocol"
        )
    return found


def load_decoder(
    run: Run, protocol: Protocol, cluster: Cluster, device: torch.device
) -> tuple[Decoder, str]:
    """The decoder that a protocol names, on `device`, and its digest; "" for the identity.

    Raises:
        UserError: no such weights, or the latents were made by another encoder than this decoder's.
    """
    name, latents = protocol.decoder, cluster.path(run.data)
    if name == "identity":
        return identity, ""
    vae = load_vae(name, cluster.path(name))
    if latents is not None:
        made, own = read_index(latents).vae, encoder_digest(vae)
        if made["digest"] != own:
            raise UserError(
                f"decoder {name!r} has encoder {own[:12]}, the latents in {latents} were made by"
                f" {made['digest'][:12]} ({made['name']}): set paths.{name} to its weights"
            )
    return decoder_of(vae, device), decoder_digest(vae)
