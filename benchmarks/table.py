"""A plain text table and how figures are written in it."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns: the first to the left, the others to the right.

    Examples
    --------
    >>> print(table(["clip", "us"], [["2 s", "310"], ["0.5 s", "90"]]))
    clip    us
    2 s    310
    0.5 s   90
    """
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(padded).rstrip()

    return "\n".join(line(cells) for cells in (header, *rows))


def size(count: float | None) -> str:
    """Return bytes for people: ``37.9 KB``, ``41.2 MB``; ``-`` when unknown."""
    if count is None:
        return "-"
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} KB" if count >= 1000 else f"{count:.0f} B"


def micro(value: float) -> str:
    """Return microseconds for people, three digits: ``9.85 us``, ``310 us``, ``1.24 ms``."""
    if value >= 1000:
        return f"{value / 1000:.3g} ms"
    return f"{value:.3g} us"
