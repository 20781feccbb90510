"""The law of motion of the moving digits: constant speed, and reflection at walls. No torch."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")  # numbers: an int, or an array or tensor of them

FRAMES = 8
REACH = 4  # pixels between the walls that are free for the digit's box to move in
PERIOD = 2 * REACH  # pixels there and back
SPEEDS = (1, 2)  # pixels a frame along each axis


def place(start: T, speed: T, frame: T) -> T:
    """Where a point is at a frame, 0 … REACH, whose way unfolded at the walls is straight.

    start: where it begins on the way there and back, 0 … PERIOD - 1; the latter half is on the way
    back, so that a speed needs no sign.
    """
    return REACH - abs((start + speed * frame) % PERIOD - REACH)  # type: ignore[operator]
