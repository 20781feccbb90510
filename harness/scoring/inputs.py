"""What an evaluation needs, loaded and checked before anything is sampled."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from harness.base.errors import UserError
from harness.base.files import is_intact, read_json, sha256
from harness.base.npz import image_side
from harness.data import DATASETS, EMBEDDED
from harness.data.index import read_index
from harness.metrics.neighbours import NEIGHBOURS
from harness.metrics.reference import Reference
from harness.models.autoencoder import (
    Decoder,
    decoder_digest,
    decoder_of,
    encoder_digest,
    identity,
    load_vae,
    to_uint8,
)
from harness.models.decoders import PUBLISHED_DECODERS, Published
from harness.scoring import features, reference
from harness.scoring.features import Loaded
from harness.scoring.sample import load_network
from harness.scoring.shards import kept_checkpoint
from harness.spec import Protocol, Run
from harness.study.cluster import Cluster
from harness.study.requirements import absent_reference, reference_path, wrong_side
from harness.study.store import Store
from harness.study.tasks import Evaluate

BATCH = 512  # embedded images in one forward of the extractor


@dataclass(frozen=True)
class Inputs:
    """What the score of a checkpoint is made from; the digests say which files these were.

    Without a `net`, what was kept may be enough.
    """

    net: nn.Module | None
    checkpoint: str  # SHA-256 of the file of weights
    decode: Decoder
    decoder_digest: str  # "" for the identity
    extractor: Loaded
    reference: Reference


def load_inputs(task: Evaluate, store: Store, cluster: Cluster, device: torch.device) -> Inputs:
    """Everything that scoring needs, before anything is sampled.

    The network only where nothing of this checkpoint's images is kept.

    Raises:
        UserError: reference, extractor, decoder or weights are absent or do not fit.
    """
    run, protocol = task.run, task.sampling
    extractor = load_extractor(protocol, cluster, device)
    pixels = DATASETS[run.data].pixels
    reference = load_reference(protocol, cluster, store, extractor, pixels)
    decode, decoder = load_decoder(run, protocol, cluster, device)
    refuse_mixed_decoders(protocol.decoder, decoder, store)
    given = Inputs(None, known_checkpoint(task, store), decode, decoder, extractor, reference)
    return given if given.checkpoint else with_network(given, task, store, cluster, device)


def known_checkpoint(task: Evaluate, store: Store) -> str:
    """The digest of the weights whose images are kept, "" where none are.

    A record that gains values says which these must be, and so does the file that is there now.
    """
    cell = (task.run, task.step, task.sampling)
    kept = kept_checkpoint([store.shards(*cell), store.latents(*cell)])
    record, weights = store.record(*cell), store.weights(*cell[:2], task.sampling.weights)
    if not kept:
        return ""
    if is_intact(record):
        return str(read_json(record).get("checkpoint"))
    return sha256(weights) if weights.exists() else kept


def with_network(
    inputs: Inputs, task: Evaluate, store: Store, cluster: Cluster, device: torch.device
) -> Inputs:
    """The inputs with the network of the checkpoint, loaded on `device`.

    Raises:
        UserError: no such weights, or others than what was kept or recorded is of.
    """
    kind, record = task.sampling.weights, store.record(task.run, task.step, task.sampling)
    net, digest = load_network(store, task.run, task.step, kind, device, cluster.compile)
    if is_intact(record) and digest != (of := read_json(record).get("checkpoint")):
        raise UserError(
            f"{record} is of weights {str(of)[:12]}, {digest[:12]} are there now: move it away, and"
            " harness run scores these"
        )
    return replace(inputs, net=net, checkpoint=digest)


@functools.lru_cache(maxsize=2)
def cached_extractor(name: str, path: Path | None, device: str) -> Loaded:
    return features.load(name, path, device)


def load_extractor(protocol: Protocol, cluster: Cluster, device: torch.device) -> Loaded:
    return cached_extractor(protocol.features, cluster.path(protocol.features), str(device))


@functools.lru_cache(maxsize=2)
def cached_reference(name: str, path: Path | None, extractor: Loaded) -> Reference:
    if path is None:
        images, _ = EMBEDDED[name]()
        return reference.from_images(name, to_uint8(images).split(BATCH), extractor)
    return reference.read(path, extractor)


def load_reference(
    protocol: Protocol, cluster: Cluster, store: Store, extractor: Loaded, pixels: int
) -> Reference:
    """The reference by name: from the cluster's paths, the store, or embedded.

    Raises:
        UserError: there is none, its images are not `pixels` wide, or it is not the one the
        protocol pins.
    """
    name, path = protocol.reference, reference_path(protocol.reference, cluster, store)
    if path is not None and not path.exists():
        raise UserError(absent_reference(name, path, protocol.features))
    if path is not None and (side := image_side(path)) not in (0, pixels):
        raise UserError(wrong_side(name, side, pixels))
    target = cached_reference(name, path, extractor)
    if target.kept <= NEIGHBOURS:
        raise UserError(
            f"reference {name!r} holds {target.kept} images, precision and recall"
            f" need {NEIGHBOURS + 1}: take a file with statistics and images"
        )
    if protocol.reference_digest and not target.digest.startswith(protocol.reference_digest):
        raise UserError(
            f"reference {name!r} has digest {target.digest[:12]}, the protocol wants"
            f" {protocol.reference_digest}: use that file, or another protocol"
        )
    return target


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


def refuse_mixed_decoders(name: str, digest: str, store: Store) -> None:
    """Refuses a decoder that the scores of this store contradict; `digest` is "" for the identity.

    Decoders share an encoder: latents do not show a path that leads to another one.

    Raises:
        UserError: they were decoded by other weights of this name, or by these under another name.
    """
    for other, seen in recorded_decoders(store).items() if digest else ():
        if other == name and seen != digest:
            raise UserError(
                f"decoder {name!r} has digest {digest[:12]}, scores in {store.root} were decoded by"
                f" {seen[:12]}: set paths.{name} to those weights, or score in another store"
            )
        if other != name and seen == digest:
            raise UserError(
                f"decoder {name!r} has digest {digest[:12]}, which is {other!r} in {store.root}:"
                f" set paths.{name} to its own weights"
            )


def recorded_decoders(store: Store) -> dict[str, str]:
    """Digests of decoders by name, from one record of each protocol: all were compared before."""
    found: dict[str, str] = {}
    protocols: set[str] = set()
    for path in sorted(store.records()):
        if path.parent.name in protocols:
            continue
        with contextlib.suppress(UserError):  # a damaged record is collect's to report
            record = read_json(path)
            if isinstance(digest := record.get("decoder_digest"), str):
                protocols.add(path.parent.name)
                found.setdefault(str(record.get("protocol_fields", {}).get("decoder")), digest)
    return found


def decoder_warnings(
    name: str, digest: str, published: Mapping[str, Published] = PUBLISHED_DECODERS
) -> list[str]:
    """A warning for a decoder that is not the published one, as far as that is known."""
    known = published[name].digest if name in published else None
    if known in (None, digest):
        return []
    return [f"decoder {name!r} has digest {digest[:12]}, the published one {str(known)[:12]}"]
