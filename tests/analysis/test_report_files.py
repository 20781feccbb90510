"""How a report's files come onto a disk: all of them or none."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis import style
from analysis.files import figure_files, publish

OLD = {"index.html": b"old", "figure_02.pdf": b"old", "figure_07.pdf": b"old"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_report_replaces_an_earlier_one_and_leaves_other_files(tmp_path: Path) -> None:
    publish(OLD | {"notes.txt": b"mine"}, tmp_path, OLD)
    new = {"index.html": b"new", "figure_02.pdf": b"new"}
    assert publish(new, tmp_path, OLD) == tmp_path / "index.html"
    assert contents(tmp_path) == new | {"notes.txt": b"mine"}


@pytest.mark.parametrize("free", [0, 4, 40, 90], ids=lambda free: f"{free} KB free")
def test_a_full_disk_leaves_the_earlier_report_and_names_the_file(
    free: int, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=1m")
    out = disk / "report"
    publish(OLD, out, OLD)
    new = {"figure_02.pdf": b"x" * 50_000, "index.html": b"x" * 50_000}
    (disk / "filler").write_bytes(b"x" * (1024 - 12 - free) * 1024)
    with pytest.raises(OSError, match=str(out)) as caught:
        publish(new, out, OLD)
    assert caught.value.errno == errno.ENOSPC
    assert contents(out) == OLD


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(FileExistsError, match="out"):
        publish(OLD, tmp_path / "out", OLD)


def test_a_figure_is_the_same_bytes_twice() -> None:
    fig = Figure()
    fig.add_subplot().plot([1, 2], [3, 4])
    with style.theme():
        files = figure_files("figure_08", fig)
        again = figure_files("figure_08", fig)
    assert {*files} == {f"figure_08.{kind}" for kind in ("pdf", "png", "svg", "csv")}
    assert files == again
