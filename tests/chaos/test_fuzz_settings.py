"""Strange cluster files and sweeps: planned, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzzing import SCALARS, VALUES, Draw, fuzzed, spoiled
from hypothesis import strategies as st
from trials import Result, verb

FIELDS = """
executor store device workers threads checkpoint_minutes compile microbatch sampling_batch paths
gpu_memory_gb retries poll_seconds partition nodes gpus_per_node memory_gb hours setup environment
throttle models evaluate follower strange
""".split()


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return str(value) if value == value else "nan"
    return json.dumps(value) if value is not None else '"none"'


TABLES = st.dictionaries(
    st.sampled_from(FIELDS),
    SCALARS
    | VALUES
    | st.dictionaries(
        st.sampled_from(["DiT-XL/2", "mini-DiT-S/8", "digits", *FIELDS]), VALUES, max_size=3
    ),
    max_size=4,
)


def test_cluster_files(readable: Path, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"

    def read(value: dict[str, Any] | bytes) -> Result:
        text = (
            value
            if isinstance(value, bytes)
            else "".join(f"{k} = {toml(v)}\n" for k, v in value.items()).encode(errors="replace")
        )
        path.write_bytes(text)
        return verb("plan", readable / "tiny.py", "--cluster", path, "--store", readable / "store")

    fuzzed(
        "cluster",
        100,
        3000,
        TABLES | spoiled(b'store = "x"\nworkers = 2\n[models."DiT-XL/2"]\nhours = 3\n'),
        read,
    )


def test_sweep_files(readable: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.py"
    text = (readable / "tiny.py").read_text()
    numbers = st.sampled_from(
        [
            "0",
            "-1",
            "1e400",
            "None",
            "'x'",
            "()",
            "10**30",
            "float('nan')",
            "[1]",
            "1 if",
            "é",
            "\x00",
        ]
    )

    @st.composite
    def changed(draw: Draw) -> str:
        parts = text.split("=")
        at = draw(st.integers(2, len(parts) - 1))
        value, comma, rest = parts[at].partition(",")
        return "=".join(
            [*parts[:at], draw(numbers | st.just(value)) + comma + rest, *parts[at + 1 :]]
        )

    def read(value: str | bytes) -> Result:
        path.write_bytes(value if isinstance(value, bytes) else value.encode())
        return verb("plan", path, "--store", readable / "store")

    fuzzed("sweep", 100, 1000, changed() | spoiled(text.encode()), read)
