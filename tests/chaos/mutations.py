"""Ways to damage a file, all seeded: cut, flipped, swapped, emptied, replaced by another."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

FOREIGN = (
    b'{"note": "hello"}\n',
    b"[]\n",
    b"null\n",
    b'{"schema": 99}\n',
    b"\x00" * 64,
    b"7\n",
    b"PK\x03\x04",
)
VALUES: tuple[object, ...] = (None, "x", -1, 0, 1e300, [], {}, True, "NaN", 10**40)


def damages(data: bytes, count: int, seed: object) -> Iterator[tuple[str, bytes]]:
    """`count` damaged versions, each with its name; a third are cut, of 300 at each 1 %."""
    cuts = min(100, count // 3)
    for i in range(cuts):
        share = i / cuts
        yield f"cut at {share:.0%}", data[: int(len(data) * share)]
    for i in range(count - cuts):
        chance = random.Random(f"{seed} {i}")
        name, change = WAYS[i % len(WAYS)]
        yield f"{name} {i}", change(data, chance)


def bit(data: bytes, chance: random.Random) -> bytes:
    return spliced(
        data, at := chance.randrange(len(data)), bytes([data[at] ^ 1 << chance.randrange(8)])
    )


def byte(data: bytes, chance: random.Random) -> bytes:
    return spliced(data, chance.randrange(len(data)), bytes([chance.randrange(256)]))


def digit(data: bytes, chance: random.Random) -> bytes:
    """Another digit in the place of one: the text stays as well formed as it was."""
    places = [i for i, c in enumerate(data) if 48 <= c < 58]
    return (
        spliced(data, chance.choice(places), b"%d" % chance.randrange(10))
        if places
        else byte(data, chance)
    )


def page(data: bytes, chance: random.Random) -> bytes:
    """Two pages change places."""
    size = max(1, min(4096, len(data) // 8))
    first, second = sorted(chance.sample(range(len(data) // size), 2))
    pages = [data[i : i + size] for i in range(0, len(data), size)]
    pages[first], pages[second] = pages[second], pages[first]
    return b"".join(pages)


def leaf(data: bytes, chance: random.Random) -> bytes:
    """Changes or removes a value of a JSON file or of one of its lines; other files lose a byte."""
    lines = data.splitlines(keepends=True)
    whole = not all(line.startswith(b"{") for line in lines)
    at = 0 if whole else chance.randrange(len(lines))
    try:
        value = json.loads(data if whole else lines[at])
    except ValueError:
        return data[: (at := chance.randrange(len(data)))] + data[at + 1 :]
    change(value, chance)
    text = json.dumps(value).encode() + b"\n"
    return text if whole else b"".join([*lines[:at], text, *lines[at + 1 :]])


def change(value: Any, chance: random.Random) -> None:
    """One entry of a tree of dicts and lists."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = chance.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and chance.random() < 0.7:
        change(value[key], chance)
    elif chance.random() < 0.3:
        del value[key]
    else:
        value[key] = chance.choice(VALUES)


def zeros(data: bytes, chance: random.Random) -> bytes:
    """A hole, as a file system leaves it that lost a block."""
    at = chance.randrange(len(data))
    return spliced(data, at, bytes(min(512, len(data) - at)))


def foreign(_: bytes, chance: random.Random) -> bytes:
    return chance.choice(FOREIGN)


def spliced(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


WAYS = (
    ("bit", bit),
    ("digit", digit),
    ("value", leaf),
    ("byte", byte),
    ("digit", digit),
    ("page", page),
    ("bit", bit),
    ("value", leaf),
    ("hole", zeros),
    ("foreign", foreign),
)
