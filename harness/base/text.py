"""Numbers, times and tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]

    def text(line: Sequence[str]) -> str:
        cells = (
            c.rjust(w) if c[:1].isdigit() else c.ljust(w) for c, w in zip(line, widths, strict=True)
        )
        return "  ".join(cells).rstrip()

    return "\n".join(map(text, [head, *lines]))


def in_units(count: float, units: str = " KMGTP") -> str:
    """675129632 → 675.1M."""
    for unit in units[:-1]:
        if count < 1000:
            return f"{count:.0f}" if unit == " " else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.1f}{units[-1]}"


def duration(hours: float) -> str:
    """0.5 → 30 min."""
    for size, unit in ((1.0, "h"), (60.0, "min")):
        if hours * size >= 1:
            return (
                f"{hours * size:,.0f} {unit}"
                if hours * size >= 10
                else f"{hours * size:.1f} {unit}"
            )
    return f"{hours * 3600:.2g} s"


def pace(speed: float) -> str:
    """64163.2 → 64,163; 0.83127 → 0.831."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"
