"""The one reader of image files: what encoding and scoring take from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import Image

# Named, since Pillow guesses by content and hands some formats to programs: EPS to Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
JPEG = (".jpg", ".jpeg")
SUFFIXES = (*JPEG, ".png", ".webp", ".bmp", ".tif", ".tiff")


def open_image(file: Path | IO[bytes]) -> Image.Image:
    """Reads the header; the pixels follow when they are needed."""
    return Image.open(file, formats=FORMATS)
