"""Counts of a row's network: in closed form, or measured once and kept in a cache. No torch."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import models
from harness.base.errors import UserError
from harness.base.files import read_json, write_json
from harness.models import MODELS, Counts, Setting


@dataclass(frozen=True)
class Measured:
    """What is kept of a network without closed forms."""

    macs: int
    parameters: int
    kept: int  # bytes an image keeps for its backward pass in fp32


@functools.cache
def counts(model: str, setting: Setting) -> Counts:
    """Multiply-adds of a forward pass of one image, and parameters."""
    if (known := MODELS[model].counts(setting)) is not None:
        return known
    found = measured(model, setting)
    return Counts(found.macs, found.parameters)


@functools.cache
def kept_bytes(model: str, setting: Setting, precision: str) -> int:
    """Bytes that a forward pass of an image keeps for its backward pass, at most.

    Where it is measured it is that of fp32.
    """
    known = MODELS[model].kept_bytes(setting, precision)
    return measured(model, setting).kept if known is None else known


@functools.cache
def live_bytes(model: str, setting: Setting, precision: str) -> int:
    """Peak bytes of a forward pass of an image without a backward pass, at most."""
    known = MODELS[model].live_bytes(setting, precision)
    return kept_bytes(model, setting, precision) if known is None else known


@functools.cache
def measured(model: str, setting: Setting) -> Measured:
    """Reads the counts from the cache, or builds the network once to have them.

    Raises:
        UserError: it is no network of this dataset and objective.
    """
    path = cache() / f"{key(model, setting)}.json"
    try:
        return Measured(**read_json(path))
    except (FileNotFoundError, UserError, TypeError):  # absent or damaged: measured again
        pass
    from harness.models.measure import measured as measure  # torch, which a plan does without

    found, kept = measure(model, MODELS[model], setting)
    result = Measured(found.macs, found.parameters, kept)
    write_json(path, asdict(result))
    return result


def cache() -> Path:
    """Where counts are kept, for all stores: they depend on code alone."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return home / "dit-scaling" / "counts"


def key(model: str, setting: Setting) -> str:
    """A digest of the row, of what it is built for, and of the code that builds it."""
    row = MODELS[model]
    text = json.dumps([model, repr(row), asdict(setting)])
    return hashlib.sha256(text.encode() + code_of(inspect.getfile(type(row)))).hexdigest()[:16]


@functools.cache
def code_of(file: str) -> bytes:
    """A digest of the file of a row and of all networks of the package."""
    paths = {Path(file), *Path(models.__file__).parent.glob("*.py")}
    return b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sorted(paths))
