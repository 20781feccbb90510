"""Strange lines in the ledger and headers of safetensors: read, or refused in one line."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

from fuzzing import SCALARS, VALUES, Draw, fuzzed, spoiled
from hypothesis import strategies as st
from trials import Result, verb

LINES = st.dictionaries(
    st.sampled_from(
        [
            "task",
            "job",
            "executor",
            "launch",
            "name",
            "retry",
            "log",
            "at",
            "cancelled",
            "user",
            "date",
            "x",
        ]
    ),
    SCALARS | VALUES,
    max_size=11,
)


def test_lines_of_the_ledger(readable: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(readable / "store" / "runs", store / "runs")
    whole = (readable / "store" / "jobs.jsonl").read_text().splitlines()

    @st.composite
    def lines(draw: Draw) -> bytes:
        line = json.loads(draw(st.sampled_from(whole))) if draw(st.booleans()) else {}
        strange = json.dumps(line | draw(LINES)).encode()
        return b"\n".join(
            [*(x.encode() for x in whole), strange, draw(st.sampled_from([b"", b"7", b'{"task"']))]
        )

    def read(value: bytes) -> Result:
        (store / "jobs.jsonl").write_bytes(value)
        return verb("status", readable / "tiny.py", "--store", store)

    fuzzed("ledger", 60, 1500, lines(), read)


def test_headers_of_safetensors(readable: Path, tmp_path: Path) -> None:
    shutil.copytree(readable / "store", tmp_path / "store")
    weights = sorted((tmp_path / "store").glob("runs/*/checkpoints/*/ema.safetensors"))[0]
    data = weights.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length])

    @st.composite
    def crafted(draw: Draw) -> bytes:
        name, table = draw(st.sampled_from(sorted(header))), json.loads(json.dumps(header))
        if draw(st.booleans()):
            table[name] = draw(VALUES)
        elif isinstance(table[name], dict):
            table[name][draw(st.sampled_from(["data_offsets", "dtype", "shape"]))] = draw(VALUES)
        text = json.dumps(
            draw(st.sampled_from([table, table, table, list(table), None, 7]))
        ).encode()
        size = draw(st.sampled_from([len(text)] * 4 + [0, 2**63, len(text) + 8]))
        return struct.pack("<Q", size) + text + data[8 + length :]

    deep = st.integers(1, 10**5).map(lambda n: struct.pack("<Q", 2 * n) + b"[" * n + b"]" * n)

    def read(value: bytes) -> Result:
        weights.write_bytes(value)
        return verb("plan", readable / "tiny.py", "--store", tmp_path / "store")

    fuzzed("safetensors", 60, 1500, crafted() | deep | spoiled(data), read)
