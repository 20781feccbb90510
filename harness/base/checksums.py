"""JSON text with checksums: a CRC-32 in an object, and one for each appended line."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

KEY = "crc32"  # the last entry of an object, the only one of a line
MARK = b',\n "crc32": '

Object = dict[str, Any]


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


DECODER = json.JSONDecoder(parse_constant=refuse)  # once: building it takes longer than a line


def encode_object(value: Mapping[str, Any], checksum: bool) -> bytes:
    """The text of a JSON file; its checksum is over all lines before it.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, indent=1, allow_nan=False)
    if checksum:
        text = json.dumps({**value, KEY: zlib.crc32(text.encode())}, indent=1)
    return text.encode() + b"\n"


def decode_object(data: bytes) -> Object:
    """The object of a JSON file, without its checksum.

    Raises:
        ValueError: it is damaged, in words.
    """
    try:
        value = parse(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("holds no JSON object")
    if not is_whole_text(data):
        raise ValueError("is damaged: its checksum differs")
    return {key: entry for key, entry in value.items() if key != KEY}


def is_whole_text(data: bytes) -> bool:
    """Whether the text of a JSON file is as it was written, as far as that shows unparsed."""
    head, mark, tail = data.rpartition(MARK)
    if mark:
        return tail == b"%d\n}\n" % zlib.crc32(head + b"\n}")
    # Without one, as files were at first; one elsewhere was moved there by another program.
    return data.rstrip().endswith(b"}") and f'"{KEY}"'.encode() not in data


def encode_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines, with a line of their checksums ahead; nothing where there are no lines."""
    texts = [json.dumps(line).encode() for line in lines]
    head = json.dumps({KEY: [zlib.crc32(text) for text in texts]}).encode()
    return b"\n".join([head, *texts, b""]) if texts else b""


def decode_lines(data: bytes) -> tuple[list[Object], list[str]]:
    """The whole lines, and the numbers of damaged ones as spans: 7, 9–12.

    A line counts where one of the text's checksums is its own. What comes before the first of these
    was written when there were none, and counts where it can be parsed.
    """
    texts = data.split(b"\n")
    parsed = [parse_line(text) for text in texts]
    sums: set[int] = set()
    heads: set[int] = set()
    for i, line in enumerate(parsed):
        if line and isinstance(line.get(KEY), list):
            heads.add(i)
            sums.update(crc for crc in line[KEY] if isinstance(crc, int))
    first = min(heads, default=len(texts))
    lines, damaged = [], []
    for i, (text, line) in enumerate(zip(texts, parsed, strict=True)):
        if not text or i in heads:
            continue
        if line is not None and (i < first or zlib.crc32(text) in sums):
            lines.append(line)
        else:
            damaged.append(i + 1)
    return lines, spans(damaged)


def parse_line(text: bytes) -> Object | None:
    """A line that is an object; the end of a torn one may be a number."""
    try:
        value = parse(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def parse(data: bytes) -> Any:
    """What json.loads gives, which takes NaN and Infinity too.

    Raises:
        ValueError: it is no JSON.
    """
    return DECODER.decode(data.decode())


def spans(numbers: Iterable[int]) -> list[str]:
    """1, 2, 3, 7 → 1–3, 7."""
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    members = [[number for _, number in run] for _, run in runs]
    return [f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in members]
