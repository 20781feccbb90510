"""Files: whole or not at all, and nothing torn or damaged is trusted."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness.base.errors import UserError
from harness.base.files import (
    append_lines,
    atomic_write,
    is_intact,
    is_whole,
    read_json,
    read_lines,
    remove_leftovers,
    write_json,
)

HOSTILE = "a folder, with ' \" $HOME ünï and\ttab"


@pytest.fixture(params=["plain", HOSTILE])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / request.param
    path.mkdir()
    return path


def test_a_file_appears_whole_or_not_at_all(folder: Path) -> None:
    path = folder / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_write(path) as beside:
        print(beside.write_text("half") / 0)
    assert read_json(path) == {"a": 1} and os.listdir(folder) == ["value.json"]


def test_a_value_json_cannot_hold_leaves_the_old_file(folder: Path) -> None:
    write_json(folder / "value.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(folder / "value.json", {"a": float("nan")})
    assert read_json(folder / "value.json") == {"a": 1}


@pytest.mark.parametrize("text", ["", '{"a": ', "[1]", "\xff"])
def test_what_is_no_json_object_is_refused_by_name(folder: Path, text: str) -> None:
    (folder / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.json .*: move it away") as error:
        read_json(folder / "x.json")
    assert "\n" not in str(error.value)


def test_a_safetensors_file_is_whole_or_seen_to_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(10.0), "b": torch.ones(2, 3)}, path, {"step": "1"})
    data = path.read_bytes()
    assert is_whole(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert not is_whole(path), length
    path.write_bytes(data + b"x")
    assert not is_whole(path) and not is_whole(tmp_path / "absent")


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder, other = tmp_path / "0000010", tmp_path / "0000020"
    for path in (folder / "x.safetensors", folder / ".tmpa1B2c3", folder / ".x.safetensors.77"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    shutil.copytree(folder, other)
    remove_leftovers(folder)
    remove_leftovers(other, ".x.*")
    assert {*os.listdir(folder)} == {"x.safetensors"}
    assert {*os.listdir(other)} == {"x.safetensors", ".tmpa1B2c3"}
    (folder / "x.safetensors").rename(folder / ".tmpa1B2c3")
    remove_leftovers(folder)
    assert not folder.exists(), "an empty folder goes too"
    remove_leftovers(folder)


def test_a_temporary_file_follows_no_link_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Two hosts may have equal pids; others may write into a shared folder."""
    path = tmp_path / "x.json"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second and f".{os.getpid()}." in first.name
        assert all(
            name.startswith(f".x.json.{os.uname().nodename}.") for name in os.listdir(tmp_path)
        )
        first.write_text("1")
        second.write_text("2")
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append_lines(path, [{"task": 1}])
    with path.open("a") as file:
        file.write('{"task": 2, "jo')
    append_lines(path, [{"task": 3}, {"task": 4}])
    append_lines(path, [])
    lines, warnings = read_lines(path)
    assert [line["task"] for line in lines] == [1, 3, 4]
    assert warnings == [f"{path}:3: damaged line skipped"]


def test_lines_of_several_writers_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"

    def write(writer: int) -> None:
        for i in range(20):
            append_lines(path, [{"writer": writer, "i": i}, {"writer": writer, "i": -i}])

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    lines, warnings = read_lines(path)
    assert len(lines) == 160 and warnings == []


def flips(data: bytes) -> list[bytes]:
    """Every version of the data in which one bit of a byte is another, and every cut."""
    flipped = [data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :] for i in range(len(data))]
    return flipped + [data[:i] for i in range(len(data))]


def test_no_flipped_bit_of_a_line_becomes_another_number(tmp_path: Path) -> None:
    path, lines = tmp_path / "x.jsonl", [{"step": i, "loss": i / 7} for i in range(6)]
    append_lines(path, lines[:3])
    append_lines(path, lines[3:])
    data = path.read_bytes()
    for damaged in flips(data):
        path.write_bytes(damaged)
        left, warnings = read_lines(path)
        left = [line for line in left if "step" in line]  # the checksums may have another name
        assert [line for line in lines if line in left] == left
        assert len(left) == 6 or warnings or len(damaged) < len(data)


def test_no_flipped_bit_of_a_file_with_a_checksum_becomes_another_value(tmp_path: Path) -> None:
    path, value = tmp_path / "x.json", {"n": 64, "values": {"fid": 12.5}, "warnings": ["few"]}
    write_json(path, value, checksum=True)
    data = path.read_bytes()
    assert is_intact(path) and json.loads(data).items() >= value.items()  # as other readers see it
    for damaged in flips(data):
        path.write_bytes(damaged)
        try:
            found: dict[str, Any] = read_json(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert found.items() >= value.items()  # the checksum's own name is another


def test_a_file_that_another_program_wrote_again_is_refused(tmp_path: Path) -> None:
    """Its checksum is over a text that is no longer there."""
    path = tmp_path / "x.json"
    write_json(path, {"fid": 2.27}, checksum=True)
    again = json.loads(path.read_text()) | {"fid": 1.27}
    path.write_text(json.dumps(again))
    assert not is_intact(path)
    with pytest.raises(UserError, match="is damaged: its checksum differs"):
        read_json(path)


def test_what_was_written_without_checksums_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"step": 1}\n{"step": 2}\n7\n')
    append_lines(tmp_path / "x.jsonl", [{"step": 3}])
    lines, warnings = read_lines(tmp_path / "x.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3] and len(warnings) == 1
    write_json(tmp_path / "x.json", {"n": 64})
    assert read_json(tmp_path / "x.json") == {"n": 64} and is_intact(tmp_path / "x.json")
    assert not is_intact(tmp_path / "absent.json")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "9" * 5000, "[" * 100_000])
def test_json_that_holds_no_number_of_ours_is_refused_by_name(number: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(f'{{"n": {number}}}')
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.jsonl").write_text(f'{{"n": {number}}}\n')
    assert read_lines(tmp_path / "x.jsonl")[1]


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "7",
        '{"x": 7}',
        '{"x": {"data_offsets": []}}',
        '{"x": {"data_offsets": [0, "8"]}}',
        '{"x": {"data_offsets": {"1": 8}}}',
        '{"x": ' + "[" * 100_000,
    ],
)
def test_a_crafted_header_is_not_whole(header: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    assert not is_whole(path)


def test_an_emptied_file_of_lines_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.touch()
    assert read_lines(path) == ([], [f"{path} is empty: its lines are lost"])
