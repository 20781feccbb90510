"""Tensors in files: what is read is what was written, or the file is damaged by name."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harness.base.errors import UserError
from harness.base.tensors import load_tensors, read_metadata, save_tensors

TENSORS = {
    "net.a": torch.arange(24.0).reshape(4, 6),
    "net.b": torch.full((), 3.0),
    "ema.a": torch.arange(5, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "x.safetensors"
    save_tensors(found, TENSORS, {"checkpoint": "run@7", "more": "x"})
    return found


def test_tensors_and_metadata_come_back(path: Path) -> None:
    found = load_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(x, TENSORS[name]) for name, x in found.items())
    assert all(x.dtype == TENSORS[name].dtype for name, x in found.items())
    assert load_tensors(path, prefix="net.").keys() == {"net.a", "net.b"}
    assert read_metadata(path) == {"checkpoint": "run@7", "more": "x"}


def test_equal_tensors_are_equal_files(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "y.safetensors"
    given = dict(reversed(TENSORS.items()))
    save_tensors(other, given, {"more": "x", "checkpoint": "run@7"})
    assert other.read_bytes() == path.read_bytes()


def test_a_flipped_bit_anywhere_is_damage_or_harms_nothing(path: Path) -> None:
    whole = path.read_bytes()
    values = 8 * (len(whole) - sum(x.nbytes for x in TENSORS.values()))  # the bit they begin at
    moments = random.Random(0)
    header = moments.sample(range(values), 100)
    each = [at + moments.randrange(8) for at in range(values, 8 * len(whole), 8)]  # of every byte
    for bit in [*header, *each]:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            found = load_tensors(path)
        except UserError:
            continue
        assert bit < values and found.keys() == TENSORS.keys()
        assert all(torch.equal(x, TENSORS[name]) for name, x in found.items())
        assert all(x.dtype == TENSORS[name].dtype for name, x in found.items())


def test_a_tensor_taken_out_is_damage(path: Path, tmp_path: Path) -> None:
    with safe_open(path, "pt") as file:
        kept = {name: file.get_tensor(name) for name in TENSORS if name != "net.b"}
        save_file(kept, tmp_path / "y.safetensors", file.metadata())
    with pytest.raises(UserError, match=r"y\.safetensors is damaged \(it holds other .*move it"):
        load_tensors(tmp_path / "y.safetensors", prefix="ema.")


def test_a_file_from_before_there_were_digests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file(TENSORS, path, {"checkpoint": "run@7"})
    assert torch.equal(load_tensors(path)["net.a"], TENSORS["net.a"])
    assert read_metadata(path) == {"checkpoint": "run@7"}
    save_file(TENSORS, path)
    assert read_metadata(path) == {}
