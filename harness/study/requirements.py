"""What scoring will need, checked before training: reference, extractor, decoder. No torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from harness.base.errors import UserError
from harness.data import DATASETS, EMBEDDED
from harness.extractors import EXTRACTORS
from harness.models.decoders import PUBLISHED_DECODERS
from harness.spec import AnyProtocol, Protocol
from harness.study.cluster import Cluster
from harness.study.digests import remembered_sha256
from harness.study.store import Store


def scoring_problems(
    protocols: Iterable[AnyProtocol], cluster: Cluster, store: Store, pixels: Collection[int] = ()
) -> list[str]:
    """What keeps these protocols from scoring images `pixels` wide, each once and with a remedy."""
    found: dict[str, None] = {}
    for protocol in (p for p in protocols if isinstance(p, Protocol)):
        for problem in (
            decoder_problem(protocol.decoder, cluster),
            extractor_problem(protocol.features, cluster),
            reference_problem(protocol, cluster, store, pixels),
        ):
            found |= {problem: None} if problem else {}
    return list(found)


def reference_path(name: str, cluster: Cluster, store: Store) -> Path | None:
    """Where a reference lies: by the cluster's paths or in the store; None: it is embedded.

    A folder under the name of a dataset holds its latents: that reference is the store's.
    """
    path = cluster.path(name)
    if path is None or (name in DATASETS and not path.is_file()):
        path = store.references() / f"{name}.npz"
    return None if name in EMBEDDED and not path.exists() else path


def reference_problem(
    protocol: Protocol, cluster: Cluster, store: Store, pixels: Collection[int]
) -> str:
    name = protocol.reference
    if (path := reference_path(name, cluster, store)) is None:
        return ""
    if not path.exists():
        return absent_reference(name, path, protocol.features)
    from harness.base.npz import image_side  # numpy would double the time of a plan
    from harness.study.reference_file import read_statistics

    try:
        side = image_side(path)
        read_statistics(path, protocol.features)
    except UserError as error:
        return str(error)
    if not side:
        return (
            f"reference {name!r} at {path} holds no images, precision and recall need them:"
            " take a file with statistics and images"
        )
    return next((wrong_side(name, side, wanted) for wanted in pixels if side != wanted), "")


def absent_reference(name: str, path: Path, features: str) -> str:
    url = EXTRACTORS[features].references.get(name)
    published = f"put {url} there, or " if url else ""
    other = f"set paths.{name} in the cluster file, or " if name not in DATASETS else ""
    extractor = "" if url else f" --extractor {features}"
    return (
        f"reference {name!r} is not at {path}: {published}{other}make one with"
        f" harness reference{extractor}"
    )


def wrong_side(name: str, side: int, pixels: int) -> str:
    return (
        f"reference {name!r} has {side} pixels a side, the samples {pixels}: use one of that size"
    )


def extractor_problem(name: str, cluster: Cluster) -> str:
    return EXTRACTORS[name].problem(name, cluster.path(name), remembered_sha256)


def decoder_problem(name: str, cluster: Cluster) -> str:
    """A folder of the cluster's is looked into; without one, the hub's cache."""
    if name not in PUBLISHED_DECODERS:
        return ""
    published, path = PUBLISHED_DECODERS[name], cluster.path(name)
    folders = [path] if path else [folder / published.subfolder for folder in cached(name)]
    if any(is_vae(folder) for folder in folders):
        return ""
    only = f" --include '{published.subfolder}/*'" if published.subfolder else ""
    return (
        f"decoder {name!r} is not at {path or hub_cache()}: hf download {published.repo}{only}"
        f" fetches it; or set paths.{name} to a folder with config.json and *.safetensors"
    )


def is_vae(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    home = Path(os.environ.get("HF_HOME", home))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def cached(name: str) -> Iterator[Path]:
    """The versions of a VAE in the hub's cache."""
    repo = PUBLISHED_DECODERS[name].repo.replace("/", "--")
    return (hub_cache() / f"models--{repo}" / "snapshots").glob("*")
