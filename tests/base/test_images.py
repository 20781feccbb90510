"""The reader of image files: no format but the named ones, and no program started by any file."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from harness.base.images import FORMATS, open_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n%%EOF\n"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gs` on PATH that leaves a mark when it is started."""
    folder, mark = tmp_path / "bin", tmp_path / "started"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return mark


def test_a_file_of_postscript_starts_no_program(planted: Path) -> None:
    with pytest.raises(UnidentifiedImageError):
        open_image(io.BytesIO(EPS)).load()
    assert not planted.exists()
    with pytest.raises(subprocess.CalledProcessError):  # Pillow by itself
        Image.open(io.BytesIO(EPS)).load()
    assert planted.exists(), "the trap works"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_named_formats_are_read(kind: str) -> None:
    file, image = io.BytesIO(), Image.fromarray(np.full((16, 16, 3), 77, np.uint8))
    image.save(file, kind)
    file.seek(0)
    with open_image(file) as found:
        assert (found.format, found.size) == (kind, (16, 16))
        assert np.abs(np.asarray(found).astype(int) - 77).max() <= 2
