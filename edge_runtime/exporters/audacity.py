"""Audacity's label track (File, Import, Labels): start, end and label, separated by tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Recording

SUFFIX = ".txt"


def render(recording: Recording) -> str:
    """Return the track."""
    return "".join(f"{s.start_s:.6f}\t{s.end_s:.6f}\t{s.label}\n" for s in recording.segments)
