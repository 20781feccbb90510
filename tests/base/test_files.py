"""Files: whole or not at all, one writer, and nothing torn or damaged is trusted."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, environment, tree
from safetensors.torch import save_file

from harness.base.errors import UserError, as_user_error
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
from harness.base.locks import claim, holder, is_at, is_claimed

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


def test_a_claim_is_one_process_and_ends_with_it(folder: Path) -> None:
    path = folder / "train.lock"
    assert not is_claimed(path)
    with claim(path) as mine:
        assert mine and is_claimed(path)
        with claim(path) as second, claim(path, wanted=False) as other_rank:
            assert not second and other_rank
    assert not is_claimed(path)
    code = (
        "import sys; from harness.base.files import *\n"
        "with claim(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), cwd=ROOT, stdin=pipe, stdout=pipe) as other:
        assert other.stdout and other.stdout.readline() == b"held\n" and is_claimed(path)
        assert holder(path) == f"{os.uname().nodename} {other.pid}"
        other.kill()
        other.wait()
        assert not is_claimed(path)


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


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "x.lock").symlink_to(tmp_path / "mine")

    def take() -> None:
        with claim(tmp_path / "x.lock"):
            pass

    for ask in (lambda: is_claimed(tmp_path / "x.lock"), take):
        with pytest.raises(OSError, match="symbolic links") as refused:
            ask()
        assert f"{tmp_path}/x.lock: " in str(as_user_error(refused.value))
    assert (tmp_path / "mine").read_text() == "precious" and holder(tmp_path / "x.lock") == ""


def test_asking_for_a_lock_only_reads(tmp_path: Path) -> None:
    """On a store of another user, or one that is mounted read-only."""
    path = tmp_path / "x.lock"
    assert not is_claimed(path) and tree(tmp_path) == set()
    path.write_text("host 7\n")
    path.chmod(0o444)
    before = path.stat().st_mtime_ns
    assert not is_claimed(path) and path.stat().st_mtime_ns == before
    assert path.read_text() == "host 7\n"


def test_a_lock_that_may_not_be_read_counts_as_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text("host 7\n")
    path.chmod(0)
    ask = (
        "import os, sys; from harness.base.files import Path, is_claimed, holder\n"
        "os.getuid() or os.setuid(65534); path = Path(sys.argv[1])\n"
        "print(is_claimed(path), holder(path))"
    )
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", ask, str(path)], env=environment(), cwd=ROOT, capture_output=True
    )
    assert done.stdout == b"False \n", done.stderr


def test_those_who_ask_keep_nobody_from_the_lock_and_mislead_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.touch()
    done, misled = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            if is_claimed(path):
                misled.append(path)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for thread in askers:
        thread.start()
    other = tmp_path / "y.lock"  # of which nobody asks: what the askers see of x is each other
    with claim(other) as mine:
        assert mine
    done.wait(0.2)
    assert not misled
    for _ in range(20):
        with claim(path, patience=0) as mine:
            assert mine
    done.set()
    for thread in askers:
        thread.join()


def test_a_lock_is_of_the_file_that_has_its_name(tmp_path: Path) -> None:
    """A scratch cleaner may remove it between open and lock."""
    path = tmp_path / "x.lock"
    path.touch()
    with path.open("rb") as file:
        assert is_at(file, path)
        path.unlink()
        assert not is_at(file, path)
        path.touch()
        assert not is_at(file, path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_a_remedy(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError) as refused, claim(tmp_path / "x.lock"):  # noqa: PT011
        pass
    line = str(as_user_error(refused.value))
    assert line.startswith(f"{tmp_path}/x.lock: ") and "(flock)" in line


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
    with pytest.raises(UserError, match="is damaged: its checksum is another"):
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
